// The placed half of a layer: mixers and feed-forwards with their weights on the device. One file
// per variant of description.hpp beside this one.
#pragma once

#include <memory>

#include "models/description.hpp"
#include "models/layers/step.hpp"
#include "models/weights.hpp"

namespace troupe::models {

class Sublayer {
 public:
  virtual ~Sublayer() = default;
  // Reads normed rows, writes this branch's contribution; with tensor parallelism, this rank's part
  // of a sum. Takes its scratch from step.scratch.
  virtual void run(Step& step, const Matrix& input, const Matrix& output) = 0;
  [[nodiscard]] virtual size_t scratch_bytes(int64_t rows, DType activation) const = 0;
  // Cross-attention only: writes the encoder rows of one sequence into the cache.
  virtual void encode(Step& /*step*/, int32_t /*sequence*/, const Matrix& /*states*/) {}
  [[nodiscard]] virtual size_t encode_bytes(DType /*activation*/) const { return 0; }
};

// Where a layer keeps what it remembers.
struct CachePlace {
  int32_t group = 0;
  int32_t layer = 0;  // within the group
};

Result<std::unique_ptr<Sublayer>> load_mixer(const GroupedQuery&, CachePlace, WeightLoader&);
Result<std::unique_ptr<Sublayer>> load_mixer(const Latent&, CachePlace, WeightLoader&);
Result<std::unique_ptr<Sublayer>> load_mixer(const Cross&, CachePlace, WeightLoader&);
Result<std::unique_ptr<Sublayer>> load_ffn(const Dense&, WeightLoader&);
Result<std::unique_ptr<Sublayer>> load_ffn(const Experts&, WeightLoader&);

// ---- what several of them need ----
struct PlacedNorm {
  NormKind kind = NormKind::rms;
  Matrix weight, bias;
  float eps = 1e-5F;
  float weight_offset = 0.0F;
  int32_t group = 0;
  explicit operator bool() const { return static_cast<bool>(weight); }
  // residual += input when there is a residual; output = norm of the sum.
  void run(Backend& backend, const Matrix& input, const Matrix& residual,
           const Matrix& output) const;
};
Result<PlacedNorm> load_norm(const NormSpec& spec, WeightLoader& loader);

// Every row through `text`, or vision rows through `vision` where the layer and the plan have them.
void run_linear(Step& step, const PlacedLinear& weight, const Matrix& input, const Matrix& output);

// Heads of one rank. Fewer key heads than ranks are repeated.
inline int32_t rank_heads(int32_t heads, int32_t ranks) {
  return heads >= ranks ? heads / ranks : 1;
}

}  // namespace troupe::models
