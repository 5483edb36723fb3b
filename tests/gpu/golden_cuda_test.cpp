// Every golden model (tests/golden) on a CUDA device against what transformers answered: tokens and
// logprobs in f32, alone and batched; bf16 and f16 teacher-forced. Decoding goes through recorded
// graphs from the second step on.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/test_support.hpp"
#include "models/test_runner.hpp"

namespace troupe::models::testing {
namespace {

using nlohmann::json;
constexpr const char* kModels = "tests/golden/models";
constexpr float kTolerance = 1e-3F;
constexpr float kForcedTolerance = 0.1F;

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  if (!std::filesystem::exists(kModels)) return names;
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    if (std::filesystem::exists(entry.path() / "expected.json"))
      names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

struct Loaded {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Runner> runner;
};

Loaded load(const std::string& folder, int32_t block_tokens, const std::string& dtype = "auto") {
  Loaded out;
  auto backend = cuda::CudaBackend::open(0);
  EXPECT_TRUE(backend.ok()) << backend.status().message();
  if (!backend.ok()) return out;
  out.backend = std::move(*backend);
  LoadOptions options;
  options.block_tokens = block_tokens;
  options.dtype = dtype;
  auto opened = ModelFolder::open(folder, options);
  EXPECT_TRUE(opened.ok()) << opened.status().message();
  if (!opened.ok()) return out;
  auto runner = Runner::open(*opened, *out.backend, nullptr, options);
  EXPECT_TRUE(runner.ok()) << runner.status().message();
  if (runner.ok()) out.runner = std::move(*runner);
  return out;
}

struct Case {
  std::vector<int32_t> prompt, tokens;
  std::vector<float> logprobs;
  json all;

  explicit Case(const json& c)
      : prompt(c["prompt"]), tokens(c["tokens"]), logprobs(c["logprobs"]), all(c) {}
  [[nodiscard]] size_t fed() const { return prompt.size() + tokens.size() - 1; }
  // `count` fed tokens from `begin` on: the prompt, then every token but the last.
  [[nodiscard]] Piece piece(int32_t sequence, size_t begin, size_t count) const {
    Piece p{.sequence = sequence,
            .prompt_len = static_cast<int32_t>(prompt.size()),
            .tokens = {},
            .targets = {},
            .modality = {}};
    for (size_t i = begin; i < begin + count; ++i) {
      p.tokens.push_back(i < prompt.size() ? prompt[i] : tokens[i - prompt.size()]);
      p.targets.push_back(i + 1 < prompt.size() ? -1 : tokens[i + 1 - prompt.size()]);
    }
    return p;
  }
};

json expected_of(const std::string& name) {
  std::ifstream file(std::string(kModels) + "/" + name + "/expected.json");
  return json::parse(file);
}
std::vector<Case> cases_of(const json& expected) {
  std::vector<Case> out;
  for (const json& c : expected["cases"]) out.emplace_back(c);
  return out;
}

class GoldenCuda : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { TR_NEEDS_DEVICE(); }
  [[nodiscard]] std::string folder() const { return std::string(kModels) + "/" + GetParam(); }
};

TEST_P(GoldenCuda, F32TokensAndLogprobs) {
  for (const int32_t block_tokens : {8, 16}) {
    Loaded m = load(folder(), block_tokens);
    ASSERT_NE(m.runner, nullptr);
    for (const Case& c : cases_of(expected_of(GetParam()))) {
      m.runner->forget(0);
      size_t scored = 0;
      for (size_t at = 0; at < c.fed();) {
        const size_t count = at < c.prompt.size() ? c.prompt.size() : 1;
        const auto got = m.runner->step({c.piece(0, at, count)});
        ASSERT_TRUE(got.ok()) << got.status().message();
        for (const Scored& s : *got) {
          EXPECT_EQ(s.best, c.tokens[scored]) << c.all["name"] << " token " << scored;
          EXPECT_NEAR(s.logprob, c.logprobs[scored], kTolerance)
              << c.all["name"] << " token " << scored;
          ++scored;
        }
        at += count;
      }
      EXPECT_EQ(scored, c.tokens.size());
    }
  }
}

TEST_P(GoldenCuda, BatchedWithOthers) {
  Loaded m = load(folder(), 16);
  ASSERT_NE(m.runner, nullptr);
  const std::vector<Case> cases = cases_of(expected_of(GetParam()));
  constexpr size_t kLanes = 17;
  std::vector<size_t> fed(kLanes, 0), scored(kLanes, 0);
  for (size_t round = 0; round < 200; ++round) {
    std::vector<Piece> pieces;
    for (size_t lane = 0; lane < kLanes && lane <= round; ++lane) {
      const Case& c = cases[lane % cases.size()];
      if (fed[lane] >= c.fed()) continue;
      const size_t prompt = c.prompt.size();
      const size_t count = fed[lane] < prompt ? std::min<size_t>(7 + lane, prompt - fed[lane]) : 1;
      pieces.push_back(c.piece(static_cast<int32_t>(lane), fed[lane], count));
      fed[lane] += count;
    }
    if (pieces.empty()) break;
    const auto got = m.runner->step(pieces);
    ASSERT_TRUE(got.ok()) << got.status().message();
    for (const Scored& s : *got) {
      const auto lane = static_cast<size_t>(s.sequence);
      const Case& c = cases[lane % cases.size()];
      EXPECT_EQ(s.best, c.tokens[scored[lane]]) << c.all["name"];
      EXPECT_NEAR(s.logprob, c.logprobs[scored[lane]], kTolerance) << c.all["name"];
      ++scored[lane];
    }
  }
  for (size_t lane = 0; lane < kLanes; ++lane)
    EXPECT_EQ(scored[lane], cases[lane % cases.size()].tokens.size());
}

std::vector<std::vector<int32_t>> forced_experts(const json& experts, size_t begin, size_t count) {
  std::vector<std::vector<int32_t>> out;
  for (const json& layer : experts) {
    const auto index = layer["layer"].get<size_t>();
    if (out.size() <= index) out.resize(index + 1);
    for (size_t row = begin; row < begin + count; ++row) {
      for (const json& id : layer["ids"][row]) out[index].push_back(id);
    }
  }
  return out;
}

TEST_P(GoldenCuda, HalfPrecisionTeacherForced) {
  const json expected = expected_of(GetParam());
  for (const std::string type : {"bf16", "f16"}) {
    const std::string stored = folder() + "/" + type;  // not every model is stored in it
    Loaded m = std::filesystem::exists(stored + "/config.json") ? load(stored, 16)
                                                                : load(folder(), 16, type);
    ASSERT_NE(m.runner, nullptr);
    for (const Case& c : cases_of(expected)) {
      const json& forced = c.all["forced"][type];
      const std::vector<float> logprobs = forced["logprobs"];
      size_t scored = 0;
      m.runner->forget(0);
      for (size_t at = 0; at < c.fed();) {
        const size_t count = at < c.prompt.size() ? c.prompt.size() : 1;
        if (forced.contains("experts"))
          m.runner->model().force_routing(forced_experts(forced["experts"], at, count));
        const auto got = m.runner->step({c.piece(0, at, count)});
        ASSERT_TRUE(got.ok()) << got.status().message();
        for (const Scored& s : *got)
          EXPECT_NEAR(s.logprob, logprobs[scored++], kForcedTolerance) << type << c.all["name"];
        at += count;
      }
      EXPECT_EQ(scored, logprobs.size());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenCuda, ::testing::ValuesIn(model_names()),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenCuda);

}  // namespace
}  // namespace troupe::models::testing
