// The plain feed-forward as a class of its own: a mixture runs one beside its experts.
#pragma once

#include "models/layers/layer.hpp"

namespace troupe::models {

class DenseLayer final : public Sublayer {
 public:
  explicit DenseLayer(const Dense& spec) : spec_(spec) {}
  Status load(WeightLoader& loader);
  [[nodiscard]] size_t scratch_bytes(int64_t rows, DType activation) const override;
  void run(Step& step, const Matrix& input, const Matrix& output) override;
  [[nodiscard]] const PlacedLinear& up() const { return up_; }
  [[nodiscard]] const PlacedLinear& down() const { return down_; }

 private:
  const Dense& spec_;  // of the folder's description, which the model keeps
  PlacedLinear up_, down_;
};

}  // namespace troupe::models
