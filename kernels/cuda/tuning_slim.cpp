// Products by slim weights, timed for each row count when everything else has been chosen for it,
// against that choice: in layers, and the head alone. The weights are the model's own copies.
#include <algorithm>
#include <string>

#include "kernels/cuda/tuning.hpp"

namespace troupe::cuda {
namespace {

// What is read in turn must not stay in L2: of few or small weights there are more copies
// meanwhile.
constexpr size_t kTurnsMost = 32, kTurnBytes = size_t{256} << 20;

std::vector<SlimCut> slim_cuts(int rows, const std::vector<int>& parts) {
  std::vector<SlimCut> all;
  for (const int strips : {3, 4, 7, 8, 14, 16}) {
    if (rows <= 16 && strips > 8) continue;
    for (const int p : parts) {
      if (const SlimCut cut = {strips, p}; slim_cut_fits(rows, cut)) all.push_back(cut);
    }
  }
  return all;
}

// Whether its planes of sums have room where a norm looks for them.
bool left_apart_fits(const SlimCut& cut, const Gemm& g) {
  const auto sums = static_cast<size_t>(g.m * g.n) * static_cast<size_t>(cut.parts);
  return sums * sizeof(float) <= slim_gemm_partials_bytes();
}

}  // namespace

// The address of each turn and of each layer's copy stands for one of the slim weights.
Status CudaBackend::find_slims(Bench& b) {
  const SlimShape shape = {b.shape.n, b.shape.k, b.shape.gated};
  if (b.shape.dtype != DType::bf16) return ok_status();
  b.slims = slims_->all_of(shape);
  if (b.slims.empty()) return ok_status();
  b.slims.resize(std::min(b.slims.size(), kTurnsMost));
  while (b.slims.size() < kTurnsMost && b.slims.size() * shape.bytes() < kTurnBytes) {
    auto copy = allocate_device(shape.bytes(), "timing products");
    if (!copy.ok()) break;
    TR_TRY(status_of(cudaMemcpyAsync((*copy)->data(), b.slims[0], shape.bytes(),
                                     cudaMemcpyDeviceToDevice, stream_),
                     "timing products"));
    b.slims.push_back((*copy)->data());
    b.more_slims.push_back(std::move(*copy));
  }
  const auto take = [&b](const std::byte* first, size_t stride, size_t count) {
    for (size_t i = 0; i < count; ++i)
      b.slim_at.emplace(first + i * stride, b.slims[i % b.slims.size()]);
  };
  if (b.layer != nullptr) take(b.weight, b.layer->bytes, static_cast<size_t>(b.layer->copies));
  take(static_cast<const std::byte*>(b.gemm.weight), weight_bytes_of(b.gemm), kTurnsMost);
  return ok_status();
}

GemmOperands CudaBackend::operands_at(const Bench& b, const void* weight) const {
  GemmOperands g = operands_of(b);
  g.weight = weight;
  const auto found = b.slim_at.find(weight);
  if (found == b.slim_at.end()) return g;
  g.slim = found->second;
  g.slim_paired = b.shape.gated;
  return g;
}

// What is chosen without them, and every cut; parts left apart where a norm can add them up.
CudaBackend::Ways CudaBackend::ways_of_slim(Bench& b) {
  SlimChoice& kept = slim_choices_[{b.gemm.n, b.gemm.k, b.sums_to}][b.gemm.m];
  kept = {};
  Ways ways = {{"plain", [this, &b](const void* weight) { return as_chosen(b, weight); },
                [&kept] { kept = {}; }}};
  const auto rows = static_cast<int>(b.gemm.m);
  const auto take = [&](const SlimChoice& choice) {
    const std::string name = (choice.apart ? "slim, parts apart " : "slim ") +
                             std::to_string(choice.cut.strips) + " x " +
                             std::to_string(choice.cut.parts);
    ways.push_back({name,
                    [this, &b, choice](const void* weight) {
                      const GemmOperands g = operands_at(b, weight);
                      if (!choice.apart) return run_slim(g, choice) == cudaSuccess;
                      b.layer->parts = choice.cut.parts;
                      return leave_parts(g, choice.cut) == cudaSuccess;
                    },
                    [&kept, choice] { kept = choice; }});
  };
  for (const SlimCut& cut : slim_cuts(rows, {1, 2, 4})) take({cut, false});
  if (!feeds_norm(b)) return ways;
  for (const SlimCut& cut : slim_cuts(rows, {2, 3, 4}))
    if (left_apart_fits(cut, b.gemm)) take({cut, true});
  return ways;
}

void CudaBackend::tune_slim(Bench& b) {
  if (b.slims.empty()) return;
  b.packed = true;
  if (b.is_head()) {
    tune_slim_head(b);
  } else {
    settle_in_layers(b, heat(b, ways_of_slim(b)));
  }
  b.packed = false;
}

void CudaBackend::tune_slim_head(Bench& b) {
  const double best = settle_alone(b, ways_of_slim(b));
  if (b.shape.gated) return;
  b.sums_to = SumsTo::likeliest;
  Ways ways = ways_of_slim(b);
  const GemmOperands g = operands_at(b, b.gemm.weight);
  if (!is_ours(large_cut_of(g)) && !takes_skinny(SkinnyGemm{g})) {  // logits are read again
    ways[0].launch = {};
    ways[0].ms = best + beside_ms(b.sums_to, b.gemm.m, b.gemm.n);
  }
  settle_alone(b, ways);
  b.sums_to = b.usually();
}

}  // namespace troupe::cuda
