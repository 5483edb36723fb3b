// norm: one pass adds the residual and sums the squares (or the mean), one scales.
#include "kernels/cpu/ops.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.hpp"

#include <cmath>

namespace troupe::cpu {
#ifndef TROUPE_CPU_NORM_ROW
#define TROUPE_CPU_NORM_ROW
// One group of one row.
struct NormRow {
  const float* input = nullptr;
  float* residual = nullptr;  // or null
  const float* weight = nullptr;
  const float* bias = nullptr;
  float* output = nullptr;
  int64_t n = 0;
  float weight_offset = 0.0F;
  float eps = 0.0F;
  bool centred = false;
};
#endif
}  // namespace troupe::cpu

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

constexpr F32 kD;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(kD));

// Sum of f(x - mean) over a row: the mean needs x, the variance its square.
float sum_of(const float* x, int64_t n) {
  F32V sum = hn::Zero(kD);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum = hn::Add(sum, hn::LoadU(kD, x + i));
  float total = sum_lanes(sum);
  for (; i < n; ++i) total += x[i];
  return total;
}

float squares_of(const float* x, int64_t n, float mean) {
  const F32V centre = hn::Set(kD, mean);
  F32V a = hn::Zero(kD);
  F32V b = hn::Zero(kD);
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const F32V x0 = hn::Sub(hn::LoadU(kD, x + i), centre);
    const F32V x1 = hn::Sub(hn::LoadU(kD, x + i + kLanes), centre);
    a = hn::MulAdd(x0, x0, a);
    b = hn::MulAdd(x1, x1, b);
  }
  float total = sum_lanes(hn::Add(a, b));
  for (; i < n; ++i) total += (x[i] - mean) * (x[i] - mean);
  return total;
}

void Norm(const NormRow& r) {
  const float* x = r.input;
  if (r.residual != nullptr) {
    int64_t i = 0;
    for (; i + kLanes <= r.n; i += kLanes) {
      hn::StoreU(hn::Add(hn::LoadU(kD, r.residual + i), hn::LoadU(kD, r.input + i)), kD,
                 r.residual + i);
    }
    for (; i < r.n; ++i) r.residual[i] += r.input[i];
    x = r.residual;
  }
  const auto count = static_cast<float>(r.n);
  const float mean = r.centred ? sum_of(x, r.n) / count : 0.0F;
  const float scale = 1.0F / std::sqrt(squares_of(x, r.n, mean) / count + r.eps);
  const F32V vmean = hn::Set(kD, mean);
  const F32V vscale = hn::Set(kD, scale);
  const F32V offset = hn::Set(kD, r.weight_offset);
  int64_t i = 0;
  for (; i + kLanes <= r.n; i += kLanes) {
    F32V y = hn::Mul(hn::Sub(hn::LoadU(kD, x + i), vmean), vscale);
    if (r.weight != nullptr) y = hn::Mul(y, hn::Add(hn::LoadU(kD, r.weight + i), offset));
    if (r.bias != nullptr) y = hn::Add(y, hn::LoadU(kD, r.bias + i));
    hn::StoreU(y, kD, r.output + i);
  }
  for (; i < r.n; ++i) {
    float y = (x[i] - mean) * scale;
    if (r.weight != nullptr) y *= r.weight[i] + r.weight_offset;
    if (r.bias != nullptr) y += r.bias[i];
    r.output[i] = y;
  }
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::cpu {

HWY_EXPORT(Norm);

void norm(Context& c, const NormArgs& a) {
  TR_ASSERT(a.input.dtype == DType::f32 && a.output.dtype == DType::f32);
  const int64_t group = a.group > 0 ? a.group : a.input.cols;
  if (group == 0) return;
  const float* weight = as_f32(c, Use::norm_weight, a.weight);
  const float* bias = as_f32(c, Use::norm_bias, a.bias);
  constexpr int64_t kElements = 16384;  // of one chunk
  const int64_t grain = std::max<int64_t>(1, kElements / a.input.cols);
  c.pool.for_range(a.input.rows, grain, [&](int64_t begin, int64_t end, int32_t) {
    NormRow row;
    row.n = group;
    row.weight_offset = a.weight_offset;
    row.eps = a.eps;
    row.centred = a.kind == NormKind::layer;
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = 0; i < a.input.cols; i += group) {
        row.input = a.input.row<float>(r) + i;
        row.residual = a.residual ? a.residual.row<float>(r) + i : nullptr;
        row.output = a.output.row<float>(r) + i;
        row.weight = weight == nullptr || a.weight.cols == group ? weight : weight + i;
        row.bias = bias == nullptr || a.bias.cols == group ? bias : bias + i;
        HWY_DYNAMIC_DISPATCH(Norm)(row);
      }
    }
  });
}

}  // namespace troupe::cpu
#endif  // HWY_ONCE
