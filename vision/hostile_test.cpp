// Ten thousand damaged pictures: each is decoded or refused in words, and memory stays bounded.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "vision/decode.hpp"

namespace troupe::vision {
namespace {

using Data = std::vector<uint8_t>;

std::vector<Data> corpus() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator("tests/golden/vision/files")) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Data> out;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    out.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return out;
}

// What transport, disks and attackers do: lost ends, flipped bits, runs of one value, pieces of
// other files, and numbers near the edges where headers have theirs.
void damage(Data& data, const std::vector<Data>& others, std::mt19937_64& random) {
  const auto pick = [&](size_t n) {
    return static_cast<size_t>(random() % std::max<size_t>(n, 1));
  };
  for (size_t n = 1 + pick(5); n > 0 && !data.empty(); --n) {
    const size_t at = pick(2) == 0 ? pick(data.size()) : pick(std::min<size_t>(data.size(), 64));
    const size_t count = std::min(1 + pick(24), data.size() - at);
    const auto here = data.begin() + static_cast<ptrdiff_t>(at);
    switch (pick(7)) {
      case 0:
        data.resize(at);
        break;
      case 1:
        *here = static_cast<uint8_t>(*here ^ (1U << pick(8)));
        break;
      case 2:
        std::fill_n(here, count, static_cast<uint8_t>(random()));
        break;
      case 3:
        data.erase(here, here + static_cast<ptrdiff_t>(count));
        break;
      case 4: {
        constexpr uint8_t kEdges[] = {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff};
        for (size_t i = 0; i < count; ++i) data[at + i] = kEdges[pick(sizeof kEdges)];
        break;
      }
      case 5: {
        const Data& other = others[pick(others.size())];
        const size_t from = pick(other.size());
        data.insert(
            here, other.begin() + static_cast<ptrdiff_t>(from),
            other.begin() + static_cast<ptrdiff_t>(std::min(other.size(), from + 1 + pick(200))));
        break;
      }
      default: {
        const Data& other = others[pick(others.size())];
        for (size_t i = 0; i < count && at + i < other.size(); ++i) data[at + i] = other[at + i];
      }
    }
  }
}

int64_t peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

TEST(Hostile, TenThousandDamagedPictures) {
  const std::vector<Data> whole = corpus();
  ASSERT_GT(whole.size(), 60U);
  const DecodeLimits limits{.bytes = size_t{1} << 20, .pixels = 1 << 20, .side = 16384};
  std::mt19937_64 random(20261121);
  const int64_t before = peak_bytes();
  int64_t decoded = 0, refused = 0;
  for (int i = 0; i < 10000; ++i) {
    Data data = whole[static_cast<size_t>(i) % whole.size()];
    damage(data, whole, random);
    const auto bytes = std::as_bytes(std::span(data));
    const auto header = read_header(bytes, limits);
    const auto image = decode(bytes, limits);
    if (image.ok()) {
      ++decoded;
      ASSERT_TRUE(header.ok()) << i;
      ASSERT_EQ(image->width, header->width) << i;
      ASSERT_EQ(image->height, header->height) << i;
      ASSERT_EQ(image->rgb.size(),
                size_t{3} * static_cast<size_t>(image->width) * static_cast<size_t>(image->height));
    } else {
      ++refused;
      ASSERT_GT(image.status().message().size(), 20U) << i;
      ASSERT_NE(image.status().code(), Code::internal) << i << ": " << image.status().message();
    }
  }
  // Damage of either kind was met: pixels changed, and files that are no pictures any more.
  EXPECT_GT(decoded, 1000);
  EXPECT_GT(refused, 4000);
  // A picture of the limit takes 3 MB, a decoder some times as much.
  constexpr int64_t kGrowthMax = int64_t{96} << 20;
  EXPECT_LT(peak_bytes() - before, kGrowthMax);
}

}  // namespace
}  // namespace troupe::vision
