// troupe_sampling, read and checked against base/limits.hpp.
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "base/limits.hpp"
#include "capi/checks.hpp"
#include "capi/error.hpp"
#include "capi/options.hpp"
#include "capi/sized.hpp"

namespace troupe::capi {
namespace {

constexpr int32_t kInt32Max = std::numeric_limits<int32_t>::max();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kMost = 1000.0F;  // far beyond sense, well within arithmetic
constexpr float kRepetitionLeast = 0.001F;
constexpr float kPenaltyMost = 2.0F;  // as OpenAI bounds them

constexpr troupe_sampling sampling_defaults() {
  troupe_sampling s{};
  s.struct_size = sizeof s;
  s.temperature = s.top_p = s.min_p = kNan;
  s.repetition_penalty = s.presence_penalty = s.frequency_penalty = kNan;
  s.seed = TROUPE_UNSET;
  s.top_k = s.max_tokens = s.min_tokens = s.n = s.logprobs = s.prompt_logprobs = -1;
  s.ignore_eos = s.include_stop = s.skip_special_tokens = -1;
  return s;
}

constexpr troupe_sampling kSamplingDefaults = sampling_defaults();

Status take_float(const char* name, float value, bool good, const char* bounds,
                  std::optional<float>& to) {
  if (std::isnan(value)) return {};
  if (!good) return bad_float(std::string("troupe_sampling.") + name, value, bounds);
  to = value;
  return {};
}

Status take_floats(const troupe_sampling& s, SamplingParams& to) {
  const auto within = [](float x, float low, float high) { return x >= low && x <= high; };
  TR_TRY(take_float("temperature", s.temperature, within(s.temperature, 0, kMost), "0 to 1000",
                    to.temperature));
  TR_TRY(take_float("top_p", s.top_p, s.top_p > 0 && s.top_p <= 1, "above 0, at most 1", to.top_p));
  TR_TRY(take_float("min_p", s.min_p, within(s.min_p, 0, 1), "0 to 1", to.min_p));
  TR_TRY(take_float("repetition_penalty", s.repetition_penalty,
                    within(s.repetition_penalty, kRepetitionLeast, kMost), "0.001 to 1000",
                    to.repetition_penalty));
  TR_TRY(take_float("presence_penalty", s.presence_penalty,
                    within(s.presence_penalty, -kPenaltyMost, kPenaltyMost), "-2 to 2",
                    to.presence_penalty));
  return take_float("frequency_penalty", s.frequency_penalty,
                    within(s.frequency_penalty, -kPenaltyMost, kPenaltyMost), "-2 to 2",
                    to.frequency_penalty);
}

Status take_ints(const troupe_sampling& s, SamplingParams& to) {
  TR_TRY(take_int("troupe_sampling.top_k", s.top_k, 0, kInt32Max, to.top_k));
  TR_TRY(take_int("troupe_sampling.max_tokens", s.max_tokens, 0, kInt32Max, to.max_tokens));
  TR_TRY(take_int("troupe_sampling.min_tokens", s.min_tokens, 0, kInt32Max, to.min_tokens));
  TR_TRY(take_int("troupe_sampling.n", s.n, 1, limits::choices, to.n));
  TR_TRY(take_int("troupe_sampling.logprobs", s.logprobs, 0, limits::top_logprobs, to.logprobs));
  TR_TRY(take_int("troupe_sampling.prompt_logprobs", s.prompt_logprobs, 0, limits::top_logprobs,
                  to.prompt_logprobs));
  TR_TRY(take_int("troupe_sampling.ignore_eos", s.ignore_eos, 0, 1, to.ignore_eos));
  TR_TRY(take_int("troupe_sampling.include_stop", s.include_stop, 0, 1, to.include_stop));
  TR_TRY(take_int("troupe_sampling.skip_special_tokens", s.skip_special_tokens, 0, 1,
                  to.skip_special_tokens));
  if (to.min_tokens && to.max_tokens && *to.min_tokens > *to.max_tokens) {
    return invalid("troupe_sampling.min_tokens is " + std::to_string(*to.min_tokens) +
                   ": more than max_tokens, " + std::to_string(*to.max_tokens));
  }
  if (s.seed != TROUPE_UNSET) to.seed = static_cast<uint64_t>(s.seed);
  return {};
}

Status check_count(const char* name, size_t count, int32_t most) {
  if (count <= static_cast<size_t>(most)) return {};
  return limit_exceeded(std::string("troupe_sampling.n_") + name + " is " + std::to_string(count) +
                        ": at most " + std::to_string(most));
}

Status take_strings(const char* name, const char* const* from, size_t count, int32_t most,
                    std::vector<std::string>& to) {
  TR_TRY(check_count(name, count, most));
  TR_TRY(check_list(std::string("troupe_sampling.") + name, from, std::string("n_") + name, count));
  for (size_t i = 0; i < count; ++i) {
    const std::string where =
        std::string("troupe_sampling.") + name + "[" + std::to_string(i) + "]";
    if (from[i] == nullptr) return invalid(where + " is NULL");
    const std::string_view text = from[i];
    if (text.empty()) return invalid(where + " is empty");
    if (text.size() > limits::stop_string_bytes) {
      return limit_exceeded(where + " has " + std::to_string(text.size()) + " bytes: at most " +
                            std::to_string(limits::stop_string_bytes));
    }
    TR_TRY(check_utf8(where, text));
    to.emplace_back(text);
  }
  return {};
}

Status take_lists(const troupe_sampling& s, SamplingParams& to) {
  TR_TRY(take_strings("stop", s.stop, s.n_stop, limits::stop_strings, to.stop));
  TR_TRY(take_strings("bad_words", s.bad_words, s.n_bad_words, limits::bad_words, to.bad_words));
  TR_TRY(check_count("stop_tokens", s.n_stop_tokens, limits::stop_tokens));
  TR_TRY(check_count("bias", s.n_bias, limits::logit_biases));
  TR_TRY(
      check_list("troupe_sampling.stop_tokens", s.stop_tokens, "n_stop_tokens", s.n_stop_tokens));
  TR_TRY(check_list("troupe_sampling.bias_tokens", s.bias_tokens, "n_bias", s.n_bias));
  TR_TRY(check_list("troupe_sampling.bias_values", s.bias_values, "n_bias", s.n_bias));
  if (s.n_stop_tokens > 0) {
    to.stop_token_ids.assign(s.stop_tokens, s.stop_tokens + s.n_stop_tokens);
  }
  for (size_t i = 0; i < s.n_bias; ++i) {
    if (std::isnan(s.bias_values[i])) {
      return invalid("troupe_sampling.bias_values[" + std::to_string(i) + "] is NaN");
    }
    to.logit_bias.emplace_back(s.bias_tokens[i], s.bias_values[i]);
  }
  return {};
}

}  // namespace

Result<SamplingParams> sampling_params(const troupe_sampling* sampling) {
  SamplingParams to;
  TR_ASSIGN(const troupe_sampling s, read_sized(*sampling, kSamplingDefaults, "troupe_sampling"));
  TR_TRY(take_floats(s, to));
  TR_TRY(take_ints(s, to));
  TR_TRY(take_lists(s, to));
  return to;
}

}  // namespace troupe::capi

extern "C" void troupe_sampling_init(troupe_sampling* sampling, uint32_t struct_size) {
  troupe::capi::init_sized(sampling, struct_size, troupe::capi::kSamplingDefaults);
}
