// Conversions between the dtypes that weights come in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/tensor.hpp"

namespace troupe::models {

float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);  // to nearest, ties to even
uint16_t float_to_bfloat(float value);  // likewise
inline float bfloat_to_float(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16U);
}

// f32, f16 and bf16 in any direction. Neither side needs to be aligned.
void convert(const void* from, DType from_dtype, void* to, DType to_dtype, size_t count);

}  // namespace troupe::models
