#include "engine/sampling_plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/limits.hpp"

namespace troupe::engine {
namespace {

using models::GenerationDefaults;
using models::ModelFacts;

std::string shown(double value) {
  std::string s = std::to_string(value);
  if (s.find('.') != std::string::npos) {
    s.erase(s.find_last_not_of('0') + 1);
    if (s.back() == '.') s.pop_back();
  }
  return s;
}

Status refuse(const char* field, const std::string& must, const std::string& is) {
  return invalid(std::string(field) + " must be " + must + ", and is " + is);
}
Status over(const char* field, size_t limit, size_t value, const char* unit) {
  return limit_exceeded(std::string(field) + " has " + std::to_string(value) + ' ' + unit +
                        "; the limit is " + std::to_string(limit));
}

// In [low, high], and a number at all.
Status check(const char* field, float value, double low, double high, const char* must) {
  if (value >= low && value <= high) return ok_status();
  return refuse(field, must, shown(static_cast<double>(value)));
}
Status check(const char* field, int32_t value, int32_t low, int32_t high) {
  if (value >= low && value <= high) return ok_status();
  return refuse(field, std::to_string(low) + " .. " + std::to_string(high), std::to_string(value));
}
Status check_token(const char* field, int32_t token, int32_t vocab) {
  if (token >= 0 && token < vocab) return ok_status();
  return refuse(field, "token ids of the vocabulary, 0 .. " + std::to_string(vocab - 1),
                std::to_string(token));
}

float either(const std::optional<float>& asked, float folder, float otherwise) {
  if (asked) return *asked;
  return std::isnan(folder) ? otherwise : folder;
}

Status plan_numbers(const SamplingParams& p, const GenerationDefaults& d, SamplingPlan& out) {
  constexpr double kMost = std::numeric_limits<float>::max();
  constexpr double kLeast = std::numeric_limits<float>::denorm_min();
  // Logits stay finite under them, whatever the bias (kBiasMost).
  constexpr double kPenaltyLeast = 1e-3, kPenaltyMost = 1e3;
  constexpr int32_t kAny = std::numeric_limits<int32_t>::max();
  out.temperature = p.temperature ? *p.temperature : d.greedy ? 0.0F : either({}, d.temperature, 1.0F);
  out.top_p = either(p.top_p, d.top_p, 1.0F);
  out.min_p = either(p.min_p, d.min_p, 0.0F);
  out.top_k = p.top_k ? *p.top_k : std::max(0, d.top_k);
  out.repetition_penalty = either(p.repetition_penalty, d.repetition_penalty, 1.0F);
  out.presence_penalty = p.presence_penalty.value_or(0.0F);
  out.frequency_penalty = p.frequency_penalty.value_or(0.0F);
  out.max_tokens = p.max_tokens ? *p.max_tokens : d.max_new_tokens > 0 ? d.max_new_tokens : -1;
  out.min_tokens = p.min_tokens.value_or(0);
  out.choices = p.n;
  TR_TRY(check("temperature", out.temperature, 0.0, kMost, "a finite number of at least 0"));
  // Of numbers so small the inverse is infinite: what they ask for is the likeliest token.
  if (out.temperature < std::numeric_limits<float>::min()) out.temperature = 0.0F;
  TR_TRY(check("top_p", out.top_p, kLeast, 1.0, "above 0 and at most 1"));
  TR_TRY(check("min_p", out.min_p, 0.0, 1.0, "0 .. 1"));
  TR_TRY(check("top_k", out.top_k, 0, kAny));
  TR_TRY(check("repetition_penalty", out.repetition_penalty, kPenaltyLeast, kPenaltyMost, "0.001 .. 1000"));
  TR_TRY(check("presence_penalty", out.presence_penalty, -2.0, 2.0, "-2 .. 2"));
  TR_TRY(check("frequency_penalty", out.frequency_penalty, -2.0, 2.0, "-2 .. 2"));
  if (p.max_tokens) TR_TRY(check("max_tokens", *p.max_tokens, 0, kAny));
  TR_TRY(check("min_tokens", out.min_tokens, 0, kAny));
  if (p.max_tokens && out.min_tokens > out.max_tokens) {
    return refuse("min_tokens", "at most max_tokens (" + std::to_string(out.max_tokens) + ")",
                  std::to_string(out.min_tokens));
  }
  TR_TRY(check("n", out.choices, 1, limits::choices));
  if (p.logprobs) TR_TRY(check("logprobs", *p.logprobs, 0, limits::top_logprobs));
  if (p.prompt_logprobs) TR_TRY(check("prompt_logprobs", *p.prompt_logprobs, 0, limits::top_logprobs));
  out.logprobs = p.logprobs.value_or(-1);
  out.prompt_logprobs = p.prompt_logprobs.value_or(-1);
  return ok_status();
}

Status plan_stops(const SamplingParams& p, const ModelFacts& facts, SamplingPlan& out) {
  if (p.stop.size() > static_cast<size_t>(limits::stop_strings)) {
    return over("stop", limits::stop_strings, p.stop.size(), "strings");
  }
  for (const std::string& s : p.stop) {
    if (s.empty()) return invalid("stop holds an empty string, which would end before it begins");
    if (s.size() > limits::stop_string_bytes) {
      return over("a stop string", limits::stop_string_bytes, s.size(), "bytes");
    }
  }
  if (p.stop_token_ids.size() > static_cast<size_t>(limits::stop_tokens)) {
    return over("stop_token_ids", limits::stop_tokens, p.stop_token_ids.size(), "ids");
  }
  for (const int32_t t : p.stop_token_ids) TR_TRY(check_token("stop_token_ids", t, facts.vocab));
  out.stop_tokens = p.stop_token_ids;
  if (!p.ignore_eos) {
    out.stop_tokens.insert(out.stop_tokens.end(), facts.eos_tokens.begin(), facts.eos_tokens.end());
  }
  std::sort(out.stop_tokens.begin(), out.stop_tokens.end());
  out.stop_tokens.erase(std::unique(out.stop_tokens.begin(), out.stop_tokens.end()),
                        out.stop_tokens.end());
  return ok_status();
}

// The last bias given for a token is the one that counts.
void set_bias(std::vector<PlanBias>& biases, int32_t token, float bias) {
  const auto at = std::lower_bound(biases.begin(), biases.end(), token,
                                   [](const PlanBias& b, int32_t t) { return b.token < t; });
  if (at != biases.end() && at->token == token) {
    at->bias = bias;
  } else {
    biases.insert(at, {token, bias});
  }
}

Status plan_biases(const SamplingParams& p, const ModelFacts& facts,
                   std::span<const std::vector<int32_t>> bad_words, SamplingPlan& out) {
  constexpr float kForbidden = -std::numeric_limits<float>::infinity();
  constexpr float kBiasMost = 1e30F;
  if (p.logit_bias.size() > static_cast<size_t>(limits::logit_biases)) {
    return over("logit_bias", limits::logit_biases, p.logit_bias.size(), "tokens");
  }
  for (const auto& [token, bias] : p.logit_bias) {
    TR_TRY(check_token("logit_bias", token, facts.vocab));
    if (bias != kForbidden && !(std::abs(bias) <= kBiasMost)) {
      return refuse("logit_bias", "-1e30 .. 1e30, or minus infinity, for every token",
                    shown(static_cast<double>(bias)) + " for token " + std::to_string(token));
    }
    set_bias(out.biases, token, bias);
  }
  constexpr size_t kForms = 2;  // of a word: with and without a space before it
  if (bad_words.size() > kForms * limits::bad_words) {
    return over("bad_words", limits::bad_words, bad_words.size(), "words");
  }
  for (const std::vector<int32_t>& word : bad_words) {
    if (word.empty()) return invalid("bad_words holds a word of no tokens");
    if (word.size() > static_cast<size_t>(limits::bad_word_tokens)) {
      return over("a word of bad_words", limits::bad_word_tokens, word.size(), "tokens");
    }
    for (const int32_t t : word) TR_TRY(check_token("bad_words", t, facts.vocab));
    if (word.size() == 1) {
      set_bias(out.biases, word.front(), kForbidden);
      continue;
    }
    out.bad_words.push_back(static_cast<int32_t>(word.size()));
    out.bad_words.insert(out.bad_words.end(), word.begin(), word.end());
    ++out.bad_word_count;
  }
  out.early_biases = out.biases;
  if (out.min_tokens > 0) {
    for (const int32_t t : out.stop_tokens) set_bias(out.early_biases, t, kForbidden);
  }
  return ok_status();
}

}  // namespace

bool SamplingPlan::is_stop(int32_t token) const {
  return std::binary_search(stop_tokens.begin(), stop_tokens.end(), token);
}

Result<SamplingPlan> plan_sampling(const SamplingParams& params, const GenerationDefaults& defaults,
                                   const ModelFacts& facts,
                                   std::span<const std::vector<int32_t>> bad_words,
                                   uint64_t fresh_seed) {
  SamplingPlan out;
  TR_TRY(plan_numbers(params, defaults, out));
  TR_TRY(plan_stops(params, facts, out));
  TR_TRY(plan_biases(params, facts, bad_words, out));
  out.seed = params.seed.value_or(fresh_seed);
  return out;
}

}  // namespace troupe::engine
