// head_linear with transposed weights: the weight rows of a head are multiplied by one input column
// each and added up. The other orientation is an ordinary linear per head (linear.cpp).
#include <algorithm>

#include "base/assert.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/ops.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/head_linear.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"
#include "kernels/cpu/tile-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

template <class T>
void one_head(const HeadLinearArgs& a, int64_t h) {
  const int64_t in = a.input.cols / a.heads;
  const int64_t out = a.output.cols / a.heads;
  const T* weight = static_cast<const T*>(a.weight.data) + h * in * a.weight.stride;
  const int64_t whole = out / kTileWidth * kTileWidth;
  TileArgs<T> t{a.input.row<float>(0) + h * in, a.input.stride, weight, a.weight.stride, in,
                a.output.row<float>(0) + h * out, a.output.stride, false};
  tiles(a.input.rows, whole, t);
  const Matrix block{const_cast<T*>(weight), a.weight.dtype, in, out, a.weight.stride};
  for (int64_t r = 0; r < a.input.rows; ++r) {  // columns beyond whole tiles
    for (int64_t o = whole; o < out; ++o) {
      float sum = 0.0F;
      for (int64_t i = 0; i < in; ++i) sum += t.a[r * t.a_stride + i] * at(block, i, o);
      t.out[r * t.out_stride + o] = sum;
    }
  }
}

void HeadLinear(const HeadLinearArgs& a, int64_t h) {
  switch (a.weight.dtype) {
    case DType::f32: return one_head<float>(a, h);
    case DType::f16: return one_head<hwy::float16_t>(a, h);
    case DType::bf16: return one_head<hwy::bfloat16_t>(a, h);
    default: TR_ASSERT(!"placed weights are f32, f16 or bf16");
  }
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::cpu {

HWY_EXPORT(HeadLinear);

void head_linear_transposed(Context& c, const HeadLinearArgs& a) {
  c.pool.run(a.heads, [&](int32_t h, int32_t) { HWY_DYNAMIC_DISPATCH(HeadLinear)(a, h); });
}

}  // namespace troupe::cpu
#endif  // HWY_ONCE
