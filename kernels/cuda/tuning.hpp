// What timing products shares: a product on memory of its own, the layer it stands in, its ways.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/launch_clock.hpp"
#include "kernels/cuda/race.hpp"

namespace troupe::cuda {

constexpr int64_t kElementsLeast = int64_t{1} << 20;  // smaller weights are not worth it

// Side by side in memory.
inline size_t weight_bytes_of(int64_t elements) {
  return (static_cast<size_t>(elements) * 2 + 255) / 256 * 256;
}
inline size_t weight_bytes_of(const Gemm& g) {
  return weight_bytes_of(g.n * g.k);
}
// What the sums of a product of another's cost beside it, where ours takes that along.
double beside_ms(SumsTo sums_to, int64_t rows, int64_t outputs);

// One way to compute a product.
struct CudaBackend::Way {
  std::string name;
  LaunchClock::Launch launch;  // none: it takes `ms`
  std::function<void()> keep;  // remembers it for such products
  double ms = kNever;  // alone
};

struct CudaBackend::Bench {
  Bench(std::vector<const void*> weights, cudaStream_t stream)
      : clock(std::move(weights), stream) {}

  LaunchClock clock;
  ProductShape shape = {};
  Gemm gemm = {};
  SumsTo sums_to = SumsTo::output;
  int64_t rows_most = 0;
  double others_ms = kNever;  // cuBLASLt's milliseconds for gemm.m rows
  // In a layer: the norm in front, which writes the input, and the weight in the first copy. The head
  // stands in none.
  Layer* layer = nullptr;
  size_t place = 0;
  Norm norm = {};
  const std::byte* weight = nullptr;
  // Slim weights of the shape, in place of those at these addresses; none: it has no copies.
  std::vector<const void*> slims;
  std::vector<std::unique_ptr<DeviceBuffer>> more_slims;
  std::unordered_map<const void*, const void*> slim_at;
  bool packed = false;  // these are timed

  [[nodiscard]] bool is_head() const { return gemm.output_dtype == DType::f32; }
  [[nodiscard]] SumsTo usually() const { return shape.gated ? SumsTo::gate : SumsTo::output; }
};

// The products of a model once, in the order in which they were placed: about what a layer of it
// does, but for attention. (A model whose layers differ has all their products in one.)
struct CudaBackend::Layer {
  std::vector<Bench*> products;
  size_t bytes = 0;  // of its weights
  int copies = 1;  // of them, one behind the other: what is small would stay in L2
  int parts = 0;  // that the last product left for the next norm to add up; 0: none
};

// Between two of these the upper one's choice serves (and more rows: tuning.cpp).
constexpr int kRowsSkinny[] = {8, 16, 32};
constexpr int kRowsSlimMost = 64;  // up to which slim weights are timed as well
// The cuts of skinny_gemm that are timed for so many rows: where a tile's parts meet in it, and where
// whoever reads the product adds them up.
std::vector<SkinnyCut> cuts_that_meet(int rows);
std::vector<SkinnyCut> cuts_left_apart(int rows);

}  // namespace troupe::cuda
