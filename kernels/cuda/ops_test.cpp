// Every op of the CUDA backend against its plain definition (kernels/ops_suite).
#include <gtest/gtest.h>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/ops_suite/gtest.hpp"

namespace troupe::cuda {
namespace {

// One backend serves all cases; without a device every case is skipped.
Backend* the_backend() {
  static const std::unique_ptr<Backend> backend = []() -> std::unique_ptr<Backend> {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return nullptr;
    auto opened = CudaBackend::open(0);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    return opened.ok() ? std::move(*opened) : nullptr;
  }();
  return backend.get();
}

class CudaOps : public ::testing::TestWithParam<ops_suite::CaseAndDtype> {};

TEST_P(CudaOps, EqualsPlain) {
  Backend* backend = the_backend();
  if (backend == nullptr) GTEST_SKIP() << "no CUDA device on this machine";
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const ops_suite::OpsReport report =
        ops_suite::run_ops_case(*backend, std::get<0>(GetParam()), std::get<1>(GetParam()), seed);
    EXPECT_TRUE(report.ok()) << ops_suite::describe(report);
  }
}

INSTANTIATE_TEST_SUITE_P(Suite, CudaOps,
                         ::testing::Combine(::testing::ValuesIn(ops_suite::ops_cases().begin(),
                                                                ops_suite::ops_cases().end()),
                                            ::testing::Values(DType::f32, DType::f16, DType::bf16)),
                         ops_suite::test_name);

}  // namespace
}  // namespace troupe::cuda
