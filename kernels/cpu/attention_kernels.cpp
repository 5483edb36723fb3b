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
#include "kernels/cpu/transpose-inl.hpp"

namespace troupe::cpu {
#ifndef TROUPE_CPU_ATTENTION_LAYOUT
#define TROUPE_CPU_ATTENTION_LAYOUT
constexpr int64_t kPad = 16;  // tiles are read and written in whole widths
constexpr int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }
constexpr int64_t kGroup = 6;  // micro-rows that go through the registers together

// Tokens of one tile: whole blocks.
constexpr int64_t tile_tokens(int64_t block_tokens) {
  return std::max<int64_t>(1, kTokenTile / block_tokens) * block_tokens;
}

// How a task uses its scratch; with null, how much it needs.
struct AttentionScratch {
  AttentionScratch(float* base, int64_t key_dim, int64_t value_dim, int64_t block_tokens)
      : token_stride(padded(tile_tokens(block_tokens)) + kPad), value_stride(padded(value_dim)) {
    const auto take = [this, base](int64_t n) {
      float* const here = base == nullptr ? nullptr : base + floats;
      floats += padded(n);
      return here;
    };
    query = take(kMicroRows * key_dim);
    scores = take(kGroup * token_stride);
    sums = take(kMicroRows * value_stride + kPad);
    highest = take(kMicroRows);
    total = take(kMicroRows);
    keys = take(key_dim * token_stride);
    values = take(tile_tokens(block_tokens) * value_stride + kPad);
  }
  int64_t token_stride;
  int64_t value_stride;
  float* query;    // scaled, a micro-row each
  float* scores;   // of one group over one tile
  float* sums;     // of values, not yet divided
  float* highest;  // running maximum
  float* total;    // running sum of exponentials
  float* keys;     // a tile gathered: a row per dimension
  float* values;   // a tile gathered: a padded row per token
  int64_t floats = 0;
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

// Tokens from the first of the first block on: blocks [first, last) hold them.
struct TokenTile {
  int64_t first = 0, last = 0;  // blocks
  int64_t begin = 0, end = 0;   // tokens that some row sees, within these blocks
  int64_t base = 0;             // first token of the first block
};

// The tile's keys as rows of dimensions and its values as padded rows, in f32. Only tokens that
// some row sees are touched: what else lies in a block may be anything.
template <class T>
void gather(const AttentionTask& task, const AttentionScratch& s, const TokenTile& tile) {
  const int64_t size = task.kv.block_tokens;
  for (int64_t b = tile.first; b < tile.last; ++b) {
    const int64_t lo = std::max<int64_t>(0, tile.begin - b * size);
    const int64_t hi = std::min(size, tile.end - b * size);
    if (hi <= lo) continue;
    const Block<T> block = block_at<T>(task.kv, b);
    float* keys = s.keys + b * size - tile.base + lo;
    if (block.key_token_step == 1) {
      for (int64_t d = 0; d < task.key_dim; ++d) {
        widen_run(kD, block.keys + d * block.key_dim_step + lo, keys + d * s.token_stride, hi - lo);
      }
    } else {
      transpose(block.keys + lo * block.key_token_step, block.key_token_step, hi - lo, task.key_dim,
                keys, s.token_stride);
    }
    for (int64_t t = lo; t < hi; ++t) {
      widen_run(kD, block.values + t * block.value_step,
                s.values + (b * size - tile.base + t) * s.value_stride, task.value_dim);
    }
  }
}

// Micro-rows [first, first + count) of a task, and the tokens of a tile that any of them sees.
struct Group {
  int64_t first = 0;
  int64_t count = 0;
  int64_t begin = 0, end = 0;  // from the tile's base on
};

// The scores of one micro-row over a tile, in place: soft-cap, slope, mask, then the online softmax.
// What the group sees and this row does not becomes zero.
HWY_INLINE void soften(const AttentionTask& task, const AttentionScratch& s, const Group& group,
                       int64_t index, int64_t tile_position) {
  const int64_t micro = group.first + index;
  const int64_t row = micro / task.heads;
  float* scores = s.scores + index * s.token_stride;
  const int64_t lo = std::clamp(task.begins[row] - tile_position, group.begin, group.end);
  const int64_t hi = std::clamp(task.ends[row] - tile_position, group.begin, group.end);
  const int64_t from = group.begin / kT8 * kT8;
  const int64_t to = (group.end + kT8 - 1) / kT8 * kT8;
  if (hi <= lo) return std::fill(scores + from, scores + to, 0.0F);
  T8V top = hn::Set(kD, kNever);
  const float slope = task.slopes != nullptr ? task.slopes[micro % task.heads] : 0.0F;
  for (int64_t i = from; i < to; i += kT8) {
    T8V x = hn::LoadU(kD, scores + i);
    if (task.softcap > 0.0F) x = soft_cap(kD, x, task.softcap);
    if (task.slopes != nullptr) {
      const auto first = static_cast<float>(tile_position + i - task.positions[row]);
      x = hn::MulAdd(hn::Iota(kD, first), hn::Set(kD, slope), x);
    }
    if (i < lo || i + kT8 > hi) {
      const T8V at = hn::Iota(kD, static_cast<float>(i));
      const auto seen = hn::And(hn::Ge(at, hn::Set(kD, static_cast<float>(lo))),
                                hn::Lt(at, hn::Set(kD, static_cast<float>(hi))));
      x = hn::IfThenElse(seen, x, hn::Set(kD, kNever));
    }
    hn::StoreU(x, kD, scores + i);
    top = hn::Max(top, x);
  }
  const float before = s.highest[micro];
  const float highest = std::max(before, hn::GetLane(hn::MaxOfLanes(kD, top)));
  // Scores that are all minus infinity (or NaN) must not make infinity minus infinity of the rest.
  const float base = highest == kNever ? 0.0F : highest;
  T8V sum = hn::Zero(kD);
  for (int64_t i = from; i < to; i += kT8) {
    const T8V gone = hn::Set(kD, -87.0F);
    const T8V shifted = hn::Sub(hn::LoadU(kD, scores + i), hn::Set(kD, base));
    // Max would drop a NaN: only true lows are raised, and count as nothing.
    const auto low = hn::Lt(shifted, gone);
    const T8V e = hn::IfThenElse(low, hn::Zero(kD),
                                 hn::Exp(kD, hn::IfThenElse(low, gone, shifted)));
    hn::StoreU(e, kD, scores + i);
    sum = hn::Add(sum, e);
  }
  const float now = hn::GetLane(hn::SumOfLanes(kD, sum));
  s.highest[micro] = highest;
  if (highest == before) {
    s.total[micro] += now;
    return;
  }
  const float shrink = before == kNever ? 0.0F : std::exp(before - base);
  s.total[micro] = s.total[micro] * shrink + now;
  float* out = s.sums + micro * s.value_stride;
  const T8V factor = hn::Set(kD, shrink);
  for (int64_t i = 0; i < task.value_dim; i += kT8) {
    hn::StoreU(hn::Mul(hn::LoadU(kD, out + i), factor), kD, out + i);
  }
}

// One group over a gathered tile.
void attend_gathered(const AttentionTask& task, const AttentionScratch& s, const Group& group,
                     int64_t tile_position) {
  const int64_t from = group.begin / kTileWidth * kTileWidth;
  const float* query = s.query + group.first * task.key_dim;
  tiles(group.count, group.end - from,
        TileArgs<float>{query, task.key_dim, s.keys + from, s.token_stride, task.key_dim,
                        s.scores + from, s.token_stride, false});
  for (int64_t i = 0; i < group.count; ++i) soften(task, s, group, i, tile_position);
  tiles(group.count, task.value_dim,
        TileArgs<float>{s.scores + group.begin, s.token_stride,
                        s.values + group.begin * s.value_stride, s.value_stride,
                        group.end - group.begin, s.sums + group.first * s.value_stride,
                        s.value_stride, true});
}

// One group over a tile whose blocks are read where they lie: gathering pays from a few groups on.
template <class T>
void attend_in_place(const AttentionTask& task, const AttentionScratch& s, const Group& group,
                     const TokenTile& tile, int64_t tile_position) {
  const int64_t size = task.kv.block_tokens;
  const float* query = s.query + group.first * task.key_dim;
  for (int64_t b = tile.first; b < tile.last; ++b) {
    const Block<T> block = block_at<T>(task.kv, b);
    tiles(group.count, size,
          TileArgs<T>{query, task.key_dim, block.keys, block.key_dim_step, task.key_dim,
                      s.scores + b * size - tile.base, s.token_stride, false});
  }
  for (int64_t i = 0; i < group.count; ++i) soften(task, s, group, i, tile_position);
  for (int64_t b = tile.first; b < tile.last; ++b) {
    const int64_t lo = std::max(group.begin, b * size - tile.base);
    const int64_t hi = std::min(group.end, (b + 1) * size - tile.base);
    if (hi <= lo) continue;
    const Block<T> block = block_at<T>(task.kv, b);
    tiles(group.count, task.value_dim,
          TileArgs<T>{s.scores + lo, s.token_stride,
                      block.values + (lo + tile.base - b * size) * block.value_step,
                      block.value_step, hi - lo, s.sums + group.first * s.value_stride,
                      s.value_stride, true});
  }
}

void start(const AttentionTask& task, const AttentionScratch& s, bool gathers) {
  const int64_t micro = int64_t{task.rows} * task.heads;
  for (int64_t m = 0; m < micro; ++m) {
    const float* from = task.query + m / task.heads * task.query_stride +
                        m % task.heads * task.key_dim;
    float* to = s.query + m * task.key_dim;
    for (int64_t d = 0; d < task.key_dim; ++d) to[d] = from[d] * task.scale;
    s.highest[m] = kNever;
    s.total[m] = 0.0F;
  }
  std::memset(s.sums, 0, static_cast<size_t>(micro * s.value_stride) * sizeof(float));
  if (!gathers) return;
  // Whole widths are read: what lies behind the values of a row, and beyond the tokens seen.
  std::memset(s.values, 0, static_cast<size_t>(tile_tokens(task.kv.block_tokens) * s.value_stride) * 4);
  std::memset(s.keys, 0, static_cast<size_t>(task.key_dim * s.token_stride) * 4);
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
    const float* sums = s.sums + m * s.value_stride;
    float* out = task.output + m / task.heads * task.output_stride + head * task.value_dim;
    for (int64_t d = 0; d < task.value_dim; ++d) out[d] = sums[d] * scale;
  }
}

