// How every kernel is launched: on a stream, allowed to start while the one before it still runs
// (ptx/grid.cuh says what that asks of a kernel), with all of a multiprocessor's memory as shared
// memory: one that was left another share of it would have to come to rest first.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

namespace troupe::cuda {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  unsigned cluster = 1;  // blocks of a cluster, along x
};

// Whether the code that runs here was compiled for compute capability 9.0: not on older devices,
// and not where a driver makes code from PTX for 8.0. Else the portable kernels run, one after the
// other.
bool runs_hopper_code();
// Whether this build has any code that the current device can run.
bool has_code_here();

template <class... Params, class... Args>
cudaError_t launch(void (*kernel)(Params...), const LaunchShape& shape, cudaStream_t stream,
                   Args&&... args) {
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute attributes[3] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
  attributes[1].val.sharedMemCarveout = cudaSharedmemCarveoutMaxShared;
  attributes[2].id = cudaLaunchAttributeClusterDimension;
  attributes[2].val.clusterDim = {shape.cluster, 1, 1};
  config.attrs = attributes;
  config.numAttrs = !runs_hopper_code() ? 0 : shape.cluster > 1 ? 3 : 2;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
}

// Kernels that use more than 48 KiB of shared memory ask for it once; repeating costs little.
template <class... Params>
cudaError_t allow_shared(void (*kernel)(Params...), size_t bytes) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

}  // namespace troupe::cuda

// Leaves the function with a CUDA error, if `expr` is one.
#define TR_CUDA_TRY(expr)                                                                 \
  do {                                                                                    \
    if (const cudaError_t tr_error_ = (expr); tr_error_ != cudaSuccess) return tr_error_; \
  } while (false)
