#include "openai/sampling.hpp"

#include <charconv>
#include <limits>

namespace troupe::openai {
namespace {

constexpr int64_t kTokensMost = std::numeric_limits<int32_t>::max();

// {"token id": bias}, ids as strings because JSON's keys are.
void read_logit_bias(Fields& fields, Sampling& out) {
  const auto* value = fields.take("logit_bias");
  if (value == nullptr) return;
  if (!value->is_object()) {
    fields.fail("logit_bias", "must be an object from token ids to numbers");
    return;
  }
  for (const auto& [key, bias] : value->items()) {
    int32_t token = -1;
    const auto [end, failure] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (failure != std::errc{} || end != key.data() + key.size() || token < 0) {
      fields.fail("logit_bias", "has the key '" + key.substr(0, 40) + "', which is no token id");
      return;
    }
    if (!bias.is_number() || !(bias.get<double>() >= -100.0) || !(bias.get<double>() <= 100.0)) {
      fields.fail("logit_bias", "of token " + key + " must be a number from -100 to 100");
      return;
    }
    out.bias_tokens.push_back(token);
    out.bias_values.push_back(bias.get<float>());
  }
}

void read_flag(Fields& fields, const char* name, int32_t& out) {
  bool flag = false;
  if (fields.take(name) == nullptr) return;
  fields.read(name, flag);
  out = flag ? 1 : 0;
}

}  // namespace

troupe_error* Sampling::apply(troupe_request* request) const {
  troupe_sampling full = raw;
  std::vector<const char*> stops, bads;
  for (const std::string& s : stop) stops.push_back(s.c_str());
  for (const std::string& s : bad_words) bads.push_back(s.c_str());
  full.stop = stops.data();
  full.n_stop = stops.size();
  full.bad_words = bads.data();
  full.n_bad_words = bads.size();
  full.stop_tokens = stop_tokens.data();
  full.n_stop_tokens = stop_tokens.size();
  full.bias_tokens = bias_tokens.data();
  full.bias_values = bias_values.data();
  full.n_bias = bias_tokens.size();
  return troupe_request_sampling(request, &full);
}

void read_sampling(Fields& fields, Sampling& out) {
  troupe_sampling& raw = out.raw;
  constexpr double kBig = 1e6;
  fields.read("temperature", raw.temperature, 0.0, 100.0);
  fields.read("top_p", raw.top_p, 0.0, 1.0);
  fields.read("min_p", raw.min_p, 0.0, 1.0);
  if (const auto* k = fields.take("top_k"); k != nullptr && k->is_number_integer() && *k == -1) {
    raw.top_k = 0;  // vLLM's users write -1 for no limit
  } else {
    fields.read("top_k", raw.top_k, 0, kTokensMost);
  }
  fields.read("repetition_penalty", raw.repetition_penalty, 1e-6, kBig);
  fields.read("presence_penalty", raw.presence_penalty, -2.0, 2.0);
  fields.read("frequency_penalty", raw.frequency_penalty, -2.0, 2.0);
  fields.read("seed", raw.seed, std::numeric_limits<int64_t>::min() + 1,
              std::numeric_limits<int64_t>::max());
  fields.read("max_tokens", raw.max_tokens, 0, kTokensMost);
  fields.read("min_tokens", raw.min_tokens, 0, kTokensMost);
  fields.read("n", raw.n, 1, 128);
  fields.read("prompt_logprobs", raw.prompt_logprobs, 0, 64);
  read_flag(fields, "ignore_eos", raw.ignore_eos);
  read_flag(fields, "skip_special_tokens", raw.skip_special_tokens);
  read_flag(fields, "include_stop_str_in_output", raw.include_stop);
  fields.read_c_strings("stop", out.stop);
  fields.read_c_strings("bad_words", out.bad_words);
  fields.read("stop_token_ids", out.stop_tokens);
  read_logit_bias(fields, out);
}

}  // namespace troupe::openai
