// From what a request asks for (SamplingParams), what the model's folder prefers
// (GenerationDefaults) and what the model is (ModelFacts) to the numbers that every step of a
// sequence needs. Made once per request, where it is checked: the scheduler trusts it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/request.hpp"
#include "base/status.hpp"
#include "kernels/batch.hpp"
#include "models/facts.hpp"

namespace troupe::engine {

struct SamplingPlan {
  float temperature = 1.0F;  // 0: greedy
  float top_p = 1.0F;
  float min_p = 0.0F;
  int32_t top_k = 0;
  float repetition_penalty = 1.0F;
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  uint64_t seed = 0;
  int32_t max_tokens = -1;  // -1: what the context leaves
  int32_t min_tokens = 0;
  int32_t choices = 1;
  int32_t logprobs = -1;         // alternatives per token; -1: none asked for
  int32_t prompt_logprobs = -1;
  std::vector<PlanBias> biases;        // sorted by token
  std::vector<int32_t> bad_words;      // {n, t1 .. tn} one after the other, n >= 2
  int32_t bad_word_count = 0;
  std::vector<int32_t> stop_tokens;    // sorted; the model's eos among them unless ignored
  std::vector<PlanBias> early_biases;  // `biases` and the bans that hold until min_tokens

  // Does the device have to know what came before? Then a new slot is given the history.
  [[nodiscard]] bool counts_tokens() const {
    return repetition_penalty != 1.0F || presence_penalty != 0.0F || frequency_penalty != 0.0F;
  }
  [[nodiscard]] bool needs_history() const { return counts_tokens() || bad_word_count > 0; }
  [[nodiscard]] bool is_stop(int32_t token) const;
};

// `bad_words` are the request's, tokenised: one list of ids each (a word of one token becomes a
// bias). `fresh_seed` is taken when the request names no seed. Refusals name the field, its limit
// and its value.
Result<SamplingPlan> plan_sampling(const SamplingParams& params,
                                   const models::GenerationDefaults& defaults,
                                   const models::ModelFacts& facts,
                                   std::span<const std::vector<int32_t>> bad_words,
                                   uint64_t fresh_seed);

}  // namespace troupe::engine
