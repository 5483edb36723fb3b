// The ops suite: holds any backend's ops against their plain definitions, on random ragged and
// empty shapes, odd strides and several dtypes. Outputs are poisoned first, a NaN never passes, and
// what lies between the columns of an output and its stride must stay untouched.
//
// A backend outside this tree links this library and calls run_ops_suite(); with GoogleTest,
// kernels/ops_suite/gtest.hpp makes one test of every case and dtype.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.hpp"

namespace troupe::ops_suite {

class Lab;

struct OpsCase {
  const char* name;
  void (*run)(Lab& lab);
};
// Every case, in the order of backend.hpp.
std::span<const OpsCase> ops_cases();

struct OpsSuiteOptions {
  std::vector<DType> weights = {DType::f32, DType::f16, DType::bf16};
  std::string only;  // cases whose name contains this; empty: all
  uint64_t seed = 1;
  int32_t rounds = 1;  // each with shapes and values of its own
};

// One comparison that failed.
struct OpsFinding {
  std::string what;  // case, dtype, seed, the matrix compared, and what was wrong with it
  double error = 0.0;
  double tolerance = 0.0;
};
struct OpsReport {
  std::vector<OpsFinding> failures;
  int64_t comparisons = 0;
  double worst = 0.0;  // error / tolerance of the worst that passed
  [[nodiscard]] bool ok() const { return failures.empty() && comparisons > 0; }
};

OpsReport run_ops_case(Backend& backend, const OpsCase& one, DType weights, uint64_t seed);
OpsReport run_ops_suite(Backend& backend, const OpsSuiteOptions& options);
std::string describe(const OpsReport& report);

}  // namespace troupe::ops_suite
