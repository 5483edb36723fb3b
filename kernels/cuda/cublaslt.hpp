// Large matrix products through cuBLASLt, which is opened at run time and never bundled.
//
// Looked for by its soname (a process that has it loaded, the loader's paths), then in the CUDA
// toolkit, then in the nvidia wheels of the Python around this library or of the system.
//
// Its own first guess at an algorithm is often several percent from the best for tens to hundreds
// of rows, so shapes that matter are tuned once, when a model is loaded: the candidates are timed
// on the model's weights, and products of nearby row counts take the winner.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.hpp"
#include "kernels/cuda/launch_clock.hpp"
#include "kernels/cuda/race.hpp"
#include "kernels/tensor.hpp"

namespace troupe::cuda {

// output[m, n] = input[m, k] * weight[n, k]^T (+ bias[n])
struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::bf16;
  DType output_dtype = DType::bf16;  // dtype, or f32
  const void* weight = nullptr;
  const void* input = nullptr;
  int64_t input_stride = 0;
  const void* bias = nullptr;
  void* output = nullptr;
  int64_t output_stride = 0;
};

// How often a product is launched to say how long it takes: long ones show their speed at once.
struct Effort {
  int launches = 6;  // of a turn
  RaceRules rules;
};
Effort effort_for(const Gemm& gemm);

class CublasLt {
 public:
  static Result<std::unique_ptr<CublasLt>> open();
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // Chosen algorithms are remembered by shape. `workspace` belongs to the stream.
  Status multiply(const Gemm& gemm, void* workspace, size_t workspace_bytes, cudaStream_t stream);
  // Times algorithms for this shape over the clock's weights and keeps the best for it and for the
  // rows up to the next tuned shape below; gives its milliseconds. Blocks; not while a graph is
  // recorded.
  Result<double> tune(const Gemm& gemm, void* workspace, size_t workspace_bytes, LaunchClock& clock,
                      cudaStream_t stream);
  // Launches what this shape will take, for a few rows of it: the first launch of a kernel loads its
  // code, and stops the device for milliseconds.
  Status load_guess(const Gemm& gemm, void* workspace, size_t workspace_bytes, cudaStream_t stream);
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  struct Library;
  struct Plans;
  struct Plan;
  CublasLt();
  Plan describe(const Gemm& gemm) const;
  void forget(const Plan& plan) const;
  Status choose(const Gemm& gemm, size_t workspace_bytes, Plan& plan) const;
  bool run(const Plan& plan, const Gemm& gemm, void* workspace, size_t workspace_bytes,
           cudaStream_t stream) const;
  std::string path_;
  std::unique_ptr<Library> library_;
  std::unique_ptr<Plans> plans_;
};

}  // namespace troupe::cuda
