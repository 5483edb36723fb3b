// Tensor descriptors for the bulk copy engine, made through the driver without linking it.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/tensor.hpp"

namespace troupe::cuda {

// Up to five axes, the innermost first and contiguous; strides (bytes) from the second axis on.
struct TensorShape {
  int axes = 0;
  uint64_t sizes[5] = {};
  uint64_t strides_bytes[4] = {};
  uint32_t box[5] = {};
};

// 16-bit elements, boxes whose rows are 128 bytes under the 128-byte swizzle, zeros outside.
cudaError_t make_tensor_map(CUtensorMap* map, const void* base, DType dtype,
                            const TensorShape& shape);

// The operands of a product, 64 values of k at a time: `strips` of 16 weight rows (with the gate
// inside, 8 of the gate and the 8 of what it opens) and `rows` of the input.
struct GemmOperands;
cudaError_t map_operands(const GemmOperands& gemm, uint32_t strips, uint32_t rows,
                         CUtensorMap* weight, CUtensorMap* input);

}  // namespace troupe::cuda
