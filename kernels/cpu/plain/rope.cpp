#include <algorithm>
#include <cmath>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/kv_cache.hpp"
#include "kernels/cpu/paged.hpp"
#include "kernels/cpu/plain/plain.hpp"

namespace troupe::cpu::plain {
namespace {

// Which of a row's three positions a rotary pair turns by: 0 time, 1 height, 2 width.
int32_t section_of(const RopeSpec& spec, int32_t pair) {
  const int32_t* s = spec.sections;
  if (spec.sections_interleaved) {
    if (pair % 3 == 1 && pair < 3 * s[1]) return 1;
    if (pair % 3 == 2 && pair < 3 * s[2]) return 2;
    return 0;
  }
  if (pair < s[0]) return 0;
  return pair < s[0] + s[1] ? 1 : 2;
}

float frequency(const RopeSpec& spec, int32_t length, int32_t pair) {
  if (spec.dynamic_base > 0.0F && length > spec.dynamic_length) {
    const double dim = spec.rotary_dim;
    const double grown = double{spec.dynamic_factor} * length / spec.dynamic_length -
                         (double{spec.dynamic_factor} - 1.0);
    const double base = double{spec.dynamic_base} * std::pow(grown, dim / (dim - 2.0));
    return static_cast<float>(std::pow(base, -2.0 * pair / dim));
  }
  const bool longer = spec.frequencies.rows > 1 && length > spec.short_length;
  return spec.frequencies.row<float>(longer ? 1 : 0)[pair];
}

void rotate(const Matrix& m, int32_t row, int32_t heads, const RopeWriteArgs& a, const Batch& batch,
            int32_t prompt_len) {
  const RopeSpec& spec = *a.rope;
  const int64_t dim = heads == 0 ? 0 : m.cols / heads;
  const int32_t half = spec.rotary_dim / 2;
  for (int32_t pair = 0; pair < half; ++pair) {
    const Rotation turn = rotation(spec, batch, row, prompt_len, pair);
    for (int32_t h = 0; h < heads; ++h) {
      const int64_t begin = h * dim + a.rotary_begin;
      const int64_t i = begin + (spec.style == RopeStyle::half ? pair : 2 * pair);
      const int64_t j = begin + (spec.style == RopeStyle::half ? pair + half : 2 * pair + 1);
      const double x = at(m, row, i);
      const double y = at(m, row, j);
      put(m, row, i, static_cast<float>(x * turn.cos - y * turn.sin));
      put(m, row, j, static_cast<float>(y * turn.cos + x * turn.sin));
    }
  }
}

}  // namespace

Rotation rotation(const RopeSpec& spec, const Batch& batch, int32_t row, int32_t prompt_len,
                  int32_t pair) {
  const auto r = static_cast<size_t>(row);
  const int32_t own = batch.plan.positions()[r];
  const int32_t length = std::max(prompt_len, own + 1);
  int32_t position = own;
  const bool sectioned = spec.sections[0] + spec.sections[1] + spec.sections[2] > 0;
  if (sectioned && !batch.plan.rope_positions().empty()) {
    position = batch.plan.rope_positions()[3 * r + static_cast<size_t>(section_of(spec, pair))];
  }
  // The product is rounded to f32 as every model's own code does.
  const float angle = static_cast<float>(position) * frequency(spec, length, pair);
  const bool longer = spec.frequencies.rows > 1 && length > spec.short_length;
  const double scale = double{longer ? spec.attention_scale_long : spec.attention_scale};
  return {std::cos(double{angle}) * scale, std::sin(double{angle}) * scale};
}

void rope_write(const Batch& batch, const RopeWriteArgs& a) {
  const KvCacheSpec* cache = a.cache != nullptr ? &a.cache->spec() : nullptr;
  for (int32_t s = 0; s < batch.sequences; ++s) {
    const PlanSequence& sequence = batch.plan.sequences()[static_cast<size_t>(s)];
    for (int32_t i = 0; i < sequence.row_count; ++i) {
      const int32_t row = sequence.row_begin + i;
      if (a.rope != nullptr && a.rope->rotary_dim > 0) {
        if (a.query) rotate(a.query, row, a.heads, a, batch, sequence.prompt_len);
        const auto kv_heads = static_cast<int32_t>(a.key ? a.key.cols / a.head_dim : 0);
        if (a.key) rotate(a.key, row, kv_heads, a, batch, sequence.prompt_len);
      }
      if (cache == nullptr) continue;
      const PagedToken token = paged_token(batch, s, a.group, cache->block_tokens,
                                           batch.plan.positions()[static_cast<size_t>(row)]);
      write_token(*static_cast<HostKvCache*>(a.cache), a.layer, token, a.key, a.value, row);
    }
  }
}

}  // namespace troupe::cpu::plain
