// The sampling fields that completions and chat completions share, as troupe.h takes them.
#pragma once

#include <string>
#include <vector>

#include "capi/troupe.h"
#include "openai/fields.hpp"

namespace troupe::openai {

// A troupe_sampling with the storage that its pointers need.
struct Sampling {
  troupe_sampling raw;
  std::vector<std::string> stop, bad_words;
  std::vector<int32_t> stop_tokens, bias_tokens;
  std::vector<float> bias_values;

  Sampling() { troupe_sampling_init(&raw, sizeof raw); }
  // Gives the request its sampling; copies nothing that the ABI does not copy itself.
  [[nodiscard]] troupe_error* apply(troupe_request* request) const;
};

// OpenAI's fields and the ones that vLLM's users know: top_k, min_p, repetition_penalty, min_tokens,
// ignore_eos, stop_token_ids, bad_words, skip_special_tokens, include_stop_str_in_output.
void read_sampling(Fields& fields, Sampling& out);

}  // namespace troupe::openai
