#include "kernels/cuda/launch.cuh"

namespace troupe::cuda {
namespace {

__global__ void probe_kernel() {}

// What the current device's code was compiled for: 90 is compute capability 9.0; 0: there is none.
int code_here() {
  cudaFuncAttributes attributes = {};
  const bool found = cudaFuncGetAttributes(&attributes, probe_kernel) == cudaSuccess;
  cudaGetLastError();  // what was found out is no error of the next call
  return found ? attributes.ptxVersion : 0;
}

}  // namespace

bool has_code_here() {
  return code_here() > 0;
}

bool runs_hopper_code() {
  static const bool runs = code_here() >= 90;
  return runs;
}

}  // namespace troupe::cuda
