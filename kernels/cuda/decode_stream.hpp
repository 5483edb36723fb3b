// decode_attention on compute capability 9.0: tiles come by bulk tensor copies.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/attention.hpp"

namespace troupe::cuda {

// What decode_attention_fits() admits. T: __half or __nv_bfloat16; kDim: 64, 128, 256.
template <class T, int kDim>
cudaError_t stream_decode(const DecodeAttention& args, int multiprocessors, cudaStream_t stream);

}  // namespace troupe::cuda
