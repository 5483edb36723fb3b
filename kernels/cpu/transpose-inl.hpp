// kSquare rows by kSquare columns become columns, widened to f32: to[x * to_stride + row].
#include "kernels/cpu/simd-inl.hpp"

#if defined(TROUPE_CPU_TRANSPOSE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_CPU_TRANSPOSE_INL
#undef TROUPE_CPU_TRANSPOSE_INL
#else
#define TROUPE_CPU_TRANSPOSE_INL
#endif

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
using F4 = hn::CappedTag<float, 4>;
inline constexpr F4 k4;
#endif

#if HWY_TARGET <= HWY_AVX2
inline constexpr int64_t kSquare = 8;
template <class T>
HWY_INLINE void transpose_square(const T* row, int64_t stride, float* to, int64_t to_stride) {
  const hn::CappedTag<float, 8> d;
  __m256 r[8];
  for (int64_t i = 0; i < 8; ++i) r[i] = load_wide(d, row + i * stride).raw;
  __m256 t[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
    r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(to + (i + 4) * to_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}
#elif HWY_TARGET != HWY_SCALAR
inline constexpr int64_t kSquare = 4;
template <class T>
HWY_INLINE void transpose_square(const T* row, int64_t stride, float* to, int64_t to_stride) {
  const auto a = load_wide(k4, row);
  const auto b = load_wide(k4, row + stride);
  const auto c = load_wide(k4, row + 2 * stride);
  const auto d = load_wide(k4, row + 3 * stride);
  const auto ab = hn::InterleaveLower(k4, a, b);
  const auto cd = hn::InterleaveLower(k4, c, d);
  const auto ab_high = hn::InterleaveUpper(k4, a, b);
  const auto cd_high = hn::InterleaveUpper(k4, c, d);
  hn::StoreU(hn::ConcatLowerLower(k4, cd, ab), k4, to);
  hn::StoreU(hn::ConcatUpperUpper(k4, cd, ab), k4, to + to_stride);
  hn::StoreU(hn::ConcatLowerLower(k4, cd_high, ab_high), k4, to + 2 * to_stride);
  hn::StoreU(hn::ConcatUpperUpper(k4, cd_high, ab_high), k4, to + 3 * to_stride);
}
#else
inline constexpr int64_t kSquare = 1;
template <class T>
HWY_INLINE void transpose_square(const T* row, int64_t, float* to, int64_t) {
  *to = widen(*row);
}
#endif

// The same for any number of rows and columns.
template <class T>
void transpose(const T* from, int64_t stride, int64_t rows, int64_t cols, float* to,
               int64_t to_stride) {
  const int64_t whole_rows = rows / kSquare * kSquare;
  const int64_t whole_cols = cols / kSquare * kSquare;
  for (int64_t x = 0; x < whole_cols; x += kSquare) {
    for (int64_t r = 0; r < whole_rows; r += kSquare) {
      transpose_square(from + r * stride + x, stride, to + x * to_stride + r, to_stride);
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t x = r < whole_rows ? whole_cols : 0; x < cols; ++x) {
      to[x * to_stride + r] = widen(from[r * stride + x]);
    }
  }
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
