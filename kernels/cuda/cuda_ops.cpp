// The ops of the CUDA backend: which kernel takes what.
#include <algorithm>
#include <cstring>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/kv_cache.hpp"
#include "kernels/cuda/portable_gemm.hpp"

namespace troupe::cuda {
namespace {

static_assert(static_cast<int>(Curve::relu2) == static_cast<int>(Activation::relu2));

bool aligned(const Matrix& m) {
  return reinterpret_cast<uintptr_t>(m.data) % 16 == 0 &&
         static_cast<size_t>(m.stride) * dtype_bytes(m.dtype) % 16 == 0;
}

Status check_dtype(const Matrix& m, const char* what) {
  if (m.dtype == DType::f32 || m.dtype == DType::f16 || m.dtype == DType::bf16) return ok_status();
  return unsupported(std::string(what) + " of dtype " + dtype_name(m.dtype) +
                     ": the CUDA backend takes f32, f16 and bf16");
}

// Where our own kernel beats cuBLASLt on Hopper (docs/kernels.md).
constexpr int kSkinnyRowsBest = 32, kLongInner = 8192, kManyOutputs = 65536;

bool skinny_pays(const SkinnyGemm& g) {
  return skinny_gemm_fits(g) &&
         (g.m <= kSkinnyRowsBest || g.k >= kLongInner || g.n >= kManyOutputs);
}

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

}  // namespace

// ---- placing weights ----

Result<Matrix> CudaBackend::place(const Matrix& host,
                                  std::vector<std::unique_ptr<DeviceBuffer>>& arena) {
  if (!host) return host;
  TR_TRY(check_dtype(host, "a weight"));
  use();
  const size_t row_bytes = static_cast<size_t>(host.cols) * dtype_bytes(host.dtype);
  TR_ASSIGN(auto buffer, allocate_device(row_bytes * static_cast<size_t>(host.rows), "weights"));
  if (host.stride == host.cols) {
    TR_TRY(upload(buffer->data(), host.data, row_bytes * static_cast<size_t>(host.rows)));
  } else {
    TR_TRY(
        status_of(cudaMemcpy2D(buffer->data(), row_bytes, host.data,
                               static_cast<size_t>(host.stride) * dtype_bytes(host.dtype),
                               row_bytes, static_cast<size_t>(host.rows), cudaMemcpyHostToDevice),
                  "uploading weights"));
  }
  const Matrix placed{buffer->data(), host.dtype, host.rows, host.cols, host.cols};
  arena.push_back(std::move(buffer));
  return placed;
}

// The parts become one matrix, its rows rounded up to 16 (kernels read whole strips).
Result<LinearWeight> CudaBackend::place(const LinearWeight& host,
                                        std::vector<std::unique_ptr<DeviceBuffer>>& arena) {
  if (host.parts.empty()) return host;
  use();
  const DType dtype = host.parts[0].values.dtype;
  bool biased = false;
  for (const LinearPart& part : host.parts) {
    if (part.format != WeightFormat::plain) {
      return unsupported(
          "quantised weights on CUDA: this version reads plain f32, f16 and bf16 weights");
    }
    TR_TRY(check_dtype(part.values, "a linear weight"));
    if (part.values.dtype != dtype || (part.bias && part.bias.dtype != dtype)) {
      return unsupported("a linear layer whose parts differ in dtype: load it with one --dtype");
    }
    biased = biased || part.bias;
  }
  const size_t element = dtype_bytes(dtype), row_bytes = static_cast<size_t>(host.in) * element;
  const auto rows = static_cast<size_t>((host.out + 15) / 16 * 16);
  TR_ASSIGN(auto values, allocate_device(rows * row_bytes, "weights"));
  TR_ASSIGN(auto bias, allocate_device(biased ? rows * element : 0, "biases"));
  auto* to = static_cast<std::byte*>(values->data());
  TR_TRY(status_of(cudaMemset(to + static_cast<size_t>(host.out) * row_bytes, 0,
                              (rows - static_cast<size_t>(host.out)) * row_bytes),
                   "weights"));
  if (biased) TR_TRY(status_of(cudaMemset(bias->data(), 0, rows * element), "biases"));
  TR_TRY(status_of(cudaStreamSynchronize(nullptr), "weights"));
  size_t row = 0;
  for (const LinearPart& part : host.parts) {
    const auto count = static_cast<size_t>(part.values.rows);
    if (part.values.stride == part.values.cols) {
      TR_TRY(upload(to + row * row_bytes, part.values.data, count * row_bytes));
    } else {
      TR_TRY(status_of(cudaMemcpy2D(to + row * row_bytes, row_bytes, part.values.data,
                                    static_cast<size_t>(part.values.stride) * element, row_bytes,
                                    count, cudaMemcpyHostToDevice),
                       "uploading weights"));
    }
    if (part.bias)
      TR_TRY(upload(static_cast<std::byte*>(bias->data()) + row * element, part.bias.data,
                    count * element));
    row += count;
  }
  LinearWeight placed;
  placed.in = host.in;
  placed.out = host.out;
  LinearPart& merged = placed.parts.emplace_back();
  merged.values = {values->data(), dtype, host.out, host.in, host.in};
  if (biased) merged.bias = {bias->data(), dtype, 1, host.out, host.out};
  // Two equal halves may be a gate and what it opens: gated_activation() looks at this.
  merged.group_size =
      host.parts.size() == 2 && host.parts[0].values.rows == host.parts[1].values.rows ? 2 : 0;
  arena.push_back(std::move(values));
  arena.push_back(std::move(bias));
  return placed;
}

// ---- products ----

SkinnyGemm CudaBackend::skinny_of(const LinearPart& w, const Matrix& x, const Matrix& y) const {
  SkinnyGemm g;
  g.m = static_cast<int>(x.rows);
  g.n = static_cast<int>(w.values.rows);
  g.k = static_cast<int>(w.values.cols);
  g.dtype = w.values.dtype;
  g.weight = w.values.data;
  g.input = x.data;
  g.input_stride = x.stride;
  g.bias = w.bias.data;
  g.output = y.data;
  g.output_stride = y.stride;
  g.output_f32 = y.dtype == DType::f32;
  g.partials = partials_.as<float>();
  g.counters = counters_.as<uint32_t>();
  return g;
}

void CudaBackend::product(const LinearPart& w, const Matrix& x, const Matrix& y) {
  if (x.rows == 0 || y.cols == 0) return;
  const SkinnyGemm skinny = skinny_of(w, x, y);
  if (major_ == 9 && skinny_pays(skinny)) {
    return check(skinny_gemm(skinny, multiprocessors_, stream_), "linear");
  }
  // A bias of another type than the output is the portable kernel's.
  const bool plain_bias = !w.bias || w.bias.dtype == y.dtype;
  if (!aligned(x) || !aligned(y) || !aligned(w.values) || !plain_bias) {
    return check(portable_gemm({x, w.values, w.bias, y}, stream_), "linear");
  }
  Gemm g;
  g.m = x.rows;
  g.n = w.values.rows;
  g.k = w.values.cols;
  g.dtype = w.values.dtype;
  g.output_dtype = y.dtype;
  g.weight = w.values.data;
  g.input = x.data;
  g.input_stride = x.stride;
  g.bias = w.bias.data;
  g.output = y.data;
  g.output_stride = y.stride;
  if (Status s = lt_->multiply(g, gemm_workspace_.as(), gemm_workspace_.bytes(), stream_); !s.ok())
    fail(std::move(s));
}

void CudaBackend::flush() {
  written_.reset();
  if (!waiting_) return;
  const LinearArgs a = *std::exchange(waiting_, std::nullopt);
  product(a.weight->parts[0], a.input, a.output);
}

void CudaBackend::linear(const Batch& batch, const LinearArgs& a) {
  flush();
  const LinearPart& w = a.weight->parts[0];
  if (a.select == RowSelect::all) {
    SkinnyGemm gated = skinny_of(w, a.input, a.output);
    gated.gated_silu = true;
    const bool may_gate =
        w.group_size == 2 && a.output.dtype == w.values.dtype && major_ == 9 && skinny_pays(gated);
    if (may_gate) {
      waiting_ = a;
      return;
    }
    return product(w, a.input, a.output);
  }
  const StepPlan& plan = plan_of(batch);
  const int32_t keep = a.select == RowSelect::vision ? 1 : 0;
  if (plan.at.modality == nullptr) {  // all rows are text
    if (keep == 0) product(w, a.input, a.output);
    return;
  }
  Matrix all = a.output;
  all.stride = (a.output.cols + 7) / 8 * 8;
  if (Status s = grow(selected_, all.bytes(), "rows of one modality"); !s.ok())
    return fail(std::move(s));
  all.data = selected_.as();
  product(w, a.input, all);
  check(copy_rows({all, a.output, plan.at.modality, keep}, stream_), "linear");
}

void CudaBackend::head_linear(const HeadLinearArgs& a) {
  flush();
  check(head_gemm({a.input, a.weight, a.output, a.transposed, a.heads}, stream_), "head_linear");
}

void CudaBackend::gated_activation(const ActivationArgs& a) {
  if (waiting_ && a.kind == Activation::silu && waiting_->output.data == a.input.data &&
      waiting_->output.rows == a.input.rows && a.input.cols == waiting_->output.cols &&
      a.output.dtype == a.input.dtype) {
    const LinearArgs waited = *std::exchange(waiting_, std::nullopt);
    SkinnyGemm g = skinny_of(waited.weight->parts[0], waited.input, a.output);
    g.gated_silu = true;
    return check(skinny_gemm(g, multiprocessors_, stream_), "linear with its gate");
  }
  flush();
  check(cuda::activation(static_cast<Curve>(a.kind), true, a.input, a.output, stream_),
        "gated_activation");
}

void CudaBackend::activation(const ActivationArgs& a) {
  flush();
  check(cuda::activation(static_cast<Curve>(a.kind), false, a.input, a.output, stream_),
        "activation");
}

Result<const ExpertWeights*> CudaBackend::expert_table(const ExpertsArgs& a) {
  // Known again by the weights themselves: the caller's list may move or be another's.
  uint64_t key = 0xCBF29CE484222325ULL;
  for (const auto* list : {&a.gate_up, &a.down}) {
    for (const LinearWeight& w : *list)
      key = (key ^ reinterpret_cast<uintptr_t>(w.parts[0].values.data)) * 0x100000001B3ULL;
  }
  if (const auto found = expert_tables_.find(key); found != expert_tables_.end()) {
    return static_cast<const ExpertWeights*>(found->second->data());
  }
  if (recording_ != nullptr)
    return internal_error("experts: a table is missing while a step is recorded");
  std::vector<ExpertWeights> table;
  for (size_t e = 0; e < a.gate_up.size(); ++e) {
    const LinearPart &up = a.gate_up[e].parts[0], &down = a.down[e].parts[0];
    table.push_back({up.values.data, up.bias.data, down.values.data, down.bias.data});
  }
  TR_ASSIGN(auto buffer,
            allocate_device(table.size() * sizeof(ExpertWeights), "a table of experts"));
  TR_TRY(upload(buffer->data(), table.data(), table.size() * sizeof(ExpertWeights)));
  const auto* placed = static_cast<const ExpertWeights*>(buffer->data());
  expert_tables_.emplace(key, std::move(buffer));
  return placed;
}

void CudaBackend::experts(const Batch&, const ExpertsArgs& a) {
  flush();
  if (a.input.rows == 0) return;
  const RoutingSpec& r = *a.routing;
  ExpertsWork w;
  w.input = a.input;
  w.logits = a.router_logits;
  w.output = a.output;
  w.routing = {r.score == RouterScore::sigmoid,
               r.renormalise,
               r.experts,
               r.top_k,
               r.groups,
               r.top_groups,
               r.group_score_top,
               r.scale,
               static_cast<const float*>(r.correction.data)};
  w.local = static_cast<int32_t>(a.gate_up.size());
  w.first = a.first_expert;
  w.curve = static_cast<Curve>(a.activation);
  if (w.local > 0) {
    auto table = expert_table(a);
    if (!table.ok()) return fail(table.status());
    w.weights = *table;
    w.inner = static_cast<int32_t>(a.gate_up[0].out / 2);
    w.dtype = a.gate_up[0].parts[0].values.dtype;
  } else {
    w.dtype = a.input.dtype;
  }
  const auto items = static_cast<size_t>(a.input.rows) * static_cast<size_t>(r.top_k);
  const size_t between = items * static_cast<size_t>(w.inner) * dtype_bytes(w.dtype);
  const size_t small = (items * 4 + 255) / 256 * 256;
  if (recording_ != nullptr && expert_work_.bytes() < 3 * small + between)
    return fail(internal_error("experts: no room while a step is recorded"));
  if (Status s = grow(expert_work_, 3 * small + between, "experts"); !s.ok())
    return fail(std::move(s));
  auto* base = expert_work_.as<std::byte>();
  w.chosen = reinterpret_cast<int32_t*>(base);
  w.shares = reinterpret_cast<float*>(base + small);
  w.between = base + 3 * small;
  if (!a.forced.empty()) {
    auto* forced = reinterpret_cast<int32_t*>(base + 2 * small);
    check(cudaMemcpyAsync(forced, a.forced.data(), items * 4, cudaMemcpyHostToDevice, stream_),
          "experts");
    w.forced = forced;
  }
  check(cuda::experts(w, stream_), "experts");
}

// ---- rows ----

void CudaBackend::embed(const Batch& batch, const EmbedArgs& a) {
  flush();
  const StepPlan& plan = plan_of(batch);
  check(cuda::embed({a.table, a.output, a.first_token, a.scale, plan.at.tokens, plan.at.slots,
                     last_tokens_.as<int32_t>()},
                    stream_),
        "embed");
}

void CudaBackend::inject(const Batch& batch, const InjectArgs& a) {
  flush();
  const auto injects = batch.plan.injects();
  for (size_t i = 0; i < injects.size() && i < a.sources.size(); ++i) {
    const PlanInject& in = injects[i];
    if (in.count == 0) continue;
    Matrix from = a.sources[i], to = a.output;
    from.data = static_cast<std::byte*>(from.data) +
                static_cast<size_t>(in.source_row * from.stride) * dtype_bytes(from.dtype);
    to.data = static_cast<std::byte*>(to.data) +
              static_cast<size_t>(in.row * to.stride) * dtype_bytes(to.dtype);
    from.rows = to.rows = in.count;
    check(copy_rows({from, to, nullptr, 0}, stream_), "inject");
  }
}

void CudaBackend::norm(const NormArgs& a) {
  flush();
  check(cuda::norm({a.input, a.residual, a.weight, a.bias, a.output, a.kind == NormKind::layer,
                    a.weight_offset, a.eps, a.group},
                   stream_),
        "norm");
}

void CudaBackend::add(const AddArgs& a) {
  flush();
  check(cuda::add({a.input, a.addend, a.output, a.scale}, stream_), "add");
}

void CudaBackend::gather(const Batch& batch, const GatherArgs& a) {
  flush();
  check(cuda::gather(a.input, plan_of(batch).at.gather_rows, a.output, stream_), "gather");
}

// ---- attention ----

void CudaBackend::rope_write(const Batch& batch, const RopeWriteArgs& a) {
  flush();
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
  check(cuda::rope_write(r, stream_), "rope_write");
  if (a.cache != nullptr && a.key && a.value) written_ = a;
}

void CudaBackend::attend_plain(const Batch& batch, const AttentionArgs& a, int32_t rows_above) {
  const StepPlan& plan = plan_of(batch);
  PlainAttention p;
  p.cache = static_cast<CudaKvCache*>(a.cache)->layer(a.layer);
  p.shape = {a.query.dtype,
             a.heads,
             p.cache.key_dim,
             a.window,
             a.scale,
             a.softcap,
             static_cast<const float*>(a.alibi_slopes.data),
             static_cast<const float*>(a.sinks.data)};
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

void CudaBackend::attention(const Batch& batch, const AttentionArgs& a) {
  const auto written = written_;
  flush();
  if (a.query.rows == 0) return;
  const StepPlan& plan = plan_of(batch);
  const auto* cache = static_cast<const CudaKvCache*>(a.cache);
  const KvCacheSpec& spec = cache->spec();
  const int32_t group = a.heads / spec.kv_heads;
  if (group <= kDecodeRowsMax) heads_per_kv_ = std::max(heads_per_kv_, group);
  const AttentionShape shape = {a.query.dtype,
                                a.heads,
                                spec.key_dim,
                                a.window,
                                a.scale,
                                a.softcap,
                                static_cast<const float*>(a.alibi_slopes.data),
                                static_cast<const float*>(a.sinks.data)};
  const PagedLayer layer = cache->paged(a.layer);
  const bool simple = a.span == AttentionSpan::causal && !plan.counts.span_ends &&
                      spec.key_dim == spec.value_dim && !spec.values_in_keys &&
                      spec.dtype == a.query.dtype && aligned(a.query) && aligned(a.output);
  const bool decodes = simple && decode_attention_fits(shape, layer) &&
                       group * plan.counts.decode_rows_max <= kDecodeRowsMax;
  // Whole prompts read keys and values where they still lie in rows: larger copies than cache
  // blocks.
  const bool in_rows = written && plan.counts.prefills_whole && written->cache == a.cache &&
                       written->layer == a.layer && written->key.stride == written->value.stride &&
                       aligned(written->key) && aligned(written->value) &&
                       prefill_attention_fits_rows(shape);
  const bool prefills = simple && major_ == 9 && (in_rows || prefill_attention_fits(shape, layer));
  if (!decodes && (!prefills || plan.counts.decode_items > 0)) return attend_plain(batch, a, 0);
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
    check(prefill_attention(p, stream_), "attention");
  }
  if (plan.counts.decode_items == 0) return;
  DecodeAttention d;
  d.shape = shape;
  d.layer = layer;
  d.query = a.query.data;
  d.query_stride = a.query.stride;
  d.output = a.output.data;
  d.output_stride = a.output.stride;
  d.work = plan.at.decode + a.group;
  d.work_stride = plan.counts.groups;
  d.work_count = plan.at.decode_count;
  d.blocks = plan.at.blocks;
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

void CudaBackend::packed_attention(const PackedAttentionArgs& a) {
  flush();
  if (a.query.rows == 0) return;
  // One sequence an item; rows behind the last item belong to none.
  std::vector<AttentionSequence> sequences;
  std::vector<int32_t> row_sequence(static_cast<size_t>(a.query.rows), -1);
  const auto key_ends = a.key_ends.empty() ? a.ends : a.key_ends;
  int32_t begin = 0, first_key = 0;
  for (size_t i = 0; i < a.ends.size(); ++i) {
    const int32_t end = a.ends[i];
    std::fill(row_sequence.begin() + begin, row_sequence.begin() + end,
              static_cast<int32_t>(sequences.size()));
    sequences.push_back(
        {first_key, std::max(end - begin, 1), key_ends[i] - first_key, 0, 0, 0});
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
  check(plain_attention(p, stream_), "packed_attention");
}

}  // namespace troupe::cuda
