#include "kernels/cpu/attention_kernels.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/assert.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_kernels.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"
#include "kernels/cpu/math-inl.hpp"
#include "kernels/cpu/tile-inl.hpp"

namespace troupe::cpu {
#ifndef TROUPE_CPU_ATTENTION_LAYOUT
#define TROUPE_CPU_ATTENTION_LAYOUT
constexpr int64_t kPad = 16;  // tiles are read and written in whole widths
constexpr int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }

// How a task uses its scratch.
struct AttentionScratch {
  AttentionScratch(float* at, int64_t key_dim, int64_t value_dim, int64_t block_tokens)
      : score_stride(padded(kTokenTile + block_tokens) + kPad),
        value_stride(padded(value_dim)),
        block_stride(padded(block_tokens)) {
    const auto take = [&at](int64_t n) {
      float* here = at;
      at += padded(n);
      return here;
    };
    query = take(kMicroRows * key_dim);
    scores = take(kMicroRows * score_stride);
    sums = take(kMicroRows * value_stride + kPad);
    highest = take(kMicroRows);
    total = take(kMicroRows);
    keys = take(key_dim * block_stride + kPad);
    values = take(block_tokens * value_stride + kPad);
    end = at;
  }
  int64_t score_stride;
  int64_t value_stride;
  int64_t block_stride;
  float* query;    // scaled, a micro-row each
  float* scores;   // of one tile of tokens
  float* sums;     // of values, not yet divided
  float* highest;  // running maximum
  float* total;    // running sum of exponentials
  float* keys;     // a block transposed, where the source has a token per row
  float* values;   // a block with padded rows, where the source's end short
  float* end;
};
#endif
}  // namespace troupe::cpu

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

constexpr T8 kD;
constexpr float kNever = -std::numeric_limits<float>::infinity();

template <class T>
struct Block {
  const T* keys = nullptr;  // a row per dimension, or a row per token when key_token_step != 1
  const T* values = nullptr;
  int64_t key_token_step = 1;
  int64_t key_dim_step = 1;
  int64_t value_step = 1;
};

template <class T>
Block<T> block_at(const KvSource& kv, int64_t index) {
  if (kv.cache != nullptr) {
    const HostKvCache& c = *kv.cache;
    const int32_t block = kv.table[index];
    return {reinterpret_cast<const T*>(c.keys(kv.layer, block, kv.head)),
            reinterpret_cast<const T*>(c.values(kv.layer, block, kv.head)), c.key_token_step(),
            c.key_dim_step(), c.value_token_step()};
  }
  const int64_t token = index * kv.block_tokens;
  return {reinterpret_cast<const T*>(kv.keys + token * kv.key_stride),
          reinterpret_cast<const T*>(kv.values + token * kv.value_stride), kv.key_stride, 1,
          kv.value_stride};
}

// Tokens [begin, end) of a block, a token per row, become columns of `to`.
template <class T>
void transpose(const Block<T>& b, int64_t dims, int64_t begin, int64_t end, float* to,
               int64_t to_stride) {
  HWY_ALIGN float wide[kT8];
  for (int64_t t = begin; t < end; ++t) {
    const T* from = b.keys + t * b.key_token_step;
    int64_t d = 0;
    for (; d + kT8 <= dims; d += kT8) {
      hn::Store(load_wide(kD, from + d), kD, wide);
      for (int64_t i = 0; i < kT8; ++i) to[(d + i) * to_stride + t] = wide[i];
    }
    for (; d < dims; ++d) to[d * to_stride + t] = widen(from[d]);
  }
}

