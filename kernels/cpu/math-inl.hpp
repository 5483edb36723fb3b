// Vector functions of the activations and of softmax, within a few f32 roundings of the exact ones.
#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/simd-inl.hpp"

#if defined(TROUPE_CPU_MATH_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_CPU_MATH_INL
#undef TROUPE_CPU_MATH_INL
#else
#define TROUPE_CPU_MATH_INL
#endif

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

// x / (1 + e^(-s x))
template <class D, class V = hn::Vec<D>>
HWY_INLINE V logistic_gate(D d, V x, float s) {
  // Beyond +-88 e^x leaves f32; the quotient is settled long before.
  const V z = hn::Clamp(hn::Mul(x, hn::Set(d, -s)), hn::Set(d, -87.0F), hn::Set(d, 87.0F));
  // Clamp drops a NaN; multiplying by x brings it back.
  return hn::Div(x, hn::Add(hn::Set(d, 1.0F), hn::Exp(d, z)));
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V silu(D d, V x) {
  return logistic_gate(d, x, 1.0F);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu_quick(D d, V x) {
  return logistic_gate(d, x, 1.702F);
}

// 0.5 (1 + tanh(y)) is 1 / (1 + e^(-2y)).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu_tanh(D d, V x) {
  const V cubic = hn::MulAdd(hn::Mul(hn::Mul(x, x), x), hn::Set(d, 0.044715F), x);
  const V z = hn::Clamp(hn::Mul(cubic, hn::Set(d, -2.0F * 0.7978845608F)), hn::Set(d, -87.0F),
                        hn::Set(d, 87.0F));
  return hn::Div(x, hn::Add(hn::Set(d, 1.0F), hn::Exp(d, z)));
}

// erf by Abramowitz and Stegun 7.1.26, |error| <= 1.5e-7. With x = |v| / sqrt 2 and q the tail,
// gelu is v - v q / 2 on the right and v q / 2 on the left, so small results keep their precision.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu(D d, V v) {
  const V x = hn::Mul(hn::Abs(v), hn::Set(d, 0.70710678F));
  const V t = hn::Div(hn::Set(d, 1.0F), hn::MulAdd(x, hn::Set(d, 0.3275911F), hn::Set(d, 1.0F)));
  V p = hn::Set(d, 1.061405429F);
  p = hn::MulAdd(p, t, hn::Set(d, -1.453152027F));
  p = hn::MulAdd(p, t, hn::Set(d, 1.421413741F));
  p = hn::MulAdd(p, t, hn::Set(d, -0.284496736F));
  p = hn::MulAdd(p, t, hn::Set(d, 0.254829592F));
  const V e = hn::Exp(d, hn::Max(hn::Neg(hn::Mul(x, x)), hn::Set(d, -87.0F)));
  const V half_tail = hn::Mul(hn::Mul(hn::Mul(p, t), e), hn::Mul(v, hn::Set(d, 0.5F)));
  return hn::IfThenElse(hn::Lt(v, hn::Zero(d)), half_tail, hn::Sub(v, half_tail));
}

// cap * tanh(x / cap)
template <class D, class V = hn::Vec<D>>
HWY_INLINE V soft_cap(D d, V x, float cap) {
  return hn::Mul(hn::Set(d, cap), hn::Tanh(d, hn::Mul(x, hn::Set(d, 1.0F / cap))));
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
