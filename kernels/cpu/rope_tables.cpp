// Rotations of a step's rows, computed once per step and rope, used by every layer.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/plain/plain.hpp"

namespace troupe::cpu {
namespace {

bool same(const RopeSpec& a, const RopeSpec& b) {
  for (int i = 0; i < 3; ++i) {
    if (a.sections[i] != b.sections[i]) return false;
  }
  return a.style == b.style && a.rotary_dim == b.rotary_dim &&
         a.frequencies.data == b.frequencies.data && a.frequencies.rows == b.frequencies.rows &&
         a.short_length == b.short_length && a.attention_scale == b.attention_scale &&
         a.attention_scale_long == b.attention_scale_long && a.dynamic_base == b.dynamic_base &&
         a.dynamic_factor == b.dynamic_factor && a.dynamic_length == b.dynamic_length &&
         a.sections_interleaved == b.sections_interleaved;
}

}  // namespace

void RopeTables::forget(uint32_t ring) {
  for (Entry& e : entries_) {
    if (e.ring == ring) e.valid = false;
  }
}

// A stale entry, or else the one whose turn it is.
RopeTables::Entry& RopeTables::next_entry() {
  for (Entry& e : entries_) {
    if (!e.valid) return e;
  }
  Entry& entry = entries_[next_];
  next_ = (next_ + 1) % entries_.size();
  return entry;
}

const float* RopeTables::of(const RopeSpec& spec, const Batch& batch, ThreadPool& pool) {
  for (const Entry& e : entries_) {
    if (e.valid && e.ring == batch.ring && same(e.spec, spec)) return e.table.data();
  }
  const auto floats = static_cast<size_t>(batch.plan.rows()) * static_cast<size_t>(spec.rotary_dim);
  Entry& entry = next_entry();
  // Room for the largest step: what the steps to come need must not depend on their order.
  entry.table.reserve(std::max(floats, static_cast<size_t>(rows_max_) * static_cast<size_t>(spec.rotary_dim)));
  entry.spec = spec;
  entry.ring = batch.ring;
  entry.valid = true;
  const int64_t dim = spec.rotary_dim;
  const int32_t half = spec.rotary_dim / 2;
  entry.table.resize(floats);
  pool.for_range(batch.sequences, 16, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t s = begin; s < end; ++s) {
      const PlanSequence& sequence = batch.plan.sequences()[static_cast<size_t>(s)];
      for (int32_t i = 0; i < sequence.row_count; ++i) {
        const int32_t row = sequence.row_begin + i;
        float* to = entry.table.data() + row * dim;
        for (int32_t pair = 0; pair < half; ++pair) {
          const auto turn = plain::rotation(spec, batch, row, sequence.prompt_len, pair);
          to[pair] = static_cast<float>(turn.cos);
          to[half + pair] = static_cast<float>(turn.sin);
        }
      }
    }
  });
  return entry.table.data();
}

}  // namespace troupe::cpu
