// Few rows: dot products.
#include "kernels/cpu/linear_kernels.hpp"

#include "base/assert.hpp"
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
        total += a[i][tail] * widen(w[j * stride + tail]);
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

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::cpu {

HWY_EXPORT(LinearDot);

void linear_dot(const LinearRows& rows, const WeightRows& weight) {
  HWY_DYNAMIC_DISPATCH(LinearDot)(rows, weight);
}

}  // namespace troupe::cpu
#endif  // HWY_ONCE
