// Pictures as numbers, for tests of the balancer.
#pragma once

#include <cstdint>

#include "engine/vision_balancer.hpp"

namespace troupe::engine {

inline PictureWork picture(uint64_t content, int32_t tiles = 1, double cost = 100.0, int64_t bytes = 10) {
  PictureWork work;
  work.content = {content, content * 7};
  work.tiles.assign(static_cast<size_t>(tiles), {cost, 16});
  work.embedding_bytes = bytes;
  work.work_bytes = 20;
  return work;
}

}  // namespace troupe::engine
