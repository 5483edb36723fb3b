// Scalar conversions between f32 and the two half-width floats, and element access by dtype. For
// references, set-up and tails; the fast paths convert whole vectors.
#pragma once

#include <bit>
#include <cstdint>

#include "base/assert.hpp"
#include "kernels/tensor.hpp"

namespace troupe::cpu {

inline float float_from_bf16(uint16_t h) { return std::bit_cast<float>(uint32_t{h} << 16); }

inline uint16_t bf16_from_float(float f) {
  const auto bits = std::bit_cast<uint32_t>(f);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

inline float float_from_f16(uint16_t h) {
  const uint32_t sign = uint32_t{h & 0x8000U} << 16;
  const uint32_t magnitude = h & 0x7FFFU;
  if (magnitude >= 0x7C00U) {  // infinity or NaN
    return std::bit_cast<float>(sign | 0x7F800000U | ((magnitude & 0x3FFU) << 13));
  }
  // Scaling by 2^112 moves the exponent's bias and makes subnormals normal, exactly.
  const float scaled = std::bit_cast<float>(magnitude << 13) * std::bit_cast<float>(0x77800000U);
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

inline uint16_t f16_from_float(float f) {
  const auto bits = std::bit_cast<uint32_t>(f);
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint16_t>(sign | 0x7E00U);
  if (magnitude >= 0x477FF000U) return static_cast<uint16_t>(sign | 0x7C00U);  // rounds to infinity
  if (magnitude < 0x38800000U) {  // subnormal: adding 0.5 lets the FPU round at bit 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000U));
  }
  const uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U) - 0x38000000U;
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

inline float load_element(DType dtype, const void* data, int64_t index) {
  switch (dtype) {
    case DType::f32: return static_cast<const float*>(data)[index];
    case DType::f16: return float_from_f16(static_cast<const uint16_t*>(data)[index]);
    case DType::bf16: return float_from_bf16(static_cast<const uint16_t*>(data)[index]);
    default: TR_ASSERT(!"not a floating-point dtype that a CPU computes with");
  }
  return 0.0F;
}

inline void store_element(DType dtype, void* data, int64_t index, float value) {
  switch (dtype) {
    case DType::f32: static_cast<float*>(data)[index] = value; return;
    case DType::f16: static_cast<uint16_t*>(data)[index] = f16_from_float(value); return;
    case DType::bf16: static_cast<uint16_t*>(data)[index] = bf16_from_float(value); return;
    default: TR_ASSERT(!"not a floating-point dtype that a CPU computes with");
  }
}

inline float at(const Matrix& m, int64_t row, int64_t col) {
  return load_element(m.dtype, m.data, row * m.stride + col);
}
inline void put(const Matrix& m, int64_t row, int64_t col, float value) {
  store_element(m.dtype, m.data, row * m.stride + col, value);
}

}  // namespace troupe::cpu
