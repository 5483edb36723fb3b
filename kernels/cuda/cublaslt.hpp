// Large matrix products through cuBLASLt, which is opened at run time and never bundled.
//
// Looked for by its soname (a process that has it loaded, the loader's paths), then in the CUDA
// toolkit, then in the nvidia wheels of the Python around this library or of the system.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.hpp"
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

class CublasLt {
 public:
  static Result<std::unique_ptr<CublasLt>> open();
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // Chosen algorithms are remembered by shape. `workspace` belongs to the stream.
  Status multiply(const Gemm& gemm, void* workspace, size_t workspace_bytes, cudaStream_t stream);
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  struct Library;
  struct Plans;
  CublasLt();
  std::string path_;
  std::unique_ptr<Library> library_;
  std::unique_ptr<Plans> plans_;
};

}  // namespace troupe::cuda
