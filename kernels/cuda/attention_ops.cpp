// Attention and what comes right before it: rope, writing the cache; which kernel takes what.
#include <algorithm>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/kv_cache.hpp"

namespace troupe::cuda {
namespace {

Rope rope_of(const RopeSpec& s) {
  Rope r;
  r.interleaved = s.style == RopeStyle::interleaved;
  r.rotary_dim = s.rotary_dim;
  r.frequencies = static_cast<const float*>(s.frequencies.data);
  r.short_length = s.short_length;
  r.two_tables = s.frequencies.rows > 1;
  r.table_stride = s.frequencies.stride;
  r.attention_scale = s.attention_scale;
  r.attention_scale_long = s.attention_scale_long;
  r.dynamic_base = s.dynamic_base;
  r.dynamic_factor = s.dynamic_factor;
  r.dynamic_length = s.dynamic_length;
  std::copy(std::begin(s.sections), std::end(s.sections), std::begin(r.sections));
  r.sections_interleaved = s.sections_interleaved;
  return r;
}

// What both kernels for decoding are told alike: what to work on, and with which arguments.
template <class Decode>
void set_work(Decode& to, const StepPlan& plan, const AttentionArgs& a) {
  to.query = a.query.data;
  to.query_stride = a.query.stride;
  to.output = a.output.data;
  to.output_stride = a.output.stride;
  to.work = plan.at.decode + a.group;
  to.work_stride = plan.counts.groups;
  to.work_count = plan.at.decode_count;
  to.blocks = plan.at.blocks;
}

AttentionShape shape_of(const AttentionArgs& a, int32_t head_dim) {
  return {a.query.dtype,
          a.heads,
          head_dim,
          a.window,
          a.scale,
          a.softcap,
          static_cast<const float*>(a.alibi_slopes.data),
          static_cast<const float*>(a.sinks.data)};
}

}  // namespace

// The norms that were put off, if they are of these queries and keys.
bool CudaBackend::take_norms(RopeWrite& r) {
  if (!rope_write_norms(r)) return false;
  HeadNorm query, key;
  for (const NormArgs& n : norms_) {
    const bool of_query = n.input.data == r.query.data && n.input.cols == r.query.cols;
    if (n.group != r.head_dim || n.input.rows != r.query.rows ||
        (!of_query && (n.input.data != r.key.data || n.input.cols != r.key.cols)))
      return false;
    HeadNorm& to = of_query ? query : key;
    if (to.weight != nullptr) return false;
    to = {n.weight.data, n.weight_offset, n.eps};
  }
  norms_.clear();
  r.query_norm = query;
  r.key_norm = key;
  return true;
}

void CudaBackend::rope_write(const Batch& batch, const RopeWriteArgs& a) {
  if (norms_.empty()) flush();  // as norms that wait saw to
  const StepPlan& plan = plan_of(batch);
  RopeWrite r;
  if (a.rope != nullptr) r.rope = rope_of(*a.rope);
  r.query = a.query;
  r.key = a.key;
  r.value = a.value;
  r.heads = a.heads;
  r.head_dim = a.head_dim;
  r.rotary_begin = a.rotary_begin;
  r.key_dim = a.head_dim;
  r.kv_heads = a.key && a.head_dim > 0 ? static_cast<int32_t>(a.key.cols / a.head_dim) : 0;
  r.positions = plan.at.positions;
  r.rope_positions = plan.at.rope_positions;
  r.prompt_lengths = plan.at.prompts;
  if (a.cache != nullptr) {
    const KvCacheSpec& spec = a.cache->spec();
    r.cache = static_cast<CudaKvCache*>(a.cache)->layer(a.layer);
    r.cache_rows = plan.at.cache_rows + int64_t{a.group} * plan.counts.rows;
    r.kv_heads = spec.kv_heads;
    r.key_dim = spec.key_dim;
    r.value_dim = spec.value_dim;
    if (spec.values_in_keys) r.value = {};
  }
  if (!norms_.empty() && !take_norms(r)) flush();
  check(cuda::rope_write(r, stream_), "rope_write");
  if (a.cache != nullptr && a.key && a.value) written_ = a;
}

void CudaBackend::attend_plain(const Batch& batch, const AttentionArgs& a, int32_t rows_above) {
  const StepPlan& plan = plan_of(batch);
  PlainAttention p;
  p.cache = static_cast<CudaKvCache*>(a.cache)->layer(a.layer);
  p.shape = shape_of(a, p.cache.key_dim);
  p.query = a.query;
  p.output = a.output;
  p.row_sequence = plan.at.row_sequence;
  p.positions = plan.at.positions;
  p.span_ends = plan.at.span_ends;
  p.cross = a.span == AttentionSpan::cross;
  p.sequences =
      (p.cross ? plan.at.encoders : plan.at.sequences) + int64_t{a.group} * plan.counts.sequences;
  p.blocks = plan.at.blocks;
  p.rows_above = rows_above;
  p.rows_least = plan.counts.rows_least;
  p.rows_longest = plan.counts.rows_longest;
  p.rows_independent = rows_independent_;
  p.shared_max = shared_max_;
  if (const auto spans = batch.plan.cross_spans(); p.cross && !spans.empty()) {
    if (Status s = grow(mixed_, spans.size_bytes(), "encoder rows seen"); !s.ok())
      return fail(std::move(s));
    check(cudaMemcpyAsync(mixed_.as(), spans.data(), spans.size_bytes(), cudaMemcpyHostToDevice,
                          stream_),
          "attention");
    p.cross_spans = mixed_.as<int32_t>();
  }
  check(plain_attention(p, stream_), "attention");
}

// Single rows over a latent cache; what else the step holds goes to the plain kernel. False:
// nothing was done.
bool CudaBackend::attend_latent(const Batch& batch, const AttentionArgs& a,
                                const AttentionShape& shape) {
  const StepPlan& plan = plan_of(batch);
  // From the next step on sequences of one row, and only these, are listed as decoding.
  heads_per_kv_ = kDecodeRowsMax;
  latent_heads_ = std::max(latent_heads_, a.heads);
  const size_t shares = plan.counts.shares_max > 1
                            ? static_cast<size_t>(plan.counts.decode_items) *
                                  latent_partials_floats(a.heads) * sizeof(float)
                            : 0;
  if (plan.counts.decode_items == 0 || plan.counts.decode_rows_max > 1 || plan.counts.span_ends ||
      !is_aligned(a.query) || !is_aligned(a.output) || attention_partials_.bytes() < shares)
    return false;
  if (plan.counts.prefill_items > 0) attend_plain(batch, a, plan.counts.decode_longest);
  LatentAttention l;
  l.shape = shape;
  l.cache = static_cast<CudaKvCache*>(a.cache)->layer(a.layer);
  set_work(l, plan, a);
  if (plan.counts.spreads && latent_spreads(shape, plan.counts.sequences, multiprocessors_)) {
    l.sequences = plan.at.sequences + int64_t{a.group} * plan.counts.sequences;
    l.sequence_count = plan.counts.sequences;
  }
  l.partials = attention_partials_.as<float>();
  l.counters = attention_counters_.as<uint32_t>();
  check(latent_attention(l, multiprocessors_, stream_), "attention");
  return true;
}

void CudaBackend::attention(const Batch& batch, const AttentionArgs& a) {
  const auto written = written_;
  flush();
  if (a.query.rows == 0) return;
  const StepPlan& plan = plan_of(batch);
  const auto* cache = static_cast<const CudaKvCache*>(a.cache);
  const KvCacheSpec& spec = cache->spec();
  const int32_t group = a.heads / spec.kv_heads;
  if (group <= kDecodeRowsMax) heads_per_kv_ = std::max(heads_per_kv_, group);
  const AttentionShape shape = shape_of(a, spec.key_dim);
  if (latent_attention_fits(shape, cache->layer(a.layer), shared_max_) &&
      a.span == AttentionSpan::causal && attend_latent(batch, a, shape))
    return;
  const PagedLayer layer = cache->paged(a.layer);
  const bool simple = a.span == AttentionSpan::causal && !plan.counts.span_ends &&
                      spec.key_dim == spec.value_dim && !spec.values_in_keys &&
                      spec.dtype == a.query.dtype && is_aligned(a.query) && is_aligned(a.output);
  const bool decodes =
      simple && decode_attention_fits(shape, layer, plan.counts.decode_rows_max, shared_max_);
  // Whole prompts read keys and values where they still lie in rows: larger copies than cache
  // blocks.
  const bool in_rows = written && plan.counts.prefills_whole && written->cache == a.cache &&
                       written->layer == a.layer && written->key.stride == written->value.stride &&
                       is_aligned(written->key) && is_aligned(written->value) &&
                       prefill_attention_fits_rows(shape);
  const bool prefills = simple && major_ == 9 && (in_rows || prefill_attention_fits(shape, layer));
  if (!decodes && (!prefills || plan.counts.decode_items > 0 || rows_independent_))
    return attend_plain(batch, a, 0);
  const AttentionSequence* sequences = plan.at.sequences + int64_t{a.group} * plan.counts.sequences;
  if (plan.counts.prefill_items > 0 && !prefills)
    attend_plain(batch, a, plan.counts.decode_longest);
  if (plan.counts.prefill_items > 0 && prefills) {
    PrefillAttention p = {
        shape,         layer,           a.query.data, a.query.stride,  a.query.rows,
        a.output.data, a.output.stride, sequences,    plan.at.prefill, plan.counts.prefill_items,
        plan.at.blocks};
    if (in_rows) {
      p.layer.keys = written->key.data;
      p.layer.values = written->value.data;
      p.row_stride = written->key.stride;
    }
    check(prefill_attention(p, multiprocessors_, stream_), "attention");
  }
  if (plan.counts.decode_items == 0) return;
  DecodeAttention d;
  d.shape = shape;
  d.layer = layer;
  set_work(d, plan, a);
  if (plan.counts.spreads &&
      decode_spreads(shape, layer, plan.counts.sequences, multiprocessors_)) {
    d.sequences = sequences;
    d.sequence_count = plan.counts.sequences;
  }
  d.rows_max = plan.counts.decode_rows_max;
  d.partials = attention_partials_.as<float>();
  d.counters = attention_counters_.as<uint32_t>();
  check(decode_attention(d, multiprocessors_, stream_), "attention");
}

void CudaBackend::cross_write(const Batch& batch, const CrossWriteArgs& a) {
  flush();
  const StepPlan& plan = plan_of(batch);
  const PlanTable& table = batch.plan.table(a.sequence, a.group);
  check(cuda::cross_write({a.key, a.value, static_cast<CudaKvCache*>(a.cache)->layer(a.layer),
                           plan.at.blocks + table.begin},
                          stream_),
        "cross_write");
}

// Items whose keys are their own rows, in tiles on tensor cores. The lists of the last call are
// kept: a tower asks with the same ones in every layer.
bool CudaBackend::attend_packed(const PackedAttentionArgs& a) {
  AttentionShape shape;
  shape.dtype = a.query.dtype;
  shape.heads = a.heads;
  shape.head_dim = static_cast<int32_t>(a.query.cols / a.heads);
  shape.scale = a.scale;
  if (major_ != 9 || !a.key_ends.empty() || !prefill_attention_fits_rows(shape) ||
      a.key.dtype != a.query.dtype || a.key.stride != a.value.stride ||
      a.value.cols != a.key.cols || !is_aligned(a.query) || !is_aligned(a.key) ||
      !is_aligned(a.value) || !is_aligned(a.output))
    return false;
  std::vector<AttentionSequence> sequences;
  std::vector<PrefillWork> tiles;
  int32_t begin = 0;
  for (const int32_t end : a.ends) {
    const auto index = static_cast<int32_t>(sequences.size());
    for (int32_t t = 0; t * 128 < end - begin; ++t) tiles.push_back({index, t});
    sequences.push_back({begin, end - begin, end - begin, 0, 0, 0});
    begin = end;
  }
  if (tiles.empty()) return true;
  const size_t first = (sequences.size() * sizeof(AttentionSequence) + 15) / 16 * 16;
  if (!std::equal(a.ends.begin(), a.ends.end(), packed_ends_.begin(), packed_ends_.end())) {
    if (Status s = grow(packed_, first + tiles.size() * sizeof(PrefillWork), "packed attention");
        !s.ok()) {
      fail(std::move(s));
      return true;
    }
    check(cudaMemcpyAsync(packed_.as(), sequences.data(),
                          sequences.size() * sizeof(AttentionSequence), cudaMemcpyHostToDevice,
                          stream_),
          "packed_attention");
    check(cudaMemcpyAsync(packed_.as<std::byte>() + first, tiles.data(),
                          tiles.size() * sizeof(PrefillWork), cudaMemcpyHostToDevice, stream_),
          "packed_attention");
    packed_ends_.assign(a.ends.begin(), a.ends.end());
  }
  PrefillAttention p;
  p.shape = shape;
  p.layer.keys = a.key.data;
  p.layer.values = a.value.data;
  p.layer.kv_heads = static_cast<int32_t>(a.key.cols) / shape.head_dim;
  p.row_stride = a.key.stride;
  p.query = a.query.data;
  p.query_stride = a.query.stride;
  p.query_rows = a.query.rows;
  p.output = a.output.data;
  p.output_stride = a.output.stride;
  p.sequences = packed_.as<AttentionSequence>();
  p.work = reinterpret_cast<const PrefillWork*>(packed_.as<std::byte>() + first);
  p.work_count = static_cast<int32_t>(tiles.size());
  check(prefill_attention(p, multiprocessors_, stream_), "packed_attention");
  return true;
}

void CudaBackend::packed_attention(const PackedAttentionArgs& a) {
  flush();
  if (a.query.rows == 0 || attend_packed(a)) return;
  packed_ends_.clear();
  // One sequence an item; rows behind the last item belong to none.
  std::vector<AttentionSequence> sequences;
  std::vector<int32_t> row_sequence(static_cast<size_t>(a.query.rows), -1);
  const auto key_ends = a.key_ends.empty() ? a.ends : a.key_ends;
  int32_t begin = 0, first_key = 0;
  for (size_t i = 0; i < a.ends.size(); ++i) {
    const int32_t end = a.ends[i];
    std::fill(row_sequence.begin() + begin, row_sequence.begin() + end,
              static_cast<int32_t>(sequences.size()));
    sequences.push_back({first_key, std::max(end - begin, 1), key_ends[i] - first_key, 0, 0, 0});
    begin = end;
    first_key = key_ends[i];
  }
  const size_t first = row_sequence.size() * 4,
               second = sequences.size() * sizeof(AttentionSequence);
  if (Status s = grow(packed_, first + 16 + second, "packed attention"); !s.ok())
    return fail(std::move(s));
  auto* rows = packed_.as<std::byte>();
  auto* items = rows + (first + 15) / 16 * 16;
  check(cudaMemcpyAsync(rows, row_sequence.data(), first, cudaMemcpyHostToDevice, stream_),
        "packed_attention");
  check(cudaMemcpyAsync(items, sequences.data(), second, cudaMemcpyHostToDevice, stream_),
        "packed_attention");
  PlainAttention p;
  p.shape.dtype = a.query.dtype;
  p.shape.heads = a.heads;
  p.shape.head_dim = static_cast<int32_t>(a.query.cols / a.heads);
  p.shape.scale = a.scale;
  p.query = a.query;
  p.output = a.output;
  p.keys = a.key;
  p.values = a.value;
  p.row_sequence = reinterpret_cast<const int32_t*>(rows);
  p.sequences = reinterpret_cast<const AttentionSequence*>(items);
  p.cross = true;
  p.rows_independent = rows_independent_;
  p.shared_max = shared_max_;
  check(plain_attention(p, stream_), "packed_attention");
}

}  // namespace troupe::cuda
