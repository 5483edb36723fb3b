// VisionExecutor: what encodes tiles. One device's (VisionCore over Backend and VisionModel) or
// none's (simulations). Driven by one thread; each call returns when its rows are there.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/request.hpp"
#include "base/status.hpp"
#include "engine/embedding.hpp"
#include "vision/processor.hpp"

namespace troupe::engine {

class VisionExecutor {
 public:
  virtual ~VisionExecutor() = default;

  // The rows of each tile. A failure with Code::device_failed means that the device is gone.
  virtual Result<std::vector<EmbeddingPtr>> encode(std::span<const vision::Tile> tiles) = 0;
  // The rows of a picture, from those of its tiles in their order.
  virtual Result<EmbeddingPtr> join(const vision::PictureLayout& layout,
                                    std::span<const EmbeddingPtr> tiles) = 0;
  // Rows that a caller computed beforehand; their shape has been checked.
  virtual Result<EmbeddingPtr> adopt(const ImageInput& rows) = 0;
};

}  // namespace troupe::engine
