#include <algorithm>
#include <cstring>

#include "vision/turns.hpp"

namespace troupe::vision {
namespace {

Image transposed(Image& image) {
  Image out{image.height, image.width, {}};
  out.rgb.resize(image.rgb.size());
  const auto width = static_cast<size_t>(image.width), height = static_cast<size_t>(image.height);
  constexpr size_t kBlock = 32;  // so that both sides stay in the cache
  for (size_t y0 = 0; y0 < height; y0 += kBlock) {
    for (size_t x0 = 0; x0 < width; x0 += kBlock) {
      for (size_t y = y0; y < std::min(height, y0 + kBlock); ++y) {
        for (size_t x = x0; x < std::min(width, x0 + kBlock); ++x) {
          std::memcpy(out.rgb.data() + 3 * (x * height + y), image.rgb.data() + 3 * (y * width + x),
                      3);
        }
      }
    }
  }
  return out;
}
void mirror(Image& image, bool across, bool down) {
  const size_t row = size_t{3} * static_cast<size_t>(image.width);
  const auto height = static_cast<size_t>(image.height);
  for (size_t y = 0; down && y < height / 2; ++y) {
    std::swap_ranges(image.rgb.data() + y * row, image.rgb.data() + (y + 1) * row,
                     image.rgb.data() + (height - 1 - y) * row);
  }
  for (size_t y = 0; across && y < height; ++y) {
    uint8_t* left = image.rgb.data() + y * row;
    for (uint8_t* right = left + row - 3; left < right; left += 3, right -= 3) {
      std::swap_ranges(left, left + 3, right);
    }
  }
}

}  // namespace

const Turns kPlainTurns{transposed, mirror};

}  // namespace troupe::vision
