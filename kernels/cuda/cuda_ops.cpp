// The ops of the CUDA backend but for attention: which kernel takes what.
#include <algorithm>
#include <cstring>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/kv_cache.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/narrow_gemm.hpp"
#include "kernels/cuda/portable_gemm.hpp"

namespace troupe::cuda {
namespace {

static_assert(static_cast<int>(Curve::relu2) == static_cast<int>(Activation::relu2));

Status check_dtype(const Matrix& m, const char* what) {
  if (m.dtype == DType::f32 || m.dtype == DType::f16 || m.dtype == DType::bf16) return ok_status();
  return unsupported(std::string(what) + " of dtype " + dtype_name(m.dtype) +
                     ": the CUDA backend takes f32, f16 and bf16");
}

// Where our own kernel beats cuBLASLt on Hopper (docs/kernels.md).
constexpr int kSkinnyRowsBest = 32, kManyOutputs = 65536;
// Tiles of gated_gemm that leave more than this idle are slower than cuBLASLt with a gate behind
// it.
constexpr double kEvenEnough = 0.92;

bool skinny_pays(const SkinnyGemm& g) {
  return skinny_gemm_fits(g) && (g.m <= kSkinnyRowsBest || g.n >= kManyOutputs);
}

}  // namespace

// ---- placing weights ----

// Rows side by side, whatever lies between them on the host. Waits as upload() does: a copy that does
// not go to the stream may still be under way when it has returned, and the stream's kernels ask for
// weights before anything else.
Status CudaBackend::upload_rows(void* device, const Matrix& host) {
  const size_t element = dtype_bytes(host.dtype);
  const size_t row_bytes = static_cast<size_t>(host.cols) * element;
  if (host.stride == host.cols)
    return upload(device, host.data, row_bytes * static_cast<size_t>(host.rows));
  TR_TRY(status_of(
      cudaMemcpy2DAsync(device, row_bytes, host.data, static_cast<size_t>(host.stride) * element,
                        row_bytes, static_cast<size_t>(host.rows), cudaMemcpyHostToDevice, stream_),
      "uploading weights"));
  return status_of(cudaStreamSynchronize(stream_), "uploading weights");
}

Result<Matrix> CudaBackend::place(const Matrix& host,
                                  std::vector<std::unique_ptr<DeviceBuffer>>& arena) {
  if (!host) return host;
  TR_TRY(check_dtype(host, "a weight"));
  use();
  const size_t row_bytes = static_cast<size_t>(host.cols) * dtype_bytes(host.dtype);
  TR_ASSIGN(auto buffer, allocate_device(row_bytes * static_cast<size_t>(host.rows), "weights"));
  TR_TRY(upload_rows(buffer->data(), host));
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
    TR_TRY(upload_rows(to + row * row_bytes, part.values));
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
  remember_product(merged);
  arena.push_back(watched(merged, std::move(values)));
  arena.push_back(std::move(bias));
  return placed;
}

// ---- products ----

GemmOperands CudaBackend::operands_of(const LinearPart& w, const Matrix& x, const Matrix& y) const {
  GemmOperands g;
  g.m = static_cast<int>(x.rows);
  g.n = static_cast<int>(w.values.rows);
  g.k = static_cast<int>(w.values.cols);
  g.dtype = w.values.dtype;
  g.weight = w.values.data;
  const SlimStore::Slim slim = slims_->of(w.values.data);
  g.slim = slim.data;
  g.slim_paired = slim.paired;
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

bool CudaBackend::takes_skinny(const SkinnyGemm& gemm) const {
  if (major_ != 9) return false;
  if (!rows_independent_) {
    const SkinnyCut* cut = cut_of(gemm);
    if (cut != nullptr) return cut->skinny && skinny_gemm_fits(gemm);
    return skinny_pays(gemm) && !std::holds_alternative<ByCublaslt>(large_cut_of(gemm));
  }
  SkinnyGemm slice = gemm;
  slice.m = std::min(slice.m, kSkinnyRowsMax);
  return skinny_gemm_fits(slice);
}

cudaError_t CudaBackend::run_skinny(SkinnyGemm g) {
  g.fixed_cut = rows_independent_;
  if (const SkinnyCut* cut = rows_independent_ ? nullptr : cut_of(g)) {
    g.strips = cut->strips;
    g.parts = cut->parts;
  }
  const int rows = g.m;
  for (int begin = 0; begin < rows; begin += kSkinnyRowsMax) {
    SkinnyGemm slice = g;
    slice.m = std::min(rows - begin, kSkinnyRowsMax);
    slice.input = static_cast<const std::byte*>(g.input) +
                  static_cast<size_t>(begin * g.input_stride) * dtype_bytes(g.dtype);
    slice.output = static_cast<std::byte*>(g.output) +
                   static_cast<size_t>(begin * g.output_stride) *
                       (g.output_f32 ? sizeof(float) : dtype_bytes(g.dtype));
    if (g.likeliest != nullptr) slice.likeliest = g.likeliest + begin;
    TR_CUDA_TRY(skinny_gemm(slice, multiprocessors_, stream_));
  }
  return cudaSuccess;
}

LargeCut CudaBackend::large_cut_of(const GemmOperands& g) const {
  if (g.m <= kSkinnyRowsBest || rows_independent_) return {};  // cut_of() says who takes few rows
  const auto shape = larges_.find({g.n, g.k, g.sums_to()});
  if (shape == larges_.end()) return {};
  const auto found = shape->second.lower_bound(g.m);
  if (found == shape->second.end()) return {};
  const LargeCut& cut = found->second;
  if (const auto* wide = std::get_if<WideCut>(&cut)) {
    const WideGemm a{g, *wide};
    if (!wide_gemm_fits(a) || !wide_cut_fits(a, multiprocessors_)) return {};
  } else if (const auto* tile = std::get_if<GatedTile>(&cut)) {
    const GatedGemm a{g, *tile};
    const bool even = g.m <= kRowsTimed || gated_gemm_evenness(a, multiprocessors_) >= kEvenEnough;
    if (!gated_gemm_fits(a) || !even) return {};
  } else if (const auto* head = std::get_if<LikeliestTile>(&cut)) {
    if (!likeliest_gemm_fits({g, *head})) return {};
  }
  return cut;
}

cudaError_t CudaBackend::run_large(const GemmOperands& g, const LargeCut& cut) {
  if (const auto* wide = std::get_if<WideCut>(&cut))
    return wide_gemm({g, *wide}, multiprocessors_, stream_);
  if (const auto* head = std::get_if<LikeliestTile>(&cut))
    return likeliest_gemm({g, *head}, multiprocessors_, stream_);
  return gated_gemm({g, std::get<GatedTile>(cut)}, multiprocessors_, stream_);
}

void CudaBackend::product(const LinearPart& w, const Matrix& x, const Matrix& y) {
  if (x.rows == 0 || y.cols == 0) return;
  const GemmOperands operands = operands_of(w, x, y);
  const bool one_type = y.dtype == w.values.dtype || y.dtype == DType::f32;
  if (const SlimChoice* slim = slim_choice_of(operands); one_type && slim != nullptr)
    return check(run_slim(operands, *slim), "linear");
  if (const LargeCut cut = large_cut_of(operands); one_type && is_ours(cut))
    return check(run_large(operands, cut), "linear");
  if (one_type && !rows_independent_ && narrow_gemm_fits(operands))
    return check(narrow_gemm(operands, stream_), "linear");
  const SkinnyGemm skinny{operands};
  if (takes_skinny(skinny)) return check(run_skinny(skinny), "linear");
  // A bias of another type than the output is the portable kernel's, and so is what cuBLASLt does
  // not take: bf16 before compute capability 8.0.
  const bool plain_bias = !w.bias || w.bias.dtype == y.dtype;
  if (!is_aligned(x) || !is_aligned(y) || !is_aligned(w.values) || !plain_bias ||
      rows_independent_ || lt_ == nullptr || (major_ < 8 && w.values.dtype == DType::bf16)) {
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
  start_pass_or_upload();
  start_waiting();
}

void CudaBackend::start_pass_or_upload() {
  if (ready_ != nullptr) start_pass();
  if (const StepPlan* plan = std::exchange(unplaced_, nullptr)) {
    if (Status s = plan->upload(stream_); !s.ok()) fail(std::move(s));
    plan_next_ = plan->head().next;
  }
}

void CudaBackend::start_waiting() {
  written_.reset();
  start_mixture();
  for (const NormArgs& a : std::exchange(norms_, {})) run_norm(a);
  if (!waiting_) return;
  const LinearArgs a = *std::exchange(waiting_, std::nullopt);
  product(a.weight->parts[0], a.input, a.output);
}

bool CudaBackend::waits_for(const Matrix& output) const {
  return waiting_ && waiting_->output.data == output.data && waiting_->output.rows == output.rows &&
         waiting_->output.cols == output.cols;
}

bool CudaBackend::may_gate(const LinearArgs& a) const {
  const LinearPart& w = a.weight->parts[0];
  if (w.group_size != 2 || a.output.dtype != w.values.dtype) return false;
  SkinnyGemm gated{operands_of(w, a.input, a.output)};
  gated.gated_silu = true;
  return slim_choice_of(gated) != nullptr || takes_skinny(gated) || is_ours(large_cut_of(gated));
}

bool CudaBackend::may_leave_parts(const LinearArgs& a) const {
  const LinearPart& w = a.weight->parts[0];
  return a.output.dtype == w.values.dtype &&
         apart_cut_of(operands_of(w, a.input, a.output)).has_value();
}

// ---- the head, when likeliest tokens are all that is asked for ----

GemmOperands CudaBackend::likeliest_of(const LinearArgs& a) const {
  GemmOperands g = operands_of(a.weight->parts[0], a.input, a.output);
  g.likeliest = greedy_rows_.as<GreedyRow>();
  return g;
}

bool CudaBackend::may_draw(const StepPlan& plan, const LinearArgs& a) const {
  if (!plan.draws_greedily() || a.output.cols != vocab_ || a.output.dtype != DType::f32 ||
      a.output.rows != plan.counts.logit_rows)
    return false;
  const GemmOperands g = likeliest_of(a);
  return slim_choice_of(g) != nullptr || is_ours(large_cut_of(g)) || takes_skinny(SkinnyGemm{g});
}

cudaError_t CudaBackend::draw_from_product(const Sampling& s) {
  const GemmOperands g = likeliest_of(*std::exchange(waiting_, std::nullopt));
  const SlimChoice* slim = slim_choice_of(g);
  const LargeCut cut = large_cut_of(g);
  TR_CUDA_TRY(slim != nullptr ? run_slim(g, *slim)
              : is_ours(cut)  ? run_large(g, cut)
                              : run_skinny(SkinnyGemm{g}));
  return give_likeliest(s, stream_);
}

void CudaBackend::whole_linear(const LinearArgs& a, const StepPlan* plan) {
  flush();
  if (!may_gate(a) && !may_leave_parts(a) && (plan == nullptr || !may_draw(*plan, a)))
    return product(a.weight->parts[0], a.input, a.output);
  waiting_ = a;
}

void CudaBackend::linear(const Batch& batch, const LinearArgs& a) {
  if (joins_mixture(a)) return;
  if (a.select == RowSelect::all) return whole_linear(a, &plan_of(batch));
  flush();
  const LinearPart& w = a.weight->parts[0];
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
  const HeadGemm g = {a.input, a.weight, a.output, a.transposed, a.heads};
  const bool few = !rows_independent_ && head_rows_fits(g);
  check(few ? head_rows(g, stream_) : head_gemm(g, stream_), "head_linear");
}

void CudaBackend::gated_activation(const ActivationArgs& a) {
  if (joins_mixture(a)) return;
  if (a.kind == Activation::silu && waits_for(a.input) && a.output.dtype == a.input.dtype) {
    const LinearArgs waited = *std::exchange(waiting_, std::nullopt);
    SkinnyGemm g{operands_of(waited.weight->parts[0], waited.input, a.output)};
    g.gated_silu = true;
    if (const SlimChoice* slim = slim_choice_of(g))
      return check(run_slim(g, *slim), "linear with its gate");
    if (const LargeCut cut = large_cut_of(g); is_ours(cut))
      return check(run_large(g, cut), "linear with its gate");
    if (takes_skinny(g)) return check(run_skinny(g), "linear with its gate");
    product(waited.weight->parts[0], waited.input, waited.output);
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

void CudaBackend::add(const AddArgs& a) {
  if (joins_mixture(a)) return;
  flush();
  check(cuda::add({a.input, a.addend, a.output, a.scale}, stream_), "add");
}

void CudaBackend::gather(const Batch& batch, const GatherArgs& a) {
  flush();
  check(cuda::gather(a.input, plan_of(batch).at.gather_rows, a.output, stream_), "gather");
}

}  // namespace troupe::cuda
