#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "kernels/cuda/cuda_backend.hpp"
#include "vision/golden_backend.hpp"

namespace troupe::vision::testing {

std::unique_ptr<Backend> open_golden_backend() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return nullptr;
  auto opened = cuda::CudaBackend::open(0);
  EXPECT_TRUE(opened.ok()) << opened.status().message();
  return opened.ok() ? std::move(*opened) : nullptr;
}

}  // namespace troupe::vision::testing
