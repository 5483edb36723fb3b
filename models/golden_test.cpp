// Every golden model (tests/golden) against what transformers answered: tokens and logprobs in f32;
// the same in chunks, batched with others, and over two ranks; bf16 and f16 teacher-forced.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cpu/plain/plain_backend.hpp"
#include "kernels/in_process_communicator.hpp"
#include "models/test_runner.hpp"

namespace troupe::models::testing {
namespace {

using nlohmann::json;
constexpr const char* kModels = "tests/golden/models";
constexpr float kTolerance = 1e-3F;
constexpr float kForcedTolerance = 0.1F;

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    if (std::filesystem::exists(entry.path() / "expected.json")) {
      names.push_back(entry.path().filename());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

json expected_of(const std::string& name) {
  std::ifstream file(std::string(kModels) + "/" + name + "/expected.json");
  return json::parse(file);
}

struct Case {
  std::vector<int32_t> prompt, tokens;
  std::vector<float> logprobs;
  json all;

  explicit Case(const json& c)
      : prompt(c["prompt"]), tokens(c["tokens"]), logprobs(c["logprobs"]), all(c) {}
  [[nodiscard]] int32_t prompt_len() const { return static_cast<int32_t>(prompt.size()); }
  // What is fed: the prompt, then every token but the last.
  [[nodiscard]] std::vector<int32_t> fed() const {
    std::vector<int32_t> out = prompt;
    out.insert(out.end(), tokens.begin(), tokens.end() - 1);
    return out;
  }
  // The token that each fed token predicts; -1 inside the prompt.
  [[nodiscard]] std::vector<int32_t> targets() const {
    std::vector<int32_t> out(prompt.size() - 1, -1);
    out.insert(out.end(), tokens.begin(), tokens.end());
    return out;
  }
  [[nodiscard]] Piece piece(int32_t sequence, size_t begin, size_t count) const {
    const std::vector<int32_t> all_fed = fed(), all_targets = targets();
    const auto cut = [&](const std::vector<int32_t>& v) {
      const auto from = v.begin() + static_cast<ptrdiff_t>(begin);
      return std::vector<int32_t>(from, from + static_cast<ptrdiff_t>(count));
    };
    return {.sequence = sequence,
            .prompt_len = prompt_len(),
            .tokens = cut(all_fed),
            .targets = cut(all_targets),
            .modality = {}};
  }
};

std::vector<Case> cases_of(const json& expected) {
  std::vector<Case> out;
  for (const json& c : expected["cases"]) out.emplace_back(c);
  return out;
}

std::unique_ptr<Backend> open_cpu() {
  auto opened = cpu::open_cpu_backend({.threads = 1, .device = 0, .cores = {}});
  EXPECT_TRUE(opened.ok()) << opened.status().message();
  return std::move(opened).value();
}

struct Loaded {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Runner> runner;
};

Loaded load(const std::string& folder, std::unique_ptr<Backend> backend,
            Communicator* communicator = nullptr, const std::string& dtype = "auto") {
  Loaded out{std::move(backend), nullptr};
  LoadOptions options;
  options.dtype = dtype;
  options.block_tokens = 8;
  options.ranks = communicator == nullptr ? 1 : communicator->size();
  auto opened = ModelFolder::open(folder, options);
  EXPECT_TRUE(opened.ok()) << opened.status().message();
  if (!opened.ok()) return out;
  auto runner = Runner::open(*opened, *out.backend, communicator, options);
  EXPECT_TRUE(runner.ok()) << runner.status().message();
  if (runner.ok()) out.runner = std::move(runner).value();
  return out;
}

void check(const Case& c, const std::vector<Scored>& got, size_t from, float tolerance) {
  for (size_t i = 0; i < got.size(); ++i) {
    const size_t at = from + i;
    ASSERT_LT(at, c.tokens.size());
    EXPECT_EQ(got[i].best, c.tokens[at]) << c.all["name"] << " token " << at;
    EXPECT_NEAR(got[i].logprob, c.logprobs[at], tolerance) << c.all["name"] << " token " << at;
    const json& top = c.all["top"][at];
    ASSERT_EQ(got[i].top.size(), top.size());
    for (size_t k = 0; k < top.size(); ++k) {
      EXPECT_NEAR(got[i].top[k].logprob, top[k][1].get<float>(), tolerance) << c.all["name"];
    }
  }
}

// The whole prompt at once, then one token at a time.
std::vector<Scored> run_case(Runner& runner, const Case& c, size_t chunk) {
  std::vector<Scored> out;
  runner.forget(0);
  const size_t total = c.fed().size();
  for (size_t at = 0; at < total;) {
    const size_t count = at < c.prompt.size() ? std::min(chunk, c.prompt.size() - at) : 1;
    auto scored = runner.step({c.piece(0, at, count)});
    EXPECT_TRUE(scored.ok()) << scored.status().message();
    if (!scored.ok()) return out;
    out.insert(out.end(), scored->begin(), scored->end());
    at += count;
  }
  return out;
}

class Golden : public ::testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] std::string folder() const { return std::string(kModels) + "/" + GetParam(); }
};

TEST_P(Golden, F32TokensAndLogprobs) {
  Loaded m = load(folder(), open_cpu());
  ASSERT_NE(m.runner, nullptr);
  for (const Case& c : cases_of(expected_of(GetParam()))) {
    const auto got = run_case(*m.runner, c, 1000);
    ASSERT_EQ(got.size(), c.tokens.size());
    check(c, got, 0, kTolerance);
  }
}

TEST_P(Golden, PlainReferenceBackend) {
  Loaded m = load(folder(), cpu::open_plain_backend());
  ASSERT_NE(m.runner, nullptr);
  const Case c = cases_of(expected_of(GetParam())).at(1);
  check(c, run_case(*m.runner, c, 1000), 0, kTolerance);
}

TEST_P(Golden, PromptLogprobs) {
  Loaded m = load(folder(), open_cpu());
  ASSERT_NE(m.runner, nullptr);
  size_t compared = 0;
  for (const Case& c : cases_of(expected_of(GetParam()))) {
    if (!c.all.contains("prompt_logprobs")) continue;
    Piece piece{.sequence = 0,
                .prompt_len = c.prompt_len(),
                .tokens = c.prompt,
                .targets = {},
                .modality = {}};
    piece.targets.assign(c.prompt.begin() + 1, c.prompt.end());
    piece.targets.push_back(-1);
    m.runner->forget(0);
    const auto got = m.runner->step({piece});
    ASSERT_TRUE(got.ok());
    for (size_t i = 1; i < c.prompt.size(); ++i, ++compared) {
      EXPECT_NEAR((*got)[i - 1].logprob, c.all["prompt_logprobs"][i].get<float>(), kTolerance);
    }
  }
  EXPECT_GT(compared, 0U);
}

TEST_P(Golden, ChunkedPrefill) {
  Loaded m = load(folder(), open_cpu());
  ASSERT_NE(m.runner, nullptr);
  for (const Case& c : cases_of(expected_of(GetParam()))) {
    for (const size_t chunk : {size_t{1}, size_t{5}, size_t{16}}) {
      check(c, run_case(*m.runner, c, chunk), 0, kTolerance);
    }
  }
}

// All cases at once, several times over, starting at different steps: prefill and decode mixed.
TEST_P(Golden, BatchedWithOthers) {
  Loaded m = load(folder(), open_cpu());
  ASSERT_NE(m.runner, nullptr);
  const std::vector<Case> cases = cases_of(expected_of(GetParam()));
  constexpr size_t kLanes = 17;
  std::vector<size_t> fed(kLanes, 0), scored(kLanes, 0);
  for (size_t round = 0; round < 200; ++round) {
    std::vector<Piece> pieces;
    for (size_t lane = 0; lane < kLanes && lane <= round; ++lane) {
      const Case& c = cases[lane % cases.size()];
      if (fed[lane] >= c.fed().size()) continue;
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
      check(cases[lane % cases.size()], {s}, scored[lane]++, kTolerance);
    }
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    EXPECT_EQ(scored[lane], cases[lane % cases.size()].tokens.size());
  }
}

// The reference's expert choices, in the order of this model's layers.
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

// Some models are stored in these types, too; the others are rounded as they are loaded.
TEST_P(Golden, HalfPrecisionTeacherForced) {
  const json expected = expected_of(GetParam());
  for (const std::string type : {"bf16", "f16"}) {
    const std::string stored = folder() + "/" + type;
    Loaded m = std::filesystem::exists(stored) ? load(stored, open_cpu())
                                               : load(folder(), open_cpu(), nullptr, type);
    ASSERT_NE(m.runner, nullptr);
    EXPECT_EQ(m.runner->model().facts().dtype, type == "bf16" ? DType::bf16 : DType::f16);
    for (const Case& c : cases_of(expected)) {
      const json& forced = c.all["forced"][type];
      const std::vector<float> logprobs = forced["logprobs"];
      size_t scored = 0;
      m.runner->forget(0);
      for (size_t at = 0; at < c.fed().size();) {
        const size_t count = at < c.prompt.size() ? c.prompt.size() : 1;
        if (forced.contains("experts")) {
          m.runner->model().force_routing(forced_experts(forced["experts"], at, count));
        }
        const auto got = m.runner->step({c.piece(0, at, count)});
        ASSERT_TRUE(got.ok()) << got.status().message();
        for (const Scored& s : *got) {
          EXPECT_NEAR(s.logprob, logprobs[scored++], kForcedTolerance) << type << c.all["name"];
        }
        at += count;
      }
      EXPECT_EQ(scored, logprobs.size());
    }
  }
}

TEST_P(Golden, TwoRanksGiveTheSameTokens) {
  auto communicators = make_in_process_communicators(2);
  const std::vector<Case> cases = cases_of(expected_of(GetParam()));
  LoadOptions options;
  options.ranks = 2;
  const auto folder_of_two = ModelFolder::open(folder(), options);
  if (!folder_of_two.ok()) {  // heads that two ranks cannot share are refused by name
    EXPECT_NE(folder_of_two.status().message().find("does not divide"), std::string::npos)
        << folder_of_two.status().message();
    GTEST_SKIP() << folder_of_two.status().message();
  }
  std::vector<std::future<std::vector<std::vector<Scored>>>> ranks;
  for (auto& communicator : communicators) {
    ranks.push_back(std::async(std::launch::async, [&, c = communicator.get()] {
      Loaded m = load(folder(), open_cpu(), c);
      std::vector<std::vector<Scored>> out;
      for (const Case& one : cases) out.push_back(run_case(*m.runner, one, 16));
      return out;
    }));
  }
  for (auto& rank : ranks) {
    const auto got = rank.get();
    for (size_t i = 0; i < cases.size(); ++i) {
      ASSERT_EQ(got[i].size(), cases[i].tokens.size());
      check(cases[i], got[i], 0, kTolerance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, ::testing::ValuesIn(model_names()), [](const auto& model) {
  std::string name = model.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace troupe::models::testing