// The scores of one micro-row over a tile, in place: soft-cap, slope, mask, then the online softmax.
HWY_INLINE void soften(const AttentionTask& task, const AttentionScratch& s, int64_t micro,
                       int64_t tile_begin, int64_t tile_end) {
  const int64_t row = micro / task.heads;
  const int64_t head = micro % task.heads;
  float* scores = s.scores + micro * s.score_stride;
  const int64_t lo = std::clamp<int64_t>(task.begins[row], tile_begin, tile_end) - tile_begin;
  const int64_t hi = std::clamp<int64_t>(task.ends[row], tile_begin, tile_end) - tile_begin;
  const int64_t width = tile_end - tile_begin;
  std::fill_n(scores, lo, kNever);
  std::fill(scores + std::max(lo, hi), scores + (width + kT8) / kT8 * kT8, kNever);
  if (hi <= lo) {
    std::fill_n(scores, width, 0.0F);
    return;
  }
  T8V top = hn::Set(kD, kNever);
  for (int64_t i = lo / kT8 * kT8; i < hi; i += kT8) {
    T8V x = hn::LoadU(kD, scores + i);
    if (task.softcap > 0.0F) x = soft_cap(kD, x, task.softcap);
    if (task.slopes != nullptr) {
      const auto first = static_cast<float>(tile_begin + i - task.positions[row]);
      x = hn::MulAdd(hn::Iota(kD, first), hn::Set(kD, task.slopes[head]), x);
    }
    // A cap or a slope has moved what the mask had put at minus infinity.
    const T8V index = hn::Iota(kD, static_cast<float>(i));
    const auto seen = hn::And(hn::Ge(index, hn::Set(kD, static_cast<float>(lo))),
                              hn::Lt(index, hn::Set(kD, static_cast<float>(hi))));
    x = hn::IfThenElse(seen, x, hn::Set(kD, kNever));
    hn::StoreU(x, kD, scores + i);
    top = hn::Max(top, x);
  }
  const float before = s.highest[micro];
  const float highest = std::max(before, hn::GetLane(hn::MaxOfLanes(kD, top)));
  // Scores that are all minus infinity (or NaN) must not make infinity minus infinity of the rest.
  const float base = highest == kNever ? 0.0F : highest;
  T8V sum = hn::Zero(kD);
  for (int64_t i = 0; i < width; i += kT8) {
    const T8V x = hn::LoadU(kD, scores + i);
    const T8V gone = hn::Set(kD, -87.0F);
    const T8V shifted = hn::Sub(x, hn::Set(kD, base));
    // Max would drop a NaN: only true lows are raised, and count as nothing.
    const auto low = hn::Lt(shifted, gone);
    const T8V e = hn::IfThenElse(low, hn::Zero(kD),
                                 hn::Exp(kD, hn::IfThenElse(low, gone, shifted)));
    hn::StoreU(e, kD, scores + i);
    sum = hn::Add(sum, e);
  }
  const float shrink = before == kNever ? 0.0F : std::exp(before - base);
  s.total[micro] = s.total[micro] * shrink + hn::GetLane(hn::SumOfLanes(kD, sum));
  s.highest[micro] = highest;
  if (shrink == 1.0F) return;
  float* out = s.sums + micro * s.value_stride;
  const T8V factor = hn::Set(kD, shrink);
  for (int64_t i = 0; i < task.value_dim; i += kT8) {
    hn::StoreU(hn::Mul(hn::LoadU(kD, out + i), factor), kD, out + i);
  }
}

// Scores of the blocks [first, last) into s.scores, side by side.
template <class T>
void score(const AttentionTask& task, const AttentionScratch& s, int64_t first, int64_t last,
           int64_t token_end) {
  const int64_t micro = int64_t{task.rows} * task.heads;
  const int64_t size = task.kv.block_tokens;
  for (int64_t b = first; b < last; ++b) {
    const Block<T> block = block_at<T>(task.kv, b);
    float* out = s.scores + (b - first) * size;
    if (block.key_token_step == 1) {
      tiles(micro, size, TileArgs<T>{s.query, task.key_dim, block.keys, block.key_dim_step,
                                     task.key_dim, out, s.score_stride, false});
      continue;
    }
    const int64_t here = std::min(size, token_end - b * size);
    transpose(block, task.key_dim, 0, here, s.keys, s.block_stride);
    tiles(micro, here, TileArgs<float>{s.query, task.key_dim, s.keys, s.block_stride, task.key_dim,
                                       out, s.score_stride, false});
  }
}

// Adds the blocks' values, weighted by the scores, to the sums. Only tokens that some row sees
// are touched: what else lies in a block may be anything.
template <class T>
void weigh(const AttentionTask& task, const AttentionScratch& s, int64_t first, int64_t last,
           int64_t token_begin, int64_t token_end) {
  const int64_t micro = int64_t{task.rows} * task.heads;
  const int64_t size = task.kv.block_tokens;
  for (int64_t b = first; b < last; ++b) {
    const int64_t lo = std::max<int64_t>(0, token_begin - b * size);
    const int64_t hi = std::min(size, token_end - b * size);
    if (hi <= lo) continue;
    const Block<T> block = block_at<T>(task.kv, b);
    const float* weights = s.scores + (b - first) * size + lo;
    const T* values = block.values + lo * block.value_step;
    if (task.kv.cache != nullptr || task.value_dim % kTileWidth == 0) {
      tiles(micro, task.value_dim,
            TileArgs<T>{weights, s.score_stride, values, block.value_step, hi - lo, s.sums,
                        s.value_stride, true});
      continue;
    }
    // A caller's matrix may end with its last element: whole widths are read from a copy.
    for (int64_t t = 0; t < hi - lo; ++t) {
      for (int64_t d = 0; d < task.value_dim; ++d) {
        s.values[t * s.value_stride + d] = widen(values[t * block.value_step + d]);
      }
    }
    tiles(micro, task.value_dim,
          TileArgs<float>{weights, s.score_stride, s.values, s.value_stride, hi - lo, s.sums,
                          s.value_stride, true});
  }
}

