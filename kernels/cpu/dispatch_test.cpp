// The instruction sets that a machine may lack: the ops on each that this one has, down to the
// portable baseline, as a machine without the better ones would choose. (One with AVX1 only takes
// SSE4.)
#include <gtest/gtest.h>

#include "hwy/targets.h"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/ops_suite/ops_suite.hpp"

namespace troupe::cpu {
namespace {

// Chooses among these sets until it goes out of scope.
class OnlyTargets {
 public:
  explicit OnlyTargets(int64_t targets) { choose(targets); }
  ~OnlyTargets() { choose(0); }
  OnlyTargets(const OnlyTargets&) = delete;
  OnlyTargets& operator=(const OnlyTargets&) = delete;

 private:
  static void choose(int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

#if HWY_ARCH_X86
constexpr int64_t kSets[] = {HWY_AVX3, HWY_AVX2, HWY_SSE4, HWY_SCALAR};
#else
constexpr int64_t kSets[] = {HWY_STATIC_TARGET, HWY_SCALAR};
#endif

class InstructionSets : public testing::TestWithParam<int64_t> {};

TEST_P(InstructionSets, EqualPlain) {
  if (GetParam() != HWY_SCALAR && (hwy::SupportedTargets() & GetParam()) == 0) {
    GTEST_SKIP() << "this machine has no " << hwy::TargetName(GetParam());
  }
  const OnlyTargets only(GetParam() | HWY_SCALAR);
  auto backend = open_cpu_backend({.threads = 2});
  ASSERT_TRUE(backend.ok());
  ops_suite::OpsSuiteOptions options;
  options.seed = 31;
  const auto report = ops_suite::run_ops_suite(**backend, options);
  EXPECT_TRUE(report.ok()) << ops_suite::describe(report);
}

std::string set_name(const testing::TestParamInfo<int64_t>& one) {
  return hwy::TargetName(one.param);
}
INSTANTIATE_TEST_SUITE_P(Cpu, InstructionSets, testing::ValuesIn(kSets), set_name);

}  // namespace
}  // namespace troupe::cpu
