// rope_write and cross_write: rotations by vectors, keys and values narrowed by vectors and put
// into the cache's layout.
#include <algorithm>

#include "base/assert.hpp"
#include "kernels/cpu/kv_cache.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/paged.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

constexpr F32 kD;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(kD));

void rotate_halves(float* x, const float* cos, const float* sin, int64_t half) {
  int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const F32V a = hn::LoadU(kD, x + i);
    const F32V b = hn::LoadU(kD, x + half + i);
    const F32V c = hn::LoadU(kD, cos + i);
    const F32V s = hn::LoadU(kD, sin + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), kD, x + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), kD, x + half + i);
  }
  for (; i < half; ++i) {
    const float a = x[i];
    const float b = x[half + i];
    x[i] = a * cos[i] - b * sin[i];
    x[half + i] = b * cos[i] + a * sin[i];
  }
}

void rotate_pairs(float* x, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

// All heads of a row; table: the row's cosines, then its sines.
void RotateRow(const RopeSpec& spec, const float* table, float* row, int64_t heads, int64_t dim) {
  const int64_t half = spec.rotary_dim / 2;
  for (int64_t h = 0; h < heads; ++h, row += dim) {
    if (spec.style == RopeStyle::half) rotate_halves(row, table, table + half, half);
    else rotate_pairs(row, table, table + half, half);
  }
}

// n elements, `step` apart in the cache.
template <class T>
void store_strided(const float* from, T* to, int64_t step, int64_t n) {
  HWY_ALIGN T narrow[hn::MaxLanes(kD)];
  HWY_ALIGN float tail[hn::MaxLanes(kD)] = {};
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t count = std::min(kLanes, n - i);
    const float* source = from + i;
    if (count < kLanes) {
      std::copy_n(from + i, count, tail);
      source = tail;
    }
    store_narrow(kD, hn::LoadU(kD, source), narrow);
    for (int64_t j = 0; j < count; ++j) to[(i + j) * step] = narrow[j];
  }
}

template <class T>
void write_row(const HostKvCache& cache, int32_t layer, PagedToken t, const float* key,
               const float* value) {
  const KvCacheSpec& s = cache.spec();
  for (int32_t h = 0; h < s.kv_heads; ++h) {
    T* keys = reinterpret_cast<T*>(cache.keys(layer, t.block, h));
    store_strided(key + int64_t{h} * s.key_dim, keys + t.offset * cache.key_token_step(),
                  cache.key_dim_step(), s.key_dim);
    if (s.values_in_keys) continue;
    T* values = reinterpret_cast<T*>(cache.values(layer, t.block, h));
    store_strided(value + int64_t{h} * s.value_dim, values + t.offset * cache.value_token_step(),
                  1, s.value_dim);
  }
}

void WriteRow(const HostKvCache& cache, int32_t layer, PagedToken t, const float* key,
              const float* value) {
  switch (cache.spec().dtype) {
    case DType::f32: return write_row<float>(cache, layer, t, key, value);
    case DType::f16: return write_row<hwy::float16_t>(cache, layer, t, key, value);
    case DType::bf16: return write_row<hwy::bfloat16_t>(cache, layer, t, key, value);
    default: TR_ASSERT(!"a cache is f32, f16 or bf16");
  }
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::cpu {

HWY_EXPORT(RotateRow);
HWY_EXPORT(WriteRow);

namespace {

void write(const CrossWriteArgs& a, PagedToken token, int64_t row) {
  const auto& cache = *static_cast<const HostKvCache*>(a.cache);
  const float* value = a.value ? a.value.row<float>(row) : nullptr;
  HWY_DYNAMIC_DISPATCH(WriteRow)(cache, a.layer, token, a.key.row<float>(row), value);
}

void rope_write_row(const Batch& batch, const RopeWriteArgs& a, const float* table, int32_t s,
                    int32_t row) {
  if (table != nullptr) {
    const float* own = table + int64_t{row} * a.rope->rotary_dim;
    if (a.query) {
      HWY_DYNAMIC_DISPATCH(RotateRow)
      (*a.rope, own, a.query.row<float>(row) + a.rotary_begin, a.heads, a.query.cols / a.heads);
    }
    if (a.key) {
      HWY_DYNAMIC_DISPATCH(RotateRow)
      (*a.rope, own, a.key.row<float>(row) + a.rotary_begin, a.key.cols / a.head_dim, a.head_dim);
    }
  }
  if (a.cache == nullptr) return;
  const int32_t position = batch.plan.positions()[static_cast<size_t>(row)];
  const auto token = paged_token(batch, s, a.group, a.cache->spec().block_tokens, position);
  write({s, a.key, a.value, a.cache, a.layer, a.group}, token, row);
}

}  // namespace

void rope_write(Context& c, const Batch& batch, const RopeWriteArgs& a) {
  TR_ASSERT(!a.query || a.query.dtype == DType::f32);
  TR_ASSERT(!a.key || a.key.dtype == DType::f32);
  const bool rotates = a.rope != nullptr && a.rope->rotary_dim > 0;
  const float* table = rotates ? c.rope.of(*a.rope, batch, c.pool) : nullptr;
  constexpr int64_t kRows = 8;  // of one chunk
  c.pool.for_range(batch.plan.rows(), kRows, [&](int64_t begin, int64_t end, int32_t) {
    const auto sequences = batch.plan.sequences();
    auto s = std::upper_bound(sequences.begin(), sequences.end(), begin,
                              [](int64_t row, const PlanSequence& q) { return row < q.row_begin; });
    auto index = static_cast<int32_t>(s - sequences.begin()) - 1;
    for (int64_t row = begin; row < end; ++row) {
      const PlanSequence& q = sequences[static_cast<size_t>(index)];
      if (row >= q.row_begin + q.row_count) ++index;
      rope_write_row(batch, a, table, index, static_cast<int32_t>(row));
    }
  });
}

void cross_write(Context& c, const Batch& batch, const CrossWriteArgs& a) {
  TR_ASSERT(a.key.dtype == DType::f32);
  c.pool.for_range(a.key.rows, 8, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      write(a, paged_token(batch, a.sequence, a.group, a.cache->spec().block_tokens, static_cast<int32_t>(r)), r);
    }
  });
}

}  // namespace troupe::cpu
#endif  // HWY_ONCE
