#include "kernels/cuda/launch.cuh"

namespace troupe::cuda {
namespace {

__global__ void probe_kernel() {}

}  // namespace

bool has_code_here() {
  cudaFuncAttributes attributes = {};
  const bool has = cudaFuncGetAttributes(&attributes, probe_kernel) == cudaSuccess;
  cudaGetLastError();  // what was found out is no error of the next call
  return has;
}

bool runs_hopper_code() {
  static const bool runs = [] {
    cudaFuncAttributes attributes = {};
    return cudaFuncGetAttributes(&attributes, probe_kernel) == cudaSuccess &&
           attributes.ptxVersion >= 90;
  }();
  return runs;
}

}  // namespace troupe::cuda
