// A picture as every processor takes it: 8-bit RGB, rows dense, top row first, upright (what EXIF says
// was applied), without alpha (laid over white).
#pragma once

#include <cstdint>
#include <vector>

namespace troupe::vision {

struct Image {
  int32_t width = 0, height = 0;
  std::vector<uint8_t> rgb;  // height x width x 3
};

}  // namespace troupe::vision
