// Ways of a product timed within layers: recorded as steps are, every other product as it is chosen by
// then, a norm in front of each but for what a gate feeds. Alone, launches of one kernel overlap as
// no two products of a step do; what a kernel asks for before the one in front of it has ended, and
// what the edges of kernels cost that do not, shows here only.
#include <algorithm>
#include <memory>

#include "kernels/cuda/tuning.hpp"

namespace troupe::cuda {
namespace {

constexpr int kLayersLeast = 2;
// A product is a part of a layer only.
constexpr RaceRules kRules = {3, 1.05, 11, 1.01};

}  // namespace

bool CudaBackend::enter_product(Layer& layer, size_t place) {
  const size_t count = layer.products.size();
  const Bench& b = *layer.products[place];
  const Bench& before = *layer.products[(place + count - 1) % count];
  if (before.shape.gated && before.gemm.n / 2 == b.gemm.k) return true;
  Norm n = b.norm;
  n.input.rows = n.residual.rows = n.output.rows = b.gemm.m;
  n.sums = partials_.as<float>();
  n.parts = std::exchange(layer.parts, 0);
  return cuda::norm(n, stream_) == cudaSuccess;
}

bool CudaBackend::as_chosen(const Bench& b, const void* weight) {
  const GemmOperands g = operands_at(b, weight);
  if (const auto cut = feeds_norm(b) ? apart_cut_of(g) : std::nullopt) {
    b.layer->parts = parts_of(*cut);
    return leave_parts(g, *cut) == cudaSuccess;
  }
  if (const SlimChoice* slim = slim_choice_of(g)) return run_slim(g, *slim) == cudaSuccess;
  const LargeCut cut = large_cut_of(g);
  return is_ours(cut) ? run_large(g, cut) == cudaSuccess : by_rule(b, weight);
}

bool CudaBackend::run_layers(Bench& b, const Way& way) {
  Layer& layer = *b.layer;
  layer.parts = 0;
  for (int copy = 0; copy < std::max(layer.copies, kLayersLeast); ++copy) {
    for (size_t i = 0; i < layer.products.size(); ++i) {
      const size_t place = (b.place + i) % layer.products.size();
      const Bench& next = *layer.products[place];
      const std::byte* weight =
          next.weight + static_cast<size_t>(copy % layer.copies) * layer.bytes;
      if (!enter_product(layer, place)) return false;
      if (place == b.place ? !way.launch(weight) : !as_chosen(next, weight)) return false;
    }
  }
  return enter_product(layer, b.place);
}

std::vector<double> CudaBackend::race_in_layers(Bench& b, const Ways& ways) {
  std::vector<std::unique_ptr<Recording>> layers;
  layers.reserve(ways.size());
  for (const Way& way : ways)
    layers.push_back(std::make_unique<Recording>(stream_, [&] { return run_layers(b, way); }));
  return race(ways.size(), kRules, [&](size_t i) { return b.clock.milliseconds(*layers[i]); });
}

}  // namespace troupe::cuda
