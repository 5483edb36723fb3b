// add, the activations, and the row movers (embed, inject, gather): one pass over rows each.
#include <algorithm>

#include "base/assert.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/ops.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"
#include "kernels/cpu/math-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

constexpr F32 kD;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(kD));

// f over n elements; the last few through a padded vector, so tails compute what bodies do.
template <class F>
HWY_INLINE void map1(const float* x, float* y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(f(hn::LoadU(kD, x + i)), kD, y + i);
  if (i == n) return;
  HWY_ALIGN float tail[hn::MaxLanes(kD)] = {};
  std::copy(x + i, x + n, tail);
  hn::Store(f(hn::Load(kD, tail)), kD, tail);
  std::copy_n(tail, n - i, y + i);
}

template <class F>
HWY_INLINE void map2(const float* x, const float* z, float* y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    hn::StoreU(f(hn::LoadU(kD, x + i), hn::LoadU(kD, z + i)), kD, y + i);
  }
  for (; i < n; ++i) y[i] = hn::GetLane(f(hn::Set(kD, x[i]), hn::Set(kD, z[i])));
}

void AddRow(const float* x, const float* addend, float scale, float* y, int64_t n) {
  const F32V s = hn::Set(kD, scale);
  if (addend == nullptr) return map1(x, y, n, [s](F32V v) { return hn::Mul(v, s); });
  map2(x, addend, y, n, [s](F32V v, F32V w) { return hn::MulAdd(v, s, w); });
}

void ScaleRow(const float* x, const float* weight, float* y, int64_t n) {
  map2(x, weight, y, n, [](F32V v, F32V w) { return hn::Mul(v, w); });
}

template <class F>
HWY_INLINE void activate_row(const float* x, const float* up, float* y, int64_t n, F f) {
  if (up == nullptr) return map1(x, y, n, f);
  map2(x, up, y, n, [f](F32V v, F32V u) { return hn::Mul(f(v), u); });
}

// up: null for a plain activation.
void ActivateRow(Activation kind, const float* x, const float* up, float* y, int64_t n) {
  switch (kind) {
    case Activation::silu:
      return activate_row(x, up, y, n, [](F32V v) { return silu(kD, v); });
    case Activation::gelu:
      return activate_row(x, up, y, n, [](F32V v) { return gelu(kD, v); });
    case Activation::gelu_tanh:
      return activate_row(x, up, y, n, [](F32V v) { return gelu_tanh(kD, v); });
    case Activation::gelu_quick:
      return activate_row(x, up, y, n, [](F32V v) { return gelu_quick(kD, v); });
    case Activation::relu:
      return activate_row(x, up, y, n, [](F32V v) { return hn::Max(v, hn::Zero(kD)); });
    case Activation::relu2:
      return activate_row(x, up, y, n, [](F32V v) {
        const F32V positive = hn::Max(v, hn::Zero(kD));
        return hn::Mul(positive, positive);
      });
  }
}

template <class T>
void widen_from(const T* x, float scale, float* y, int64_t n) {
  const F32V s = hn::Set(kD, scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(hn::Mul(load_wide(kD, x + i), s), kD, y + i);
  if (i == n) return;
  HWY_ALIGN T tail[hn::MaxLanes(kD)] = {};
  HWY_ALIGN float wide[hn::MaxLanes(kD)];
  std::copy(x + i, x + n, tail);
  hn::Store(hn::Mul(load_wide(kD, static_cast<const T*>(tail)), s), kD, wide);
  std::copy_n(wide, n - i, y + i);
}

// Row `row` of any dtype, times scale, as f32.
void WidenRow(const Matrix& m, int64_t row, float scale, float* y) {
  switch (m.dtype) {
    case DType::f32: return widen_from(m.row<float>(row), scale, y, m.cols);
    case DType::f16: return widen_from(m.row<hwy::float16_t>(row), scale, y, m.cols);
    case DType::bf16: return widen_from(m.row<hwy::bfloat16_t>(row), scale, y, m.cols);
    default: TR_ASSERT(!"rows are f32, f16 or bf16");
  }
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::cpu {

HWY_EXPORT(AddRow);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(ActivateRow);
HWY_EXPORT(WidenRow);

namespace {

// Rows per chunk so that a chunk is some microseconds of work.
int64_t grain_of(int64_t cols) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(cols, 1)); }

void activate_rows(Context& c, const ActivationArgs& a, bool gated) {
  TR_ASSERT(a.input.dtype == DType::f32 && a.output.dtype == DType::f32);
  const int64_t n = a.output.cols;
  c.pool.for_range(a.input.rows, grain_of(n), [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = a.input.row<float>(r);
      HWY_DYNAMIC_DISPATCH(ActivateRow)(a.kind, x, gated ? x + n : nullptr, a.output.row<float>(r), n);
    }
  });
}

// One tap: out += weight * row of the inputs, which count through. `wide` holds a row.
void mix_row(const MixRowsArgs& a, int64_t row, float weight, float* wide, float* out) {
  size_t input = 0;
  while (row >= a.inputs[input].rows) row -= a.inputs[input++].rows;
  const Matrix& m = a.inputs[input];
  const float* x = wide;
  if (m.dtype == DType::f32) x = m.row<float>(row);
  else HWY_DYNAMIC_DISPATCH(WidenRow)(m, row, 1.0F, wide);
  HWY_DYNAMIC_DISPATCH(AddRow)(x, out, weight, out, a.output.cols);
}

}  // namespace

