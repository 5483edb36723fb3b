// One pass of a group of tiles through the tower: what its layers hand on. Private to the encoder.
#pragma once

#include <vector>

#include "vision/encoder.hpp"

namespace troupe::vision {

struct VisionEncoder::Run {
  models::Step& step;
  const TowerRows& rows;
  Buffers buffers;
  std::vector<TileShape> shapes;
  bool pending = false;  // `branch` is still to be added to the residual
  const TiledRows* tiled = nullptr;
};

}  // namespace troupe::vision
