#include "kernels/cpu/linear_kernels.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/assert.hpp"
#include "kernels/cpu/half.hpp"
#include "hwy/cache_control.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_kernels.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

constexpr F32 kD;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(kD));
constexpr int64_t kPanelWidth = 2 * kLanes;  // columns of the micro-kernel

template <class T>
float to_float(T x) {
  if constexpr (std::is_same_v<T, float>) return x;
  else if constexpr (std::is_same_v<T, hwy::float16_t>) return float_from_f16(x.bits);
  else return float_from_bf16(x.bits);
}

// ---- few rows ----

// kM input rows times kN weight rows. With `ahead`, the weight rows behind these are fetched
// meanwhile: a row is about a page long, which is where the hardware's own fetching stops.
template <int kM, int kN, class T>
HWY_INLINE void dot_tile(const LinearRows& rows, int64_t m, const WeightRows& weight, int64_t n,
                         bool ahead) {
  constexpr int64_t kRun = 4 * kLanes;
  constexpr int64_t kPerLine = 64 / static_cast<int64_t>(sizeof(T));
  const int64_t stride = weight.stride;
  const T* w = static_cast<const T*>(weight.data) + n * stride;
  const float* a[kM];
  for (int i = 0; i < kM; ++i) a[i] = rows.in(m + i);
  F32V sum[kM][kN];
  for (int i = 0; i < kM; ++i) {
    for (int j = 0; j < kN; ++j) sum[i][j] = hn::Zero(kD);
  }
  const auto step = [&](int64_t k) HWY_ATTR {
    F32V b[kN];
#pragma GCC unroll 8
    for (int j = 0; j < kN; ++j) b[j] = load_wide(kD, w + j * stride + k);
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) {
      const F32V x = hn::LoadU(kD, a[i] + k);
#pragma GCC unroll 8
      for (int j = 0; j < kN; ++j) sum[i][j] = hn::MulAdd(x, b[j], sum[i][j]);
    }
  };
  int64_t k = 0;
  if (ahead) {
    for (; k + kRun <= weight.k; k += kRun) {
      for (int j = kN; j < 2 * kN; ++j) {
        for (int64_t x = 0; x < kRun; x += kPerLine) hwy::Prefetch(w + j * stride + k + x);
      }
      for (int64_t i = 0; i < kRun; i += kLanes) step(k + i);
    }
  }
  for (; k + kLanes <= weight.k; k += kLanes) step(k);
  for (int i = 0; i < kM; ++i) {
    float* out = rows.out(m + i) + n;
    for (int j = 0; j < kN; ++j) {
      float total = sum_lanes(sum[i][j]);
      for (int64_t tail = k; tail < weight.k; ++tail) {
        total += a[i][tail] * to_float(w[j * stride + tail]);
      }
      out[j] = weight.bias != nullptr ? total + weight.bias[n + j] : total;
    }
  }
}

// kM rows against all weight rows: the caller gives few enough that they stay in the second-level
// cache for the rows that follow.
template <int kM, class T>
void dot_group(const LinearRows& rows, int64_t m, const WeightRows& weight, bool first_touch) {
  int64_t n = 0;
  // Four by three sums, three weights and an input fill sixteen registers exactly.
  for (; n + 3 <= weight.n; n += 3) {
    dot_tile<kM, 3, T>(rows, m, weight, n, first_touch && n + 6 <= weight.n);
  }
  for (; n < weight.n; ++n) dot_tile<kM, 1, T>(rows, m, weight, n, false);
}

template <class T>
void dot_all(const LinearRows& rows, const WeightRows& weight) {
  int64_t m = 0;
  for (; m + 4 <= rows.count; m += 4) dot_group<4, T>(rows, m, weight, m == 0);
  switch (rows.count - m) {
    case 1: return dot_group<1, T>(rows, m, weight, m == 0);
    case 2: return dot_group<2, T>(rows, m, weight, m == 0);
    case 3: return dot_group<3, T>(rows, m, weight, m == 0);
    default: return;
  }
}

void LinearDot(const LinearRows& rows, const WeightRows& weight) {
  switch (weight.dtype) {
    case DType::f32: return dot_all<float>(rows, weight);
    case DType::f16: return dot_all<hwy::float16_t>(rows, weight);
    case DType::bf16: return dot_all<hwy::bfloat16_t>(rows, weight);
    default: TR_ASSERT(!"placed weights are f32, f16 or bf16");
  }
}

// ---- many rows ----

void PackInputs(const LinearRows& rows, int64_t k, int64_t tile_begin, int64_t tile_end,
                float* packed) {
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    float* to = packed + tile * k * kTileRows;
    const float* from[kTileRows];
    for (int64_t i = 0; i < kTileRows; ++i) {  // rows beyond the last repeat it
      from[i] = rows.in(std::min(tile * kTileRows + i, rows.count - 1));
    }
    for (int64_t x = 0; x < k; ++x, to += kTileRows) {
      for (int64_t i = 0; i < kTileRows; ++i) to[i] = from[i][x];
    }
  }
}

