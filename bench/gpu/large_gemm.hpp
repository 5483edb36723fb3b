// cuBLASLt for the benches, behind a header that .cu files (C++17) can include.
#pragma once

#include <cuda_runtime.h>

#include <memory>

namespace troupe::bench {

// output[m, n] = input[m, k] * weight[n, k]^T in bf16; ends the program when cuBLASLt is missing.
class LargeGemm {
 public:
  LargeGemm();
  ~LargeGemm();
  void multiply(int m, int n, int k, const void* input, const void* weight, void* output,
                cudaStream_t stream, bool f32_output = false);

 private:
  struct Held;
  std::unique_ptr<Held> held_;
};

}  // namespace troupe::bench