// The tokens of a tile that any micro-row of a group sees.
Group group_of(const AttentionTask& task, const TokenTile& tile, int64_t first, int64_t count,
               int64_t tile_position) {
  Group group{first, count, tile.end - tile.base, tile.begin - tile.base};
  for (int64_t row = first / task.heads; row <= (first + count - 1) / task.heads; ++row) {
    group.begin = std::min(group.begin, std::max(task.begins[row] - tile_position, tile.begin - tile.base));
    group.end = std::max(group.end, std::min(task.ends[row] - tile_position, tile.end - tile.base));
  }
  return group;
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
  const bool columns = task.kv.cache != nullptr && !task.kv.cache->spec().values_in_keys;
  const bool gathers = !columns || size % kTileWidth != 0 || micro > 2 * kGroup;
  start(task, s, gathers);
  const int64_t per_tile = tile_tokens(size) / size;
  for (int64_t b = begin / size; b * size < end; b += per_tile) {
    TokenTile tile;
    tile.first = b;
    tile.last = std::min(b + per_tile, (end + size - 1) / size);
    tile.base = b * size;
    tile.begin = std::max(begin, tile.base);
    tile.end = std::min(tile.last * size, end);
    if (gathers) gather<T>(task, s, tile);
    for (int64_t m = 0; m < micro; m += kGroup) {
      const Group group = group_of(task, tile, m, std::min(kGroup, micro - m), tile.base + shift);
      if (group.end <= group.begin) continue;
      if (gathers) attend_gathered(task, s, group, tile.base + shift);
      else attend_in_place<T>(task, s, group, tile, tile.base + shift);
    }
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
  return AttentionScratch(nullptr, key_dim, value_dim, block_tokens).floats;
}

void attend(const AttentionTask& task, float* scratch) { HWY_DYNAMIC_DISPATCH(Attend)(task, scratch); }

}  // namespace troupe::cpu
#endif  // HWY_ONCE
