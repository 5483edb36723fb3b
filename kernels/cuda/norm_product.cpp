// Norms, and products of few rows that meet the norm behind them. Such a product leaves the parts
// of k apart, and the norm adds them up while it reads: no block waits for the others' parts. What
// is added is rounded as if it had been written.
//
// Which products gain by that, and how they are cut, is timed with a norm behind each when a model
// has been placed. (At 256 rows parts are 16 MB, which take longer to write and read than meeting
// does; at 64 nothing is gained.)
#include <iterator>

#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/tuning.hpp"

namespace troupe::cuda {
namespace {

Norm norm_of(const NormArgs& a) {
  return {a.input,         a.residual, a.weight, a.bias, a.output, a.kind == NormKind::layer,
          a.weight_offset, a.eps,      a.group};
}

SkinnyGemm apart(const GemmOperands& g, const SkinnyCut& cut) {
  SkinnyGemm a{g};
  a.parts_apart = true;
  a.strips = cut.strips;
  a.parts = cut.parts;
  return a;
}

}  // namespace

const SkinnyCut* CudaBackend::apart_cut_of(const GemmOperands& g) const {
  if (rows_independent_ || g.m == 0) return nullptr;
  for (const int rows : kRowsSkinny) {
    if (g.m > rows) continue;
    const auto found = aparts_.find({g.n, g.k, rows});
    if (found == aparts_.end() || !skinny_gemm_fits(apart(g, found->second))) return nullptr;
    return &found->second;
  }
  return nullptr;
}

cudaError_t CudaBackend::leave_parts(const GemmOperands& g, const SkinnyCut& cut) {
  return skinny_gemm(apart(g, cut), multiprocessors_, stream_);
}

// Only a norm that takes what it reads into a residual is the product's only reader.
bool CudaBackend::norm_takes_waiting(const NormArgs& a) const {
  if (!waits_for(a.input) || !a.residual || waiting_->weight->parts[0].group_size == 2)
    return false;
  const DType dtype = waiting_->output.dtype;
  return a.input.dtype == dtype && a.residual.dtype == dtype && a.output.dtype == dtype;
}

// Heads, each with the same weight: first a query's, then a key's.
bool CudaBackend::put_off(const NormArgs& a) {
  const bool heads = a.kind == NormKind::rms && a.group > 0 && a.input.data == a.output.data &&
                     !a.residual && !a.bias && a.weight && a.weight.cols == a.group &&
                     a.weight.dtype == a.input.dtype && is_aligned(a.weight);
  if (!heads || norms_.size() == 2) return false;
  if (norms_.empty()) flush();
  norms_.push_back(a);
  return true;
}

void CudaBackend::run_norm(const NormArgs& a) {
  check(cuda::norm(norm_of(a), stream_), "norm");
}

void CudaBackend::norm(const NormArgs& a) {
  if (put_off(a)) return;
  Norm n = norm_of(a);
  if (norm_takes_waiting(a)) {
    const GemmOperands g =
        operands_of(waiting_->weight->parts[0], waiting_->input, waiting_->output);
    const SkinnyCut* cut = apart_cut_of(g);
    n.sums = partials_.as<float>();
    n.parts = cut == nullptr ? 0 : cut->parts;
    if (norm_adds_parts(n)) {
      waiting_.reset();
      check(leave_parts(g, *cut), "linear, its parts apart");
    } else {
      n.parts = 0;
    }
  }
  flush();
  check(cuda::norm(n, stream_), "norm");
}

size_t CudaBackend::norm_room(const ProductShape& s) {
  return 3 * (static_cast<size_t>(kRowsSkinny[std::size(kRowsSkinny) - 1] * s.n) *
                  dtype_bytes(s.dtype) +
              256);
}

// Keeps the best cut for b.gemm.m rows with a norm behind it, where it beats the product as it is
// chosen without.
void CudaBackend::tune_apart(const ProductShape& s, Bench& b) {
  const int64_t m = b.gemm.m;
  const auto rows = static_cast<int>(m);
  // Of these no product goes into a residual: gates, heads, and what is much wider than its input.
  if (s.gated || s.bias || s.n == vocab_ || s.n > s.k + s.k / 4 || s.n % 8 != 0) return;
  auto* const to = static_cast<std::byte*>(b.gemm.output);
  const auto matrix = [&](int64_t place) {
    const auto bytes = static_cast<size_t>(m * s.n) * dtype_bytes(s.dtype);
    return Matrix{to + static_cast<size_t>(place) * ((bytes + 255) / 256 * 256), s.dtype, m, s.n,
                  s.n};
  };
  Norm n;
  n.input = matrix(0);
  n.residual = matrix(1);
  n.output = matrix(2);
  n.weight = {const_cast<void*>(b.weights[0]), s.dtype, 1, s.n, s.n};
  LinearPart part;
  part.values = {nullptr, s.dtype, s.n, s.k, s.k};
  const Matrix input{const_cast<void*>(b.gemm.input), s.dtype, m, s.k, s.k};
  double best_ms = kOursWorthwhile * time_launches(b, [&](const void* weight) {
                     part.values.data = const_cast<void*>(weight);
                     product(part, input, n.input);
                     return cuda::norm(n, stream_);
                   });
  const GemmOperands of_bench = operands_of(b);
  const SkinnyCut* best = nullptr;
  const std::vector<SkinnyCut> all = cuts_left_apart(rows);
  n.sums = of_bench.partials;
  for (const SkinnyCut& cut : all) {
    n.parts = cut.parts;
    if (!norm_adds_parts(n)) continue;
    const double ms = time_launches(b, [&](const void* weight) {
      GemmOperands g = of_bench;
      g.weight = weight;
      const cudaError_t error = leave_parts(g, cut);
      return error == cudaSuccess ? cuda::norm(n, stream_) : error;
    });
    if (ms >= best_ms) continue;
    best_ms = ms;
    best = &cut;
  }
  if (best != nullptr) aparts_[{static_cast<int>(s.n), static_cast<int>(s.k), rows}] = *best;
}

}  // namespace troupe::cuda
