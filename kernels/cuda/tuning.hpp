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
// The cuts of skinny_gemm that are timed for so many rows: where a tile's parts meet in it, and where
// whoever reads the product adds them up.
std::vector<SkinnyCut> cuts_that_meet(int rows);
std::vector<SkinnyCut> cuts_left_apart(int rows);
constexpr double kNever = 1e30;  // milliseconds of what cannot run
// Timings of equal kernels differ by less.
constexpr double kOursWorthwhile = 0.99;

}  // namespace troupe::cuda
