// One API call: the body of /v1/completions or /v1/chat/completions, understood and checked, and the
// troupe requests that it becomes.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "capi/troupe.h"
#include "openai/error.hpp"
#include "openai/sampling.hpp"

namespace troupe::openai {

enum class Endpoint : uint8_t { completions, chat };

// A prompt of /v1/completions: text, or token ids.
struct Prompt {
  std::string text;
  std::vector<int32_t> tokens;
  bool is_tokens = false;
};

struct Call {
  Endpoint endpoint = Endpoint::completions;
  std::string model;
  Sampling sampling;
  std::vector<Prompt> prompts;  // completions; chat has exactly one request
  std::string messages, tools, documents, template_kwargs;  // chat: JSON
  std::vector<std::vector<unsigned char>> images;           // of the messages, in order
  bool echo = false;
  bool stream = false;
  bool stream_usage = false;
  bool add_special_tokens = true;
  bool add_generation_prompt = true;
  bool return_token_ids = false;
  bool tokens_as_ids = false;  // "token_id:17" in the place of a token's text
  int32_t logprobs = -1;       // alternatives asked for; -1: no logprobs
  int32_t prompt_logprobs = -1;  // likewise, of the prompt's tokens

  [[nodiscard]] size_t requests() const {
    return endpoint == Endpoint::chat ? 1 : prompts.size();
  }
  // Fills `request` (cleared) with the i-th of requests().
  [[nodiscard]] troupe_error* fill(size_t i, troupe_request* request) const;
};

Parsed<Call> parse_call(Endpoint endpoint, const nlohmann::json& body);

}  // namespace troupe::openai
