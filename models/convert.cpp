#include "models/convert.hpp"

#include <cmath>
#include <cstring>

namespace troupe::models {
namespace {

float load(const std::byte* at, DType dtype) {
  if (dtype == DType::f32) {
    float v = 0;
    std::memcpy(&v, at, sizeof v);
    return v;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  return dtype == DType::f16 ? half_to_float(bits) : bfloat_to_float(bits);
}

void store(std::byte* at, DType dtype, float value) {
  if (dtype == DType::f32) {
    std::memcpy(at, &value, sizeof value);
    return;
  }
  const uint16_t bits = dtype == DType::f16 ? float_to_half(value) : float_to_bfloat(value);
  std::memcpy(at, &bits, sizeof bits);
}

}  // namespace

float half_to_float(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000U) << 16U;
  const uint32_t exponent = (bits >> 10U) & 0x1FU;
  const uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 0xFFU : exponent + 112U;
  return __builtin_bit_cast(float, sign | (wide << 23U) | (mantissa << 13U));
}

uint16_t float_to_half(float value) {
  const auto bits = __builtin_bit_cast(uint32_t, value);
  const auto sign = static_cast<uint16_t>((bits >> 16U) & 0x8000U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint16_t>(sign | 0x7E00U);
  if (magnitude >= 0x477FF000U) return static_cast<uint16_t>(sign | 0x7C00U);
  if (magnitude < 0x38800000U) {  // subnormal: the sum rounds at the right bit
    const float shifted = __builtin_bit_cast(float, magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (__builtin_bit_cast(uint32_t, shifted) - 0x3F000000U));
  }
  const uint32_t rounded = magnitude - 0x38000000U + 0xFFFU + ((magnitude >> 13U) & 1U);
  return static_cast<uint16_t>(sign | (rounded >> 13U));
}

uint16_t float_to_bfloat(float value) {
  const auto bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<uint16_t>((bits >> 16U) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

namespace {

// The pair that pictures take, pixels in and rows out: blocks of a fixed size, which compilers make
// vector code of.
constexpr size_t kBlock = 32;

size_t floats_to_bfloats(const std::byte* in, std::byte* out, size_t count) {
  uint32_t bits[kBlock];
  uint16_t halves[kBlock];
  size_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    std::memcpy(bits, in + i * sizeof(uint32_t), sizeof bits);
    for (size_t k = 0; k < kBlock; ++k) {
      const uint32_t b = bits[k];
      const uint32_t rounded = (b + 0x7FFFU + ((b >> 16U) & 1U)) >> 16U;
      const uint32_t quiet = (b >> 16U) | 0x40U;
      halves[k] = static_cast<uint16_t>((b & 0x7FFFFFFFU) > 0x7F800000U ? quiet : rounded);
    }
    std::memcpy(out + i * sizeof(uint16_t), halves, sizeof halves);
  }
  return i;
}

size_t bfloats_to_floats(const std::byte* in, std::byte* out, size_t count) {
  uint32_t bits[kBlock];
  uint16_t halves[kBlock];
  size_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    std::memcpy(halves, in + i * sizeof(uint16_t), sizeof halves);
    for (size_t k = 0; k < kBlock; ++k) bits[k] = static_cast<uint32_t>(halves[k]) << 16U;
    std::memcpy(out + i * sizeof(uint32_t), bits, sizeof bits);
  }
  return i;
}

}  // namespace

void convert(const void* from, DType from_dtype, void* to, DType to_dtype, size_t count) {
  if (count == 0) return;  // what is empty may lie nowhere
  const auto* in = static_cast<const std::byte*>(from);
  auto* out = static_cast<std::byte*>(to);
  if (from_dtype == to_dtype) {
    std::memcpy(out, in, count * dtype_bytes(to_dtype));
    return;
  }
  const size_t in_step = dtype_bytes(from_dtype), out_step = dtype_bytes(to_dtype);
  size_t done = 0;
  if (from_dtype == DType::f32 && to_dtype == DType::bf16) done = floats_to_bfloats(in, out, count);
  if (from_dtype == DType::bf16 && to_dtype == DType::f32) done = bfloats_to_floats(in, out, count);
  for (size_t i = done; i < count; ++i) {
    store(out + i * out_step, to_dtype, load(in + i * in_step, from_dtype));
  }
}

}  // namespace troupe::models