void scale_columns(Context& c, const ScaleColumnsArgs& a) {
  TR_ASSERT(a.input.dtype == DType::f32 && a.output.dtype == DType::f32);
  const float* weight = as_f32(c, Use::wide_vector, a.weight);
  c.pool.for_range(a.input.rows, grain_of(a.input.cols), [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(ScaleRow)(a.input.row<float>(r), weight, a.output.row<float>(r), a.input.cols);
    }
  });
}

void mix_rows(Context& c, const MixRowsArgs& a) {
  TR_ASSERT(a.output.dtype == DType::f32);
  TR_ASSERT(static_cast<int64_t>(a.rows.size()) == a.output.rows * a.taps);
  const int64_t n = a.output.cols;
  float* wide = c.scratch.get<float>(Use::mixed_rows, c.pool.threads() * n);
  c.pool.for_range(a.output.rows, grain_of(n * a.taps), [&](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t r = begin; r < end; ++r) {
      float* out = a.output.row<float>(r);
      if (!a.accumulate) std::fill_n(out, n, 0.0F);
      for (auto i = static_cast<size_t>(r * a.taps); i < static_cast<size_t>((r + 1) * a.taps); ++i) {
        const float weight = a.weights.empty() ? 1.0F : a.weights[i];
        if (a.rows[i] >= 0) mix_row(a, a.rows[i], weight, wide + thread * n, out);
      }
    }
  });
}

void add(Context& c, const AddArgs& a) {
  TR_ASSERT(a.input.dtype == DType::f32 && a.output.dtype == DType::f32);
  TR_ASSERT(!a.addend || a.addend.dtype == DType::f32);
  c.pool.for_range(a.input.rows, grain_of(a.input.cols), [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      const float* addend = a.addend ? a.addend.row<float>(r) : nullptr;
      HWY_DYNAMIC_DISPATCH(AddRow)(a.input.row<float>(r), addend, a.scale, a.output.row<float>(r), a.input.cols);
    }
  });
}

void activation(Context& c, const ActivationArgs& a) { activate_rows(c, a, false); }
void gated_activation(Context& c, const ActivationArgs& a) { activate_rows(c, a, true); }

void embed(Context& c, const Batch& batch, std::span<const SlotState> slots, const EmbedArgs& a) {
  TR_ASSERT(a.output.dtype == DType::f32 && a.output.cols == a.table.cols);
  c.pool.for_range(batch.sequences, 64, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t i = begin; i < end; ++i) {
      const PlanSequence& s = batch.plan.sequences()[static_cast<size_t>(i)];
      for (int32_t row = s.row_begin; row < s.row_begin + s.row_count; ++row) {
        const int64_t local = int64_t{input_token(batch.plan, s, row, slots)} - a.first_token;
        float* out = a.output.row<float>(row);
        if (local < 0 || local >= a.table.rows) std::fill_n(out, a.output.cols, 0.0F);
        else HWY_DYNAMIC_DISPATCH(WidenRow)(a.table, local, a.scale, out);
      }
    }
  });
}

void inject(Context&, const Batch& batch, const InjectArgs& a) {
  const auto injects = batch.plan.injects();
  TR_ASSERT(a.sources.size() == injects.size() && a.output.dtype == DType::f32);
  for (size_t i = 0; i < injects.size(); ++i) {
    const PlanInject& inject = injects[i];
    TR_ASSERT(inject.source_row + int64_t{inject.count} <= a.sources[i].rows);
    for (int32_t r = 0; r < inject.count; ++r) {
      HWY_DYNAMIC_DISPATCH(WidenRow)(a.sources[i], inject.source_row + r, 1.0F, a.output.row<float>(inject.row + r));
    }
  }
}

void gather(Context&, const Batch& batch, const GatherArgs& a) {
  const auto logit_rows = batch.plan.logit_rows();
  for (size_t i = 0; i < logit_rows.size(); ++i) {
    std::copy_n(a.input.row<float>(logit_rows[i].row), a.input.cols,
                a.output.row<float>(static_cast<int64_t>(i)));
  }
}

}  // namespace troupe::cpu
#endif  // HWY_ONCE
