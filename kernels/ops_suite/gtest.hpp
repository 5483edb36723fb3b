// The ops suite as parametrised GoogleTest cases:
//
//   TROUPE_OPS_SUITE(Cpu, open_my_backend);  // Result<std::unique_ptr<Backend>> open_my_backend()
//
// makes one test of every case and weight dtype, each with a few seeds.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>

#include "kernels/ops_suite/ops_suite.hpp"

namespace troupe::ops_suite {

using CaseAndDtype = std::tuple<OpsCase, DType>;

inline std::string test_name(const testing::TestParamInfo<CaseAndDtype>& info) {
  return std::string(std::get<0>(info.param).name) + "_" + dtype_name(std::get<1>(info.param));
}

template <class Open>
void check_case(Open&& open, const CaseAndDtype& param) {
  auto backend = open();
  ASSERT_TRUE(backend.ok()) << backend.status().message();
  constexpr uint64_t kSeeds = 2;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const OpsReport report =
        run_ops_case(**backend, std::get<0>(param), std::get<1>(param), seed);
    EXPECT_TRUE(report.ok()) << describe(report);
  }
}

}  // namespace troupe::ops_suite

#define TROUPE_OPS_SUITE(Name, open)                                                           \
  class Name##Ops : public testing::TestWithParam<::troupe::ops_suite::CaseAndDtype> {};       \
  TEST_P(Name##Ops, EqualsPlain) { ::troupe::ops_suite::check_case(open, GetParam()); }        \
  INSTANTIATE_TEST_SUITE_P(                                                                    \
      Suite, Name##Ops,                                                                        \
      testing::Combine(testing::ValuesIn(::troupe::ops_suite::ops_cases().begin(),             \
                                         ::troupe::ops_suite::ops_cases().end()),              \
                       testing::Values(::troupe::DType::f32, ::troupe::DType::f16,             \
                                       ::troupe::DType::bf16)),                                \
      ::troupe::ops_suite::test_name)
