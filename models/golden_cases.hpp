// For tests: what transformers answered of a golden model, on whatever backend it is asked again. The backend's own
// test says which comparisons hold there.
#pragma once

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

// Null, and failures of the test, where something does not open.
struct Loaded {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Runner> runner;
};
Loaded load(const std::string& folder, std::unique_ptr<Backend> backend, const LoadOptions& options,
            Communicator* communicator = nullptr);

// The likeliest token and the expected one's logprob are the case's from `from` on.
void expect_answers(const Case& c, const std::vector<Scored>& got, size_t from);

// The prompt in chunks of at most `chunk`, then one token at a time.
std::vector<Scored> run_case(Runner& runner, const Case& c, size_t chunk);

// All cases at once, several times over, starting at different steps: prefill and decode mixed. Each answer is given
// with its case and its place in it; all must come.
using Check = std::function<void(const Case&, const std::vector<Scored>&, size_t from)>;
void run_together(Runner& runner, const std::vector<Case>& cases, const Check& check);

// The logprobs of the reference's tokens, fed as if they had been said, with the reference's choice of experts.
// `type` is bf16 or f16.
void expect_forced(Runner& runner, const Case& c, const std::string& type);

}  // namespace troupe::models::testing