void start(const AttentionTask& task, const AttentionScratch& s) {
  const int64_t micro = int64_t{task.rows} * task.heads;
  for (int64_t m = 0; m < micro; ++m) {
    const float* from = task.query + m / task.heads * task.query_stride +
                        m % task.heads * task.key_dim;
    for (int64_t d = 0; d < task.key_dim; ++d) s.query[m * task.key_dim + d] = from[d] * task.scale;
    s.highest[m] = kNever;
    s.total[m] = 0.0F;
  }
  std::memset(s.sums, 0, static_cast<size_t>(micro * s.value_stride) * sizeof(float));
  if (task.kv.cache == nullptr) {
    std::memset(s.values, 0, static_cast<size_t>(task.kv.block_tokens * s.value_stride) * 4);
  }
}

void finish(const AttentionTask& task, const AttentionScratch& s) {
  const int64_t micro = int64_t{task.rows} * task.heads;
  for (int64_t m = 0; m < micro; ++m) {
    const int64_t head = m % task.heads;
    float total = s.total[m];
    float factor = 1.0F;
    if (task.sinks != nullptr) {
      const float highest = std::max(s.highest[m], task.sinks[head]);
      factor = s.highest[m] == kNever ? 0.0F : std::exp(s.highest[m] - highest);
      total = total * factor + std::exp(task.sinks[head] - highest);
    }
    const float scale = total > 0.0F || std::isnan(total) ? factor / total : 0.0F;
    float* out = task.output + m / task.heads * task.output_stride + head * task.value_dim;
    for (int64_t d = 0; d < task.value_dim; ++d) out[d] = s.sums[m * s.value_stride + d] * scale;
  }
}

template <class T>
void attend_typed(const AttentionTask& task, float* scratch) {
  const AttentionScratch s(scratch, task.key_dim, task.value_dim, task.kv.block_tokens);
  const int64_t size = task.kv.block_tokens;
  const int64_t micro = int64_t{task.rows} * task.heads;
  // Tokens are counted from the first block on.
  const int64_t shift = task.kv.first_position;
  const int64_t begin = *std::min_element(task.begins, task.begins + task.rows) - shift;
  const int64_t end = *std::max_element(task.ends, task.ends + task.rows) - shift;
  TR_ASSERT(begin >= 0 || begin >= end);
  start(task, s);
  const int64_t per_tile = std::max<int64_t>(1, kTokenTile / size);
  for (int64_t b = begin / size; b * size < end; b += per_tile) {
    const int64_t last = std::min(b + per_tile, (end + size - 1) / size);
    const int64_t tile_begin = b * size;
    const int64_t tile_end = std::min(last * size, end);
    score<T>(task, s, b, last, end);
    for (int64_t m = 0; m < micro; ++m) soften(task, s, m, tile_begin + shift, tile_end + shift);
    weigh<T>(task, s, b, last, std::max(begin, tile_begin), tile_end);
  }
  finish(task, s);
}

void Attend(const AttentionTask& task, float* scratch) {
  switch (task.kv.dtype) {
    case DType::f32: return attend_typed<float>(task, scratch);
    case DType::f16: return attend_typed<hwy::float16_t>(task, scratch);
    case DType::bf16: return attend_typed<hwy::bfloat16_t>(task, scratch);
    default: TR_ASSERT(!"a cache is f32, f16 or bf16");
  }
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::cpu {

HWY_EXPORT(Attend);

int64_t attention_scratch_floats(int32_t key_dim, int32_t value_dim, int32_t block_tokens) {
  float* const none = nullptr;
  return AttentionScratch(none, key_dim, value_dim, block_tokens).end - none;
}

void attend(const AttentionTask& task, float* scratch) { HWY_DYNAMIC_DISPATCH(Attend)(task, scratch); }

}  // namespace troupe::cpu
#endif  // HWY_ONCE