// Columns [k, k + depth) of up to kPanelWidth weight rows, transposed: panel[x][row].
template <class T>
void pack_panel(const WeightRows& weight, int64_t n, int64_t k, int64_t depth, float* panel) {
  const int64_t width = std::min(kPanelWidth, weight.n - n);
  const T* w = static_cast<const T*>(weight.data) + n * weight.stride + k;
  if (width < kPanelWidth) std::memset(panel, 0, static_cast<size_t>(depth * kPanelWidth) * 4);
  int64_t begin = 0;
#if HWY_TARGET == HWY_AVX2
  // Eight rows by eight columns at a time: converted, transposed in registers.
  if (width == kPanelWidth) {
    for (; begin + 8 <= depth; begin += 8) {
      for (int64_t half = 0; half < 2; ++half) {
        const T* row = w + half * 8 * weight.stride + begin;
        __m256 r[8];
        for (int64_t i = 0; i < 8; ++i) r[i] = load_wide(kD, row + i * weight.stride).raw;
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
        float* to = panel + begin * kPanelWidth + half * 8;
        for (int i = 0; i < 4; ++i) {
          _mm256_storeu_ps(to + i * kPanelWidth, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
          _mm256_storeu_ps(to + (i + 4) * kPanelWidth, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
        }
      }
    }
  }
#endif
  for (int64_t row = 0; row < width; ++row) {
    for (int64_t x = begin; x < depth; ++x) {
      panel[x * kPanelWidth + row] = to_float(w[row * weight.stride + x]);
    }
  }
}

// Six input rows times one panel: out[6][kPanelWidth] (+)= packed[x][6] * panel[x][kPanelWidth].
HWY_INLINE void micro_tile(const float* packed, const float* panel, int64_t depth,
                           F32V (&sum)[kTileRows][2]) {
  for (int64_t x = 0; x < depth; ++x, packed += kTileRows, panel += kPanelWidth) {
    const F32V b0 = hn::LoadU(kD, panel);
    const F32V b1 = hn::LoadU(kD, panel + kLanes);
#pragma GCC unroll 6
    for (int i = 0; i < kTileRows; ++i) {
      const F32V a = hn::Set(kD, packed[i]);
      sum[i][0] = hn::MulAdd(a, b0, sum[i][0]);
      sum[i][1] = hn::MulAdd(a, b1, sum[i][1]);
    }
  }
}

// A tile with all its six rows and all its columns, straight into the output.
void full_tile(const float* packed, const float* panel, int64_t depth, float* const* out,
               const float* start) {
  F32V sum[kTileRows][2];
  for (int i = 0; i < kTileRows; ++i) {
    const float* from = start != nullptr ? start : out[i];
    sum[i][0] = hn::LoadU(kD, from);
    sum[i][1] = hn::LoadU(kD, from + kLanes);
  }
  micro_tile(packed, panel, depth, sum);
  for (int i = 0; i < kTileRows; ++i) {
    hn::StoreU(sum[i][0], kD, out[i]);
    hn::StoreU(sum[i][1], kD, out[i] + kLanes);
  }
}

struct PanelPlace {
  int64_t n = 0;      // first column
  int64_t depth = 0;  // of this panel
  bool first = false; // starts the sums, from the bias
};

void panel_times_rows(const float* packed, int64_t k, int64_t k_begin, const float* panel,
                      const LinearRows& rows, const WeightRows& weight, const PanelPlace& at) {
  const int64_t width = std::min(kPanelWidth, weight.n - at.n);
  alignas(64) float start[kPanelWidth] = {};
  if (at.first && weight.bias != nullptr) std::copy_n(weight.bias + at.n, width, start);
  alignas(64) float spare[kTileRows][kPanelWidth];
  for (int64_t m = 0; m < rows.count; m += kTileRows) {
    const int64_t height = std::min(kTileRows, rows.count - m);
    const float* a = packed + m * k + k_begin * kTileRows;
    float* out[kTileRows];
    if (height == kTileRows && width == kPanelWidth) {
      for (int i = 0; i < kTileRows; ++i) out[i] = rows.out(m + i) + at.n;
      full_tile(a, panel, at.depth, out, at.first ? start : nullptr);
      continue;
    }
    for (int64_t i = 0; i < kTileRows; ++i) {
      out[i] = spare[i];
      if (i < height && !at.first) std::copy_n(rows.out(m + i) + at.n, width, spare[i]);
    }
    full_tile(a, panel, at.depth, out, at.first ? start : nullptr);
    for (int64_t i = 0; i < height; ++i) std::copy_n(spare[i], width, rows.out(m + i) + at.n);
  }
}

template <class T>
void packed_all(const float* packed, const LinearRows& rows, const WeightRows& weight,
                float* panel) {
  for (int64_t k = 0; k < weight.k; k += kPanelDepth) {
    const int64_t depth = std::min(kPanelDepth, weight.k - k);
    for (int64_t n = 0; n < weight.n; n += kPanelWidth) {
      pack_panel<T>(weight, n, k, depth, panel);
      panel_times_rows(packed, weight.k, k, panel, rows, weight, {n, depth, k == 0});
    }
  }
}

void LinearPacked(const float* packed, const LinearRows& rows, const WeightRows& weight,
                  float* panel) {
  switch (weight.dtype) {
    case DType::f32: return packed_all<float>(packed, rows, weight, panel);
    case DType::f16: return packed_all<hwy::float16_t>(packed, rows, weight, panel);
    case DType::bf16: return packed_all<hwy::bfloat16_t>(packed, rows, weight, panel);
    default: TR_ASSERT(!"placed weights are f32, f16 or bf16");
  }
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::cpu {

HWY_EXPORT(LinearDot);
HWY_EXPORT(PackInputs);
HWY_EXPORT(LinearPacked);

void linear_dot(const LinearRows& rows, const WeightRows& weight) {
  HWY_DYNAMIC_DISPATCH(LinearDot)(rows, weight);
}
void pack_inputs(const LinearRows& rows, int64_t k, int64_t tile_begin, int64_t tile_end,
                 float* packed) {
  HWY_DYNAMIC_DISPATCH(PackInputs)(rows, k, tile_begin, tile_end, packed);
}
void linear_packed(const float* packed, const LinearRows& rows, const WeightRows& weight,
                   float* panel) {
  HWY_DYNAMIC_DISPATCH(LinearPacked)(packed, rows, weight, panel);
}

}  // namespace troupe::cpu
#endif  // HWY_ONCE
