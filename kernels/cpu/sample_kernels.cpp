#include "kernels/cpu/sample_kernels.hpp"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sample_kernels.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"
#include "kernels/cpu/math-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

constexpr F32 kD;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(kD));
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// The last, incomplete vector of a row, filled up with `filler`.
HWY_INLINE F32V load_tail(const float* x, int64_t count, float filler) {
  HWY_ALIGN float tail[hn::MaxLanes(kD)];
  std::fill_n(tail, kLanes, filler);
  std::copy_n(x, count, tail);
  return hn::Load(kD, tail);
}

RowRange ScaleAndCap(std::span<float> row, float scale, float cap) {
  const auto n = static_cast<int64_t>(row.size());
  F32V top = hn::Set(kD, kLowest);
  auto poisoned = hn::FirstN(kD, 0);
  const auto look = [&](F32V v) {
    v = hn::Mul(v, hn::Set(kD, scale));
    if (cap > 0.0F) v = soft_cap(kD, v, cap);
    poisoned = hn::Or(poisoned, hn::IsNaN(v));
    top = hn::Max(top, hn::IfThenElse(hn::IsNaN(v), top, v));
    return v;
  };
  const bool same = scale == 1.0F && !(cap > 0.0F);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F32V v = look(hn::LoadU(kD, row.data() + i));
    if (!same) hn::StoreU(v, kD, row.data() + i);
  }
  if (i < n) {
    HWY_ALIGN float tail[hn::MaxLanes(kD)];
    hn::Store(look(load_tail(row.data() + i, n - i, row[static_cast<size_t>(i)])), kD, tail);
    std::copy_n(tail, n - i, row.data() + i);
  }
  return {max_lanes(top), !hn::AllFalse(kD, poisoned)};
}

float HighestOf(std::span<const float> row) {
  const auto n = static_cast<int64_t>(row.size());
  F32V top = hn::Set(kD, kLowest);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) top = hn::Max(top, hn::LoadU(kD, row.data() + i));
  if (i < n) top = hn::Max(top, load_tail(row.data() + i, n - i, kLowest));
  return max_lanes(top);
}

double SumOfExponentials(std::span<const float> row, float highest, float temperature,
                         float* weights) {
  const auto n = static_cast<int64_t>(row.size());
  const F32V top = hn::Set(kD, highest);
  const F32V inverse = hn::Set(kD, 1.0F / temperature);
  const F32V gone = hn::Set(kD, -87.0F);  // e^-87 is the last normal f32
  const auto term = [&](F32V x) {
    const F32V z = hn::Mul(hn::Sub(x, top), inverse);
    return hn::IfThenElseZero(hn::Ge(z, gone), hn::Exp(kD, hn::Max(z, gone)));
  };
  constexpr int64_t kRun = 1024;  // f32 sums stay exact enough over so many
  double total = 0.0;
  int64_t i = 0;
  while (i + kLanes <= n) {
    F32V sum = hn::Zero(kD);
    for (const int64_t end = std::min(n, i + kRun); i + kLanes <= end; i += kLanes) {
      const F32V e = term(hn::LoadU(kD, row.data() + i));
      if (weights != nullptr) hn::StoreU(e, kD, weights + i);
      sum = hn::Add(sum, e);
    }
    total += static_cast<double>(sum_lanes(sum));
  }
  if (i == n) return total;
  const F32V e = term(load_tail(row.data() + i, n - i, kLowest));
  HWY_ALIGN float tail[hn::MaxLanes(kD)];
  hn::Store(e, kD, tail);
  if (weights != nullptr) std::copy_n(tail, n - i, weights + i);
  return total + static_cast<double>(sum_lanes(e));
}

int64_t FirstEqual(std::span<const float> row, float value) {
  const auto n = static_cast<int64_t>(row.size());
  const F32V wanted = hn::Set(kD, value);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const auto at = hn::FindFirstTrue(kD, hn::Eq(hn::LoadU(kD, row.data() + i), wanted));
    if (at >= 0) return i + at;
  }
  for (; i < n; ++i) {
    if (row[static_cast<size_t>(i)] == value) return i;
  }
  return -1;
}

int64_t CountGreater(std::span<const float> row, float value) {
  const auto n = static_cast<int64_t>(row.size());
  const F32V bound = hn::Set(kD, value);
  int64_t count = 0;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    count += static_cast<int64_t>(hn::CountTrue(kD, hn::Gt(hn::LoadU(kD, row.data() + i), bound)));
  }
  for (; i < n; ++i) count += row[static_cast<size_t>(i)] > value ? 1 : 0;
  return count;
}

int64_t NextGreater(std::span<const float> row, int64_t from, float value) {
  const auto n = static_cast<int64_t>(row.size());
  const F32V bound = hn::Set(kD, value);
  int64_t i = from;
  for (; i + kLanes <= n; i += kLanes) {
    const auto at = hn::FindFirstTrue(kD, hn::Gt(hn::LoadU(kD, row.data() + i), bound));
    if (at >= 0) return i + at;
  }
  while (i < n && !(row[static_cast<size_t>(i)] > value)) ++i;
  return i;
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::cpu {

HWY_EXPORT(ScaleAndCap);
HWY_EXPORT(HighestOf);
HWY_EXPORT(SumOfExponentials);
HWY_EXPORT(FirstEqual);
HWY_EXPORT(CountGreater);
HWY_EXPORT(NextGreater);

RowRange scale_and_cap(std::span<float> x, float scale, float cap) {
  return HWY_DYNAMIC_DISPATCH(ScaleAndCap)(x, scale, cap);
}
float highest_of(std::span<const float> x) { return HWY_DYNAMIC_DISPATCH(HighestOf)(x); }
double sum_of_exponentials(std::span<const float> x, float highest, float temperature,
                           float* weights) {
  return HWY_DYNAMIC_DISPATCH(SumOfExponentials)(x, highest, temperature, weights);
}
int64_t first_equal(std::span<const float> x, float value) {
  return HWY_DYNAMIC_DISPATCH(FirstEqual)(x, value);
}
int64_t count_greater(std::span<const float> x, float value) {
  return HWY_DYNAMIC_DISPATCH(CountGreater)(x, value);
}
int64_t next_greater(std::span<const float> x, int64_t from, float value) {
  return HWY_DYNAMIC_DISPATCH(NextGreater)(x, from, value);
}

}  // namespace troupe::cpu
#endif  // HWY_ONCE
