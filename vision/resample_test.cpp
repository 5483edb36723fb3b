// Resampling against Pillow, bit by bit: tests/golden/vision/resample.json.
#include "vision/resample.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "vision/test_pictures.hpp"

namespace troupe::vision {
namespace {

using nlohmann::json;

const std::map<std::string, Filter> kFilters = {
    {"nearest", Filter::nearest}, {"lanczos", Filter::lanczos}, {"bilinear", Filter::bilinear},
    {"bicubic", Filter::bicubic}, {"box", Filter::box},         {"hamming", Filter::hamming}};

Resize resize_of(const json& c) {
  Resize r = whole_resize({c["source"][0], c["source"][1]}, {c["target"][0], c["target"][1]},
                          kFilters.at(c["filter"]));
  r.box = {c["box"][0], c["box"][1], c["box"][2], c["box"][3]};
  return r;
}

json cases() {
  std::ifstream file("tests/golden/vision/resample.json");
  return json::parse(file)["cases"];
}

TEST(Resample, EqualsPillow) {
  const json all = cases();
  ASSERT_GT(all.size(), 200U);
  for (const json& c : all) {
    const Resize resize = resize_of(c);
    const Image source = drawn_picture(resize.source.width, resize.source.height);
    const Image got = resample(view_of(source), resize);
    EXPECT_EQ(checksum(got.rgb), c["crc"].get<uint32_t>()) << c.dump();
  }
}

// A region has the pixels of the whole, and reads no more than needed_source() says.
TEST(Resample, ARegionIsAPartOfTheWhole) {
  for (const json& c : cases()) {
    Resize resize = resize_of(c);
    if (resize.target.width < 5 || resize.target.height < 4) continue;
    const Image source = drawn_picture(resize.source.width, resize.source.height);
    const Image whole = resample(view_of(source), resize);
    resize.region = {resize.target.width / 3, resize.target.height / 4, resize.target.width / 2,
                     resize.target.height / 2};
    const Region needed = needed_source(resize);
    Image part{needed.width, needed.height, {}};
    for (int32_t y = 0; y < needed.height; ++y) {
      const auto from = source.rgb.begin() + 3 * (int64_t{needed.y + y} * source.width + needed.x);
      part.rgb.insert(part.rgb.end(), from, from + 3 * needed.width);
    }
    PixelView view = view_of(part);
    view.region = needed;
    const Image got = resample(view, resize);
    ASSERT_EQ(got.width, resize.region.width);
    for (int32_t y = 0; y < got.height; ++y) {
      const uint8_t* a = got.rgb.data() + int64_t{3} * y * got.width;
      const uint8_t* b =
          whole.rgb.data() + 3 * (int64_t{resize.region.y + y} * whole.width + resize.region.x);
      ASSERT_EQ(std::memcmp(a, b, size_t{3} * static_cast<size_t>(got.width)), 0)
          << c.dump() << " row " << y;
    }
  }
}

TEST(Resample, NothingOfATargetIsNothing) {
  const Image source = drawn_picture(8, 8);
  Resize resize = whole_resize({8, 8}, {4, 4}, Filter::bicubic);
  resize.region = {2, 2, 0, 0};
  EXPECT_TRUE(resample(view_of(source), resize).rgb.empty());
}

}  // namespace
}  // namespace troupe::vision
