// attention and packed_attention: how the work is cut into tasks.
#include <algorithm>

#include "base/assert.hpp"
#include "kernels/cpu/attention_kernels.hpp"
#include "kernels/cpu/ops.hpp"

namespace troupe::cpu {
namespace {

// Rows of one sequence (or item), cut into tasks of whole rows where the heads that share a key
// head allow it, else into runs of heads.
struct Cut {
  int32_t rows_per_task = 1;
  int32_t heads_per_task = 1;
  int32_t head_runs = 1;  // per key head

  // As many micro-rows as keep a task's queries and sums in the second-level cache.
  Cut(int32_t shared_heads, int32_t dims) {
    const int32_t most = std::clamp<int32_t>(32768 / dims, kMicroRows / 2, kMicroRows);
    heads_per_task = std::min(shared_heads, most);
    head_runs = (shared_heads + heads_per_task - 1) / heads_per_task;
    rows_per_task = most / heads_per_task;
  }
  [[nodiscard]] int64_t tasks(int64_t rows, int32_t kv_heads) const {
    return (rows + rows_per_task - 1) / rows_per_task * kv_heads * head_runs;
  }
};

// Task `index` of a sequence: which rows, which heads.
struct Piece {
  int32_t row = 0;
  int32_t rows = 0;
  int32_t kv_head = 0;
  int32_t head = 0;  // first, among all
  int32_t heads = 0;

  Piece(const Cut& cut, int64_t index, int32_t all_rows, int32_t kv_heads, int32_t shared_heads) {
    const int64_t per_rows = int64_t{kv_heads} * cut.head_runs;
    row = static_cast<int32_t>(index / per_rows) * cut.rows_per_task;
    rows = std::min(cut.rows_per_task, all_rows - row);
    const auto rest = static_cast<int32_t>(index % per_rows);
    kv_head = rest / cut.head_runs;
    const int32_t run = rest % cut.head_runs * cut.heads_per_task;
    head = kv_head * shared_heads + run;
    heads = std::min(cut.heads_per_task, shared_heads - run);
  }
};

void see(const Batch& batch, const AttentionArgs& a, const PlanSequence& s, int32_t row,
         int32_t& begin, int32_t& end) {
  const auto r = static_cast<size_t>(row);
  if (a.span == AttentionSpan::cross) {
    const auto spans = batch.plan.cross_spans();
    begin = spans.empty() ? 0 : std::max(spans[2 * r], 0);
    end = spans.empty() ? s.cross_len : std::min(spans[2 * r + 1], s.cross_len);
    return;
  }
  const int32_t position = batch.plan.positions()[r];
  const auto span_ends = batch.plan.span_ends();
  begin = a.window > 0 ? std::max(0, position + 1 - a.window) : 0;
  end = std::min(std::max(position + 1, span_ends.empty() ? 0 : span_ends[r]), s.kv_len);
}

void run_piece(const Batch& batch, const AttentionArgs& a, int32_t sequence, const Piece& piece,
               float* scratch) {
  const auto& cache = *static_cast<const HostKvCache*>(a.cache);
  const KvCacheSpec& spec = cache.spec();
  const PlanSequence& s = batch.plan.sequences()[static_cast<size_t>(sequence)];
  const int32_t row = s.row_begin + piece.row;
  int32_t begins[kMicroRows];
  int32_t ends[kMicroRows];
  for (int32_t i = 0; i < piece.rows; ++i) see(batch, a, s, row + i, begins[i], ends[i]);
  AttentionTask task;
  task.query = a.query.row<float>(row) + int64_t{piece.head} * spec.key_dim;
  task.query_stride = a.query.stride;
  task.output = a.output.row<float>(row) + int64_t{piece.head} * spec.value_dim;
  task.output_stride = a.output.stride;
  task.rows = piece.rows;
  task.heads = piece.heads;
  task.key_dim = spec.key_dim;
  task.value_dim = spec.value_dim;
  task.scale = a.scale;
  task.softcap = a.softcap;
  task.slopes = a.alibi_slopes ? a.alibi_slopes.row<float>(0) + piece.head : nullptr;
  task.sinks = a.sinks ? a.sinks.row<float>(0) + piece.head : nullptr;
  task.positions = batch.plan.positions().data() + row;
  task.begins = begins;
  task.ends = ends;
  task.kv.dtype = spec.dtype;
  task.kv.block_tokens = spec.block_tokens;
  task.kv.first_position = batch.plan.table(sequence, a.group).first_position;
  task.kv.cache = &cache;
  task.kv.layer = a.layer;
  task.kv.head = piece.kv_head;
  task.kv.table = batch.plan.block_table(sequence, a.group).data();
  attend(task, scratch);
}

}  // namespace

void attention(Context& c, const Batch& batch, const AttentionArgs& a) {
  TR_ASSERT(a.query.dtype == DType::f32 && a.output.dtype == DType::f32);
  const KvCacheSpec& spec = a.cache->spec();
  const int32_t shared = a.heads / spec.kv_heads;
  if (batch.sequences == 0 || shared == 0) return;
  const Cut cut(shared, spec.key_dim + spec.value_dim);
  int64_t* first_task = c.scratch.get<int64_t>(Use::attention_tasks, batch.sequences + 1);
  first_task[0] = 0;
  for (int32_t s = 0; s < batch.sequences; ++s) {
    const int32_t rows = batch.plan.sequences()[static_cast<size_t>(s)].row_count;
    first_task[s + 1] = first_task[s] + cut.tasks(rows, spec.kv_heads);
  }
  const int64_t floats = attention_scratch_floats(spec.key_dim, spec.value_dim, spec.block_tokens);
  float* scratch = c.scratch.get<float>(Use::attention_threads, floats * c.pool.threads());
  // The last tasks of a prefill see the most tokens: they go first, so that none is left over.
  const int64_t count = first_task[batch.sequences];
  c.pool.for_range(count, 1, [&](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t task = count - 1 - i;
      const auto s = static_cast<int32_t>(
          std::upper_bound(first_task, first_task + batch.sequences + 1, task) - first_task - 1);
      const int32_t rows = batch.plan.sequences()[static_cast<size_t>(s)].row_count;
      const Piece piece(cut, task - first_task[s], rows, spec.kv_heads, shared);
      run_piece(batch, a, s, piece, scratch + thread * floats);
    }
  });
}

