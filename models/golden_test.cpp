// Every golden model (tests/golden) against what transformers answered: tokens and logprobs in f32;
// the same in chunks, batched with others, and over two ranks; bf16 and f16 teacher-forced.
#include <gtest/gtest.h>

#include <filesystem>
#include <future>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cpu/plain/plain_backend.hpp"
#include "kernels/in_process_communicator.hpp"
#include "models/golden_cases.hpp"
#include "models/golden_folders.hpp"

namespace troupe::models::testing {
namespace {

using nlohmann::json;

std::unique_ptr<Backend> open_cpu() {
  auto opened = cpu::open_cpu_backend({.threads = 1, .device = 0, .cores = {}});
  EXPECT_TRUE(opened.ok()) << opened.status().message();
  return std::move(opened).value();
}

LoadOptions stored_as(const std::string& dtype) {
  LoadOptions options;
  options.dtype = dtype;
  options.block_tokens = 8;
  return options;
}

// Its answers, and the logprobs of the likeliest tokens beside them.
void check(const Case& c, const std::vector<Scored>& got, size_t from) {
  ASSERT_NO_FATAL_FAILURE(expect_answers(c, got, from));
  for (size_t i = 0; i < got.size(); ++i) {
    const json& top = c.all["top"][from + i];
    ASSERT_EQ(got[i].top.size(), top.size());
    for (size_t k = 0; k < top.size(); ++k) {
      EXPECT_NEAR(got[i].top[k].logprob, top[k][1].get<float>(), kGoldenTolerance) << c.all["name"];
    }
  }
}

class Golden : public ::testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] std::string folder() const { return std::string(kGoldenModels) + "/" + GetParam(); }
  [[nodiscard]] json expected() const { return expected_of(folder()); }
  [[nodiscard]] Loaded on_cpu() const { return load(folder(), open_cpu(), stored_as("auto")); }
};

TEST_P(Golden, F32TokensAndLogprobs) {
  Loaded m = on_cpu();
  ASSERT_NE(m.runner, nullptr);
  for (const Case& c : cases_of(expected())) {
    const auto got = run_case(*m.runner, c, 1000);
    ASSERT_EQ(got.size(), c.tokens.size());
    check(c, got, 0);
  }
}

TEST_P(Golden, PlainReferenceBackend) {
  Loaded m = load(folder(), cpu::open_plain_backend(), stored_as("auto"));
  ASSERT_NE(m.runner, nullptr);
  const Case c = cases_of(expected()).at(1);
  check(c, run_case(*m.runner, c, 1000), 0);
}

TEST_P(Golden, PromptLogprobs) {
  Loaded m = on_cpu();
  ASSERT_NE(m.runner, nullptr);
  size_t compared = 0;
  for (const Case& c : cases_of(expected())) {
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
      EXPECT_NEAR((*got)[i - 1].logprob, c.all["prompt_logprobs"][i].get<float>(), kGoldenTolerance);
    }
  }
  EXPECT_GT(compared, 0U);
}

TEST_P(Golden, ChunkedPrefill) {
  Loaded m = on_cpu();
  ASSERT_NE(m.runner, nullptr);
  for (const Case& c : cases_of(expected())) {
    for (const size_t chunk : {size_t{1}, size_t{5}, size_t{16}}) {
      check(c, run_case(*m.runner, c, chunk), 0);
    }
  }
}

TEST_P(Golden, BatchedWithOthers) {
  Loaded m = on_cpu();
  ASSERT_NE(m.runner, nullptr);
  run_together(*m.runner, cases_of(expected()), check);
}

// Some models are stored in these types, too; the others are rounded as they are loaded.
TEST_P(Golden, HalfPrecisionTeacherForced) {
  for (const std::string type : {"bf16", "f16"}) {
    const std::string stored = folder() + "/" + type;
    Loaded m = std::filesystem::exists(stored) ? load(stored, open_cpu(), stored_as("auto"))
                                               : load(folder(), open_cpu(), stored_as(type));
    ASSERT_NE(m.runner, nullptr);
    EXPECT_EQ(m.runner->model().facts().dtype, type == "bf16" ? DType::bf16 : DType::f16);
    for (const Case& c : cases_of(expected())) expect_forced(*m.runner, c, type);
  }
}

TEST_P(Golden, TwoRanksGiveTheSameTokens) {
  auto communicators = make_in_process_communicators(2);
  const std::vector<Case> cases = cases_of(expected());
  LoadOptions options = stored_as("auto");
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
      Loaded m = load(folder(), open_cpu(), options, c);
      std::vector<std::vector<Scored>> out;
      for (const Case& one : cases) out.push_back(run_case(*m.runner, one, 16));
      return out;
    }));
  }
  for (auto& rank : ranks) {
    const auto got = rank.get();
    for (size_t i = 0; i < cases.size(); ++i) {
      ASSERT_EQ(got[i].size(), cases[i].tokens.size());
      check(cases[i], got[i], 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, ::testing::ValuesIn(golden_names(kGoldenModels)), test_name);

}  // namespace
}  // namespace troupe::models::testing
