// Norms, and products of few rows that meet the norm behind them. Such a product leaves the parts
// of k apart, and the norm adds them up while it reads: no block waits for the others' parts. What
// is added is rounded as if it had been written.
//
// Which products gain by that, and how they are cut, is timed in a layer when a model has been
// placed. (At 256 rows parts are 16 MB, which take longer to write and read than meeting
// does; at 64 nothing is gained.)
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/tuning.hpp"

namespace troupe::cuda {
namespace {

Norm norm_of(const NormArgs& a) {
  return {a.input,         a.residual, a.weight, a.bias, a.output, a.kind == NormKind::layer,
          a.weight_offset, a.eps,      a.group};
}

SlimGemm apart(const GemmOperands& g, const SlimCut& cut) {
  SlimGemm a{g, cut};
  a.parts_apart = true;
  return a;
}

SkinnyGemm apart(const GemmOperands& g, const SkinnyCut& cut) {
  SkinnyGemm a{g};
  a.parts_apart = true;
  a.strips = cut.strips;
  a.parts = cut.parts;
  return a;
}

}  // namespace

// What timing chose for a slim weight was held against the plain one's parts: whole or in parts, it
// comes first.
std::optional<ApartCut> CudaBackend::apart_cut_of(const GemmOperands& g) const {
  if (rows_independent_ || g.m == 0) return std::nullopt;
  if (const SlimChoice* slim = slim_choice_of(g)) {
    if (!slim->apart || !slim_gemm_fits(apart(g, slim->cut))) return std::nullopt;
    return slim->cut;
  }
  for (const int rows : kRowsSkinny) {
    if (g.m > rows) continue;
    const auto found = aparts_.find({g.n, g.k, rows});
    if (found == aparts_.end() || !skinny_gemm_fits(apart(g, found->second))) return std::nullopt;
    return found->second;
  }
  return std::nullopt;
}

cudaError_t CudaBackend::leave_parts(const GemmOperands& g, const ApartCut& cut) {
  if (const auto* slim = std::get_if<SlimCut>(&cut))
    return slim_gemm(apart(g, *slim), multiprocessors_, stream_);
  return skinny_gemm(apart(g, std::get<SkinnyCut>(cut)), multiprocessors_, stream_);
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
    const std::optional<ApartCut> cut = apart_cut_of(g);
    n.sums = partials_.as<float>();
    n.parts = cut ? parts_of(*cut) : 0;
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

}  // namespace troupe::cuda
