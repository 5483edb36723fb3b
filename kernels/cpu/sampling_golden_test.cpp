// The whole order of sampling against transformers' processors (tests/golden/sampling.json): the
// frequency of each token over many seeds is its probability, and what has none is never drawn.

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/ops_suite/plans.hpp"

namespace troupe::cpu {
namespace {

using nlohmann::json;

constexpr int32_t kSlots = 256;
constexpr int32_t kSteps = 32;
constexpr double kDraws = double{kSlots} * kSteps;

json golden() {
  std::ifstream in("tests/golden/sampling.json");
  return json::parse(in);
}

PlanSampling sampling_of(const json& c, const json& neutral, StepPlanDraft& draft) {
  json p = neutral;
  p.update(c["params"]);
  PlanSampling s;
  s.temperature = p["temperature"];
  s.top_k = p["top_k"];
  s.top_p = p["top_p"];
  s.min_p = p["min_p"];
  s.repetition_penalty = p["repetition_penalty"];
  s.presence_penalty = p["presence_penalty"];
  s.frequency_penalty = p["frequency_penalty"];
  s.bias_begin = static_cast<int32_t>(draft.biases.size());
  for (const auto& [token, bias] : p["logit_bias"].get<std::vector<std::pair<int32_t, float>>>()) {
    draft.biases.push_back({token, bias});
  }
  if (c["output"].size() < p["min_tokens"].get<size_t>()) {
    for (const int32_t token : p["end_tokens"]) draft.biases.push_back({token, -INFINITY});
  }
  s.bias_count = static_cast<int32_t>(draft.biases.size()) - s.bias_begin;
  s.bad_begin = static_cast<int32_t>(draft.token_lists.size());
  for (const auto& word : p["bad_words"].get<std::vector<std::vector<int32_t>>>()) {
    draft.token_lists.push_back(static_cast<int32_t>(word.size()));
    draft.token_lists.insert(draft.token_lists.end(), word.begin(), word.end());
    ++s.bad_count;
  }
  s.history_begin = static_cast<int32_t>(draft.token_lists.size());
  for (const char* part : {"prompt", "output"}) {
    for (const int32_t token : c[part]) draft.token_lists.push_back(token);
  }
  s.history_prompt = static_cast<int32_t>(c["prompt"].size());
  s.history_count = static_cast<int32_t>(c["prompt"].size() + c["output"].size());
  s.reset = 1;
  return s;
}

// One step: every slot draws from the case's logits with a seed of its own.
StepPlanDraft step_of(const json& c, const json& neutral, int32_t step) {
  StepPlanDraft draft;
  draft.step = static_cast<uint64_t>(step);
  const PlanSampling base = sampling_of(c, neutral, draft);
  for (int32_t slot = 0; slot < kSlots; ++slot) {
    ops_suite::add_sequence(draft, {.slot = slot});
    PlanSampling s = base;
    s.slot = slot;
    s.seed = static_cast<uint64_t>(step * kSlots + slot);
    draft.sampling.push_back(s);
    draft.logit_rows.push_back({slot, slot, slot, -1, 0});
  }
  return draft;
}

std::vector<double> frequencies(Backend& backend, const json& c, const json& neutral) {
  const auto vocab = static_cast<int32_t>(c["logits"].size());
  std::vector<double> counts(static_cast<size_t>(vocab));
  EXPECT_TRUE(backend.reserve_steps(kSlots, kSlots, kSlots, vocab).ok());
  for (int32_t step = 0; step < kSteps; ++step) {
    std::vector<std::byte> bytes;
    step_of(c, neutral, step).seal(bytes);
    const auto plan = PlanView::parse(bytes);
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    const auto batch = backend.begin_step(*plan, {});
    EXPECT_TRUE(batch.ok()) << batch.status().message();
    std::vector<float> logits;
    const auto row = c["logits"].get<std::vector<float>>();
    for (int32_t r = 0; r < kSlots; ++r) logits.insert(logits.end(), row.begin(), row.end());
    SampleArgs args;
    args.logits = {logits.data(), DType::f32, kSlots, vocab, vocab};
    backend.sample(*batch, args);
    const auto result = backend.finish_step(*batch);
    EXPECT_TRUE(result.ok()) << result.status().message();
    for (const StepToken& t : result->tokens) counts[static_cast<size_t>(t.token)] += 1.0 / kDraws;
  }
  return counts;
}

TEST(SamplingGolden, FrequenciesAreTheReferencesProbabilities) {
  const json file = golden();
  ASSERT_GT(file["cases"].size(), 50U);
  for (const json& c : file["cases"]) {
    auto backend = open_cpu_backend({.threads = 1});
    ASSERT_TRUE(backend.ok());
    const auto seen = frequencies(**backend, c, file["neutral"]);
    const auto want = c["probabilities"].get<std::vector<double>>();
    for (size_t token = 0; token < want.size(); ++token) {
      // Five standard deviations of a binomial share; what cannot be drawn must never be.
      const double slack = 5.0 * std::sqrt(want[token] * (1.0 - want[token]) / kDraws) + 1e-9;
      EXPECT_NEAR(seen[token], want[token], want[token] == 0.0 ? 0.0 : slack + 1.0 / kDraws)
          << c["name"] << ", token " << token;
    }
  }
}

}  // namespace
}  // namespace troupe::cpu
