// Vector helpers of the fast ops. Included once per SIMD target (Highway's foreach_target), hence
// the guard that toggles; everything here is in the target's own namespace.
#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"
#include "kernels/cpu/half.hpp"

#if defined(TROUPE_CPU_SIMD_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_CPU_SIMD_INL
#undef TROUPE_CPU_SIMD_INL
#else
#define TROUPE_CPU_SIMD_INL
#endif

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using F32V = hn::Vec<F32>;

// A whole vector of f32 from f32, f16 or bf16 in memory.
template <class D, class T>
HWY_INLINE hn::Vec<D> load_wide(D d, const T* from) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return hn::LoadU(d, from);
  } else {
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<T, D>(), from));
  }
}

// Where the processor narrows to f16 itself. Highway's own way, for those that do not, truncates.
inline constexpr bool kNarrowsF16 = !(HWY_ARCH_X86 && HWY_TARGET > HWY_AVX2) &&
                                    HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128;

// A whole vector of f32 into f32, f16 or bf16 in memory.
template <class D, class T>
HWY_INLINE void store_narrow(D d, hn::Vec<D> v, T* to) {
  if constexpr (sizeof(T) == sizeof(float)) {
    hn::StoreU(v, d, to);
  } else if constexpr (std::is_same_v<T, hwy::bfloat16_t>) {
    // Round to nearest even; Highway's own narrowing truncates.
    const hn::RebindToUnsigned<D> du;
    const auto bits = hn::BitCast(du, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF)));
    const auto keep_nan = hn::Or(bits, hn::Set(du, 0x400000));
    const auto picked = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), keep_nan, rounded);
    const auto truncated = hn::DemoteTo(hn::Rebind<hwy::bfloat16_t, D>(), hn::BitCast(d, picked));
    hn::StoreU(truncated, hn::Rebind<hwy::bfloat16_t, D>(), to);
  } else if constexpr (kNarrowsF16) {
    hn::StoreU(hn::DemoteTo(hn::Rebind<T, D>(), v), hn::Rebind<T, D>(), to);
  } else {
    HWY_ALIGN float wide[hn::MaxLanes(D())];
    hn::Store(v, d, wide);
    for (size_t i = 0; i < hn::Lanes(d); ++i) to[i].bits = f16_from_float(wide[i]);
  }
}

// One element of f32, f16 or bf16.
template <class T>
HWY_INLINE float widen(T x) {
  if constexpr (std::is_same_v<T, float>) return x;
  else if constexpr (std::is_same_v<T, hwy::float16_t>) return float_from_f16(x.bits);
  else return float_from_bf16(x.bits);
}

// n elements, one after the other, as f32.
template <class D, class T>
HWY_INLINE void widen_run(D d, const T* from, float* to, int64_t n) {
  constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(D()));
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) hn::StoreU(load_wide(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = widen(from[i]);
}

HWY_INLINE float sum_lanes(F32V v) { return hn::GetLane(hn::SumOfLanes(F32(), v)); }
HWY_INLINE float max_lanes(F32V v) { return hn::GetLane(hn::MaxOfLanes(F32(), v)); }

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
