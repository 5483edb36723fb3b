#include "kernels/cuda/tensor_map.hpp"

#include <cudaTypedefs.h>

#include "kernels/cuda/gemm_operands.hpp"

namespace troupe::cuda {
namespace {

PFN_cuTensorMapEncodeTiled_v12000 find_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                       cudaEnableDefault, &found) != cudaSuccess ||
      found != cudaDriverEntryPointSuccess) {
    return nullptr;
  }
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

}  // namespace

cudaError_t make_tensor_map(CUtensorMap* map, const void* base, DType dtype,
                            const TensorShape& shape) {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = find_encoder();
  if (encode == nullptr) return cudaErrorNotSupported;
  const CUtensorMapDataType type =
      dtype == DType::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const cuuint32_t steps[5] = {1, 1, 1, 1, 1};
  const CUresult made =
      encode(map, type, static_cast<cuuint32_t>(shape.axes), const_cast<void*>(base), shape.sizes,
             shape.strides_bytes, shape.box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return made == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t map_operands(const GemmOperands& gemm, uint32_t strips, uint32_t rows,
                         CUtensorMap* weight, CUtensorMap* input) {
  const auto n = static_cast<uint64_t>(gemm.n), k = static_cast<uint64_t>(gemm.k);
  const uint64_t row_bytes = k * 2;
  const TensorShape w = {.axes = 4,
                         .sizes = {k, 8, 2, (n + 15) / 16},
                         .strides_bytes = {row_bytes, (gemm.gated_silu ? n / 2 : 8) * row_bytes,
                                           (gemm.gated_silu ? 8 : 16) * row_bytes},
                         .box = {64, 8, 2, strips}};
  const TensorShape x = {.axes = 2,
                         .sizes = {k, static_cast<uint64_t>(gemm.m)},
                         .strides_bytes = {static_cast<uint64_t>(gemm.input_stride) * 2},
                         .box = {64, rows}};
  const cudaError_t made = make_tensor_map(weight, gemm.weight, gemm.dtype, w);
  return made != cudaSuccess ? made : make_tensor_map(input, gemm.input, gemm.dtype, x);
}

}  // namespace troupe::cuda