void packed_attention(Context& c, const PackedAttentionArgs& a) {
  TR_ASSERT(a.query.dtype == DType::f32 && a.key.dtype == DType::f32);
  if (a.ends.empty() || a.heads == 0) return;
  const int32_t shared = a.heads / a.kv_heads;
  const auto items = static_cast<int32_t>(a.ends.size());
  const auto key_ends = a.key_ends.empty() ? a.ends : a.key_ends;
  TR_ASSERT(key_ends.size() == a.ends.size());
  const auto dim = static_cast<int32_t>(a.query.cols / a.heads);
  const auto value_dim = static_cast<int32_t>(a.value.cols / a.kv_heads);
  const Cut cut(shared, dim + value_dim);
  int64_t* first_task = c.scratch.get<int64_t>(Use::attention_tasks, items + 1);
  first_task[0] = 0;
  for (int32_t i = 0; i < items; ++i) {
    const int32_t from = i == 0 ? 0 : a.ends[static_cast<size_t>(i) - 1];
    first_task[i + 1] = first_task[i] + cut.tasks(a.ends[static_cast<size_t>(i)] - from, a.kv_heads);
  }
  constexpr int32_t kTokens = static_cast<int32_t>(kTokenTile);
  const int64_t floats = attention_scratch_floats(dim, value_dim, kTokens);
  float* scratch = c.scratch.get<float>(Use::attention_threads, floats * c.pool.threads());
  c.pool.for_range(first_task[items], 1, [&](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t t = begin; t < end; ++t) {
      const auto i = static_cast<int32_t>(
          std::upper_bound(first_task, first_task + items + 1, t) - first_task - 1);
      const int32_t from = i == 0 ? 0 : a.ends[static_cast<size_t>(i) - 1];
      const int32_t rows = a.ends[static_cast<size_t>(i)] - from;
      const Piece piece(cut, t - first_task[i], rows, a.kv_heads, shared);
      const int32_t first_key = i == 0 ? 0 : key_ends[static_cast<size_t>(i) - 1];
      int32_t begins[kMicroRows] = {};
      int32_t ends[kMicroRows];
      std::fill_n(ends, piece.rows, key_ends[static_cast<size_t>(i)] - first_key);
      AttentionTask task;
      task.query = a.query.row<float>(from + piece.row) + int64_t{piece.head} * dim;
      task.query_stride = a.query.stride;
      task.output = a.output.row<float>(from + piece.row) + int64_t{piece.head} * value_dim;
      task.output_stride = a.output.stride;
      task.rows = piece.rows;
      task.heads = piece.heads;
      task.key_dim = dim;
      task.value_dim = value_dim;
      task.scale = a.scale;
      task.begins = begins;
      task.ends = ends;
      task.kv.block_tokens = kTokens;
      task.kv.keys = a.key.row<float>(first_key) + int64_t{piece.kv_head} * dim;
      task.kv.values = a.value.row<float>(first_key) + int64_t{piece.kv_head} * value_dim;
      task.kv.key_stride = a.key.stride;
      task.kv.value_stride = a.value.stride;
      attend(task, scratch + thread * floats);
    }
  });
}

}  // namespace troupe::cpu
