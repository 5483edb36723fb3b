// A small matrix product in registers: kM rows by two vectors,
// out[m][0..2L) (+)= sum over x of a[m][x] * b[x][0..2L). Attention and transposed head weights are
// made of it: the right side is read where it lies, widened on the way.
//
// Vectors are capped at eight lanes: cache blocks are sixteen tokens wide.
#include "kernels/cpu/simd-inl.hpp"

#if defined(TROUPE_CPU_TILE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_CPU_TILE_INL
#undef TROUPE_CPU_TILE_INL
#else
#define TROUPE_CPU_TILE_INL
#endif

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

using T8 = hn::CappedTag<float, 8>;
using T8V = hn::Vec<T8>;
inline constexpr int64_t kT8 = static_cast<int64_t>(hn::MaxLanes(T8()));
inline constexpr int64_t kTileWidth = 2 * kT8;

template <class T>
struct TileArgs {
  const float* a = nullptr;
  int64_t a_stride = 0;
  const T* b = nullptr;
  int64_t b_stride = 0;
  int64_t depth = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
  bool accumulate = false;
};

template <int kM, class T>
HWY_INLINE void tile(const TileArgs<T>& t) {
  constexpr T8 d;
  T8V sum[kM][2];
#pragma GCC unroll 6
  for (int i = 0; i < kM; ++i) {
    sum[i][0] = t.accumulate ? hn::LoadU(d, t.out + i * t.out_stride) : hn::Zero(d);
    sum[i][1] = t.accumulate ? hn::LoadU(d, t.out + i * t.out_stride + kT8) : hn::Zero(d);
  }
  const T* b = t.b;
  for (int64_t x = 0; x < t.depth; ++x, b += t.b_stride) {
    const T8V b0 = load_wide(d, b);
    const T8V b1 = load_wide(d, b + kT8);
#pragma GCC unroll 6
    for (int i = 0; i < kM; ++i) {
      const T8V a = hn::Set(d, t.a[i * t.a_stride + x]);
      sum[i][0] = hn::MulAdd(a, b0, sum[i][0]);
      sum[i][1] = hn::MulAdd(a, b1, sum[i][1]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kM; ++i) {
    hn::StoreU(sum[i][0], d, t.out + i * t.out_stride);
    hn::StoreU(sum[i][1], d, t.out + i * t.out_stride + kT8);
  }
}

// Any number of rows and columns. Columns are rounded up to kTileWidth: b must be readable and out
// writable that far.
template <class T>
void tiles(int64_t rows, int64_t columns, const TileArgs<T>& args) {
  for (int64_t n = 0; n < columns; n += kTileWidth) {
    TileArgs<T> t = args;
    t.b += n;
    t.out += n;
    int64_t m = 0;
    for (; m + 6 <= rows; m += 6) {
      tile<6, T>(t);
      t.a += 6 * t.a_stride;
      t.out += 6 * t.out_stride;
    }
    switch (rows - m) {
      case 1: tile<1, T>(t); break;
      case 2: tile<2, T>(t); break;
      case 3: tile<3, T>(t); break;
      case 4: tile<4, T>(t); break;
      case 5: tile<5, T>(t); break;
      default: break;
    }
  }
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
