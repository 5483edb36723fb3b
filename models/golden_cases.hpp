// For tests: what transformers answered of a golden model, on whatever backend it is asked again. The backend's own
// test says which comparisons hold there.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/test_runner.hpp"

namespace troupe::models::testing {

inline constexpr float kGoldenTolerance = 1e-3F;        // of a logprob in f32
inline constexpr float kGoldenForcedTolerance = 0.1F;  // in bf16 and f16, teacher-forced

struct Case {
  std::vector<int32_t> prompt, tokens;
  std::vector<float> logprobs;
  nlohmann::json all;

  explicit Case(const nlohmann::json& c);
  [[nodiscard]] int32_t prompt_len() const { return static_cast<int32_t>(prompt.size()); }
  // How many tokens are fed: the prompt, then every token but the last.
  [[nodiscard]] size_t fed() const { return prompt.size() + tokens.size() - 1; }
  // `count` fed tokens from `begin` on, and what each predicts; inside the prompt nothing is asked.
  [[nodiscard]] Piece piece(int32_t sequence, size_t begin, size_t count) const;
};

std::vector<Case> cases_of(const nlohmann::json& expected);

// ---- cases of any kind: with a prompt, the tokens answered, fed() and piece() as above ----

// The prompt in chunks of at most `chunk`, then one token at a time.
template <class AnyCase>
std::vector<Scored> run_case(Runner& runner, const AnyCase& c, size_t chunk) {
  std::vector<Scored> out;
  runner.forget(0);
  for (size_t at = 0; at < c.fed();) {
    const size_t count = at < c.prompt.size() ? std::min(chunk, c.prompt.size() - at) : 1;
    auto scored = runner.step({c.piece(0, at, count)});
    EXPECT_TRUE(scored.ok()) << scored.status().message();
    if (!scored.ok()) return out;
    out.insert(out.end(), scored->begin(), scored->end());
    at += count;
  }
  return out;
}

struct Lanes {
  size_t count, rounds_most;
};
// All cases at once, each in several lanes, which start at different steps: prefill and decode mixed. A lane's prompt
// goes in by chunk_of(lane, prompt's tokens) at most; check(case, answer, its place in the case); all must come.
template <class AnyCase, class ChunkOf, class CheckOne>
void run_lanes(Runner& runner, const std::vector<AnyCase>& cases, Lanes lanes, const ChunkOf& chunk_of,
               const CheckOne& check) {
  std::vector<size_t> fed(lanes.count, 0), scored(lanes.count, 0);
  for (size_t round = 0; round < lanes.rounds_most; ++round) {
    std::vector<Piece> pieces;
    for (size_t lane = 0; lane < lanes.count && lane <= round; ++lane) {
      const AnyCase& c = cases[lane % cases.size()];
      if (fed[lane] >= c.fed()) continue;
      const size_t prompt = c.prompt.size();
      const size_t count = fed[lane] < prompt ? std::min<size_t>(chunk_of(lane, prompt), prompt - fed[lane]) : 1;
      pieces.push_back(c.piece(static_cast<int32_t>(lane), fed[lane], count));
      fed[lane] += count;
    }
    if (pieces.empty()) break;
    const auto got = runner.step(pieces);
    ASSERT_TRUE(got.ok()) << got.status().message();
    for (const Scored& s : *got) {
      const auto lane = static_cast<size_t>(s.sequence);
      check(cases[lane % cases.size()], s, scored[lane]++);
    }
  }
  for (size_t lane = 0; lane < lanes.count; ++lane) {
    EXPECT_EQ(scored[lane], cases[lane % cases.size()].tokens.size());
  }
}

// ---- a text model's ----

// Null, and failures of the test, where something does not open.
struct Loaded {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Runner> runner;
};
Loaded load(const std::string& folder, std::unique_ptr<Backend> backend, const LoadOptions& options,
            Communicator* communicator = nullptr);

// The likeliest token and the expected one's logprob are the case's from `from` on.
void expect_answers(const Case& c, const std::vector<Scored>& got, size_t from);

// All cases in seventeen lanes. Each answer is given with its case and its place in it.
using Check = std::function<void(const Case&, const std::vector<Scored>&, size_t from)>;
void run_together(Runner& runner, const std::vector<Case>& cases, const Check& check);

// The logprobs of the reference's tokens, fed as if they had been said, with the reference's choice of experts.
// `type` is bf16 or f16.
void expect_forced(Runner& runner, const Case& c, const std::string& type);

}  // namespace troupe::models::testing
