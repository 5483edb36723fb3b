// Turning pictures: what each orientation means, and that both ways of doing it give the same
// bytes.
#include "vision/orientation.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <tuple>
#include <vector>

#include "vision/turns.hpp"

namespace troupe::vision {
namespace {

Image numbered(int width, int height) {
  Image image{width, height, {}};
  image.rgb.resize(size_t{3} * static_cast<size_t>(width) * static_cast<size_t>(height));
  std::iota(image.rgb.begin(), image.rgb.end(), uint8_t{0});
  return image;
}

// Red of 2 x 3 pixels, row by row, as EXIF's table has it: 0 3 / 6 9 / 12 15 before it is turned.
TEST(Orientation, EachOfTheEight) {
  const std::vector<std::vector<int>> kRed = {
      {0, 3, 6, 9, 12, 15}, {3, 0, 9, 6, 15, 12}, {15, 12, 9, 6, 3, 0}, {12, 15, 6, 9, 0, 3},
      {0, 6, 12, 3, 9, 15}, {12, 6, 0, 15, 9, 3}, {15, 9, 3, 12, 6, 0}, {3, 9, 15, 0, 6, 12}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const Image image = upright(numbered(2, 3), orientation);
    const bool side = lies_on_its_side(orientation);
    EXPECT_EQ(std::tuple(image.width, image.height), side ? std::tuple(3, 2) : std::tuple(2, 3));
    std::vector<int> red;
    for (size_t i = 0; i < image.rgb.size(); i += 3) red.push_back(image.rgb[i]);
    EXPECT_EQ(red, kRed[static_cast<size_t>(orientation - 1)]) << "orientation " << orientation;
  }
}

TEST(Orientation, WhatIsNoneLeavesThePicture) {
  for (const int orientation : {-1, 0, 9}) {
    EXPECT_EQ(upright(numbered(2, 3), orientation).rgb, numbered(2, 3).rgb);
  }
  EXPECT_TRUE(upright(Image{}, 6).rgb.empty());
}

#ifdef TROUPE_OPENCV
TEST(Orientation, OpenCvAndOurLoopsAgree) {
  for (const auto& [width, height] : {std::pair(1, 1), {1, 7}, {32, 32}, {33, 65}, {100, 31}}) {
    for (int orientation = 1; orientation <= 8; ++orientation) {
      const Image a = turned(numbered(width, height), orientation, kOpenCvTurns);
      const Image b = turned(numbered(width, height), orientation, kPlainTurns);
      EXPECT_EQ(std::tuple(a.width, a.height), std::tuple(b.width, b.height));
      EXPECT_EQ(a.rgb, b.rgb) << width << "x" << height << ", orientation " << orientation;
    }
  }
}
#endif

}  // namespace
}  // namespace troupe::vision
