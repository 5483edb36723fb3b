// Every golden model (tests/golden) on a CUDA device against what transformers answered: tokens and
// logprobs in f32, alone and batched; bf16 and f16 teacher-forced. Decoding goes through recorded
// graphs from the second step on.
#include <gtest/gtest.h>

#include <filesystem>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/test_support.hpp"
#include "models/golden_cases.hpp"
#include "models/golden_folders.hpp"

namespace troupe::models::testing {
namespace {

Loaded load_on_device(const std::string& folder, int32_t block_tokens, const std::string& dtype = "auto") {
  auto backend = cuda::CudaBackend::open(0);
  EXPECT_TRUE(backend.ok()) << backend.status().message();
  if (!backend.ok()) return {};
  LoadOptions options;
  options.block_tokens = block_tokens;
  options.dtype = dtype;
  return load(folder, std::move(*backend), options);
}

class GoldenCuda : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { TR_NEEDS_DEVICE(); }
  [[nodiscard]] std::string folder() const { return std::string(kGoldenModels) + "/" + GetParam(); }
  [[nodiscard]] std::vector<Case> cases() const { return cases_of(expected_of(folder())); }
};

TEST_P(GoldenCuda, F32TokensAndLogprobs) {
  for (const int32_t block_tokens : {8, 16}) {
    Loaded m = load_on_device(folder(), block_tokens);
    ASSERT_NE(m.runner, nullptr);
    for (const Case& c : cases()) {
      const auto got = run_case(*m.runner, c, c.prompt.size());
      EXPECT_EQ(got.size(), c.tokens.size());
      expect_answers(c, got, 0);
    }
  }
}

TEST_P(GoldenCuda, BatchedWithOthers) {
  Loaded m = load_on_device(folder(), 16);
  ASSERT_NE(m.runner, nullptr);
  run_together(*m.runner, cases(), expect_answers);
}

TEST_P(GoldenCuda, HalfPrecisionTeacherForced) {
  for (const std::string type : {"bf16", "f16"}) {
    const std::string stored = folder() + "/" + type;  // not every model is stored in it
    Loaded m = std::filesystem::exists(stored + "/config.json") ? load_on_device(stored, 16)
                                                                : load_on_device(folder(), 16, type);
    ASSERT_NE(m.runner, nullptr);
    for (const Case& c : cases()) expect_forced(*m.runner, c, type);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenCuda, ::testing::ValuesIn(golden_names(kGoldenModels)), test_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenCuda);

}  // namespace
}  // namespace troupe::models::testing
