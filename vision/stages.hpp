// The placed stages of a projector: what becomes of a tile's rows behind the tower. One class per
// variant of Stage, each with its weights on the device.
#pragma once

#include <memory>
#include <vector>

#include "models/layers/layer.hpp"
#include "vision/rows.hpp"

namespace troupe::vision {

class PlacedStage {
 public:
  virtual ~PlacedStage() = default;
  // The rows and columns that come of such rows.
  [[nodiscard]] virtual TileShape shape(const TileShape& in) const { return in; }
  [[nodiscard]] virtual int64_t columns(int64_t in) const { return in; }
  // Takes what it needs beside its input and output, in the order in which run() does.
  [[nodiscard]] virtual size_t scratch_bytes(int64_t /*in_rows*/, int64_t /*out_rows*/,
                                             DType /*activation*/) const {
    return 0;
  }
  // `tiles` are the shapes of the input, whose rows lie one tile after the other.
  virtual void run(models::Step& step, const std::vector<TileShape>& tiles, const Matrix& input,
                   const Matrix& output) = 0;
};

Result<std::unique_ptr<PlacedStage>> load_stage(const Stage& stage, models::WeightLoader& loader);

}  // namespace troupe::vision
