// What timing products shares: the product that is timed, on memory of its own, and when a kernel
// of ours is worth taking.
#pragma once

#include <vector>

#include "kernels/cuda/cuda_backend.hpp"

namespace troupe::cuda {

struct CudaBackend::Bench {
  std::vector<const void*> weights;
  Gemm gemm;
  SumsTo sums_to = SumsTo::output;
  cudaEvent_t begin = nullptr, end = nullptr;
};

// Between two of these the upper one's choice serves (and more rows: tuning.cpp).
constexpr int kRowsSkinny[] = {8, 16, 32};
constexpr double kNever = 1e30;  // milliseconds of what cannot run
// Timings of equal kernels differ by less.
constexpr double kOursWorthwhile = 0.99;

}  // namespace troupe::cuda
