// A plan that repeats the one before: what the kernels were told last, one position further. Whatever
// changes the work list's form makes the plan be built anew.
#include <algorithm>
#include <cstring>

#include "kernels/cuda/step_plan.hpp"

namespace troupe::cuda {

// All but what every step has for itself.
void StepPlan::take_form(const StepPlan& last) {
  counts = last.counts;
  tops_max = last.tops_max;
  penalties = last.penalties;
  changes = last.changes;
  greedy = last.greedy;
  fresh = false;
  rows_independent_ = last.rows_independent_;
  share_ = last.share_;
  offset_ = last.offset_;
  plan_end_ = used_ = last.plan_end_;
  patches_ = 0;
  block_bytes_ = 0;
  table_ends_.assign(last.table_ends_.begin(), last.table_ends_.end());
  std::memcpy(staging_.data(), last.staging_.data(), plan_end_);
}

bool StepPlan::repeat(const StepPlan& last, const PlanView& plan,
                      std::span<KvCache* const> caches, const StepShape& shape) {
  const StepCounts& c = last.counts;
  if (c.rows != c.sequences || c.decode_runs != c.sequences || c.rules != c.sequences) return false;
  const size_t tables = static_cast<size_t>(c.groups) * static_cast<size_t>(c.sequences);
  if (last.plan_end_ + tables * sizeof(BlockPatch) + 15 > staging_.bytes()) return false;
  // Are there as many items of work as before, each for the same share?
  const int64_t positions = last.positions_ + (c.decode_longest > 0 ? c.sequences : 0);
  const int32_t share = share_for(shape, positions);
  if (c.shares_max == 1 ? plan.header().max_kv_len > share
                        : share != last.share_ || last.begins_share(share))
    return false;
  take_form(last);
  if (may_spread(plan) != counts.spreads) return false;  // another graph's step
  positions_ = positions;
  std::fill_n(host<int32_t>(offset_.tokens), c.rows, kTokenFromSlot);
  auto* const at_position = host<int32_t>(offset_.positions);
  for (int32_t i = 0; i < c.rows; ++i) ++at_position[i];
  for (int32_t g = 0; g < c.groups; ++g) {
    if (!repeat_tables(plan, g, caches[static_cast<size_t>(g)]->spec())) return false;
  }
  const auto* sequences = host<AttentionSequence>(offset_.sequences);
  auto* work = host<DecodeWork>(offset_.decode);
  for (int32_t item = 0; item < c.decode_items; ++item) {
    for (int32_t g = 0; g < c.groups; ++g, ++work) {
      work->sequence = sequences[g * c.sequences + work->sequence.row_begin];
      if (work->share + 1 == work->shares) work->end = work->sequence.kv_len;
    }
  }
  for (DrawRule& rule : std::span(host<DrawRule>(offset_.rules), static_cast<size_t>(c.rules))) {
    ++rule.position;
    rule.reset = 0;
  }
  used_ += (static_cast<size_t>(patches_) * sizeof(BlockPatch) + 15) / 16 * 16;
  return true;
}

// Whether the next token of some sequence is the first of a share.
bool StepPlan::begins_share(int32_t share) const {
  if (counts.groups == 0) return false;
  const auto* first =
      reinterpret_cast<const AttentionSequence*>(staging_.data() + offset_.sequences);
  return std::any_of(first, first + counts.sequences,
                     [share](const AttentionSequence& s) { return s.kv_len % share == 0; });
}

// Of one group: every sequence is one token longer, and new blocks become patches.
bool StepPlan::repeat_tables(const PlanView& plan, int32_t group, const KvCacheSpec& cache) {
  const auto first = static_cast<size_t>(group) * static_cast<size_t>(counts.sequences);
  auto* sequences = host<AttentionSequence>(offset_.sequences) + first;
  auto* encoders = host<AttentionSequence>(offset_.encoders) + first;
  auto* rows = host<int32_t>(offset_.cache_rows) + first;
  const auto* positions = host<int32_t>(offset_.positions);
  auto* patches = host<BlockPatch>(plan_end_);
  const auto limit = patches_ + counts.sequences;  // one each; more come with a plan of their own
  for (int32_t i = 0; i < counts.sequences; ++i) {
    const PlanTable& t = plan.table(i, group);
    const int32_t end = t.begin + t.count;
    int32_t& known = table_ends_[first + static_cast<size_t>(i)];
    if (known < t.begin || known > end) return false;
    for (; known < end; ++known) {
      const int32_t block = plan.blocks()[static_cast<size_t>(known)];
      if (patches_ == limit || static_cast<uint32_t>(block) >= static_cast<uint32_t>(cache.blocks))
        return false;
      patches[patches_++] = {static_cast<uint32_t>(known), block};
    }
    ++sequences[i].kv_len;
    sequences[i].table_begin = encoders[i].table_begin = t.begin;
    sequences[i].first_position = t.first_position;
    const int32_t relative = positions[i] - t.first_position;
    if (relative < 0) return false;
    if (relative % cache.block_tokens != 0) {  // within the block of the row before
      if (rows[i] >= 0) ++rows[i];
      continue;
    }
    const int32_t index = relative / cache.block_tokens;
    // Tables of an encoder's group do not cover the sequence's own positions.
    rows[i] = index < t.count
                  ? plan.blocks()[static_cast<size_t>(t.begin + index)] * cache.block_tokens
                  : -1;
  }
  return true;
}

}  // namespace troupe::cuda
