// cuBLASLt for the benches, behind a header that .cu files (C++17) can include.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <vector>

namespace troupe::bench {

// output[m, n] = input[m, k] * weight[n, k]^T in bf16; ends the program when cuBLASLt is missing.
class LargeGemm {
 public:
  LargeGemm();
  ~LargeGemm();
  // Chooses the algorithm for this shape by timing it over the weights (kernels/cuda/cublaslt.hpp).
  void tune(int m, int n, int k, const void* input, const std::vector<const void*>& weights,
            void* output, cudaStream_t stream, bool f32_output = false);
  void multiply(int m, int n, int k, const void* input, const void* weight, void* output,
                cudaStream_t stream, bool f32_output = false);

 private:
  struct Held;
  std::unique_ptr<Held> held_;
};

}  // namespace troupe::bench
