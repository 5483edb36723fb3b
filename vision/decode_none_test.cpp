// A build without codecs (TROUPE_CODECS=none): headers are read, pixels are taken, and encoded pictures
// are refused with their format and what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "vision/decode.hpp"

namespace troupe::vision {
namespace {

using ::testing::HasSubstr;

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(DecodeNone, RefusesEveryFormatByName) {
  const std::string folder = "tests/golden/vision/files/";
  const std::pair<const char*, const char*> kFiles[] = {{"bmp-rgb.bmp", "BMP"},
                                                        {"gif-plain.gif", "GIF"},
                                                        {"jpeg-rgb.jpg", "JPEG"},
                                                        {"png-rgb.png", "PNG"},
                                                        {"webp-lossy.webp", "WebP"}};
  for (const auto& [file, format] : kFiles) {
    const std::string data = contents(folder + file);
    const auto bytes = std::as_bytes(std::span(data.data(), data.size()));
    const auto header = read_header(bytes, {});
    ASSERT_TRUE(header.ok()) << file << ": " << header.status().message();
    EXPECT_GT(header->width, 0) << file;
    const auto image = decode(bytes, {});
    ASSERT_FALSE(image.ok()) << file;
    EXPECT_EQ(image.status().code(), Code::unsupported) << file;
    EXPECT_THAT(image.status().message(), HasSubstr(format)) << file;
    EXPECT_THAT(image.status().message(), HasSubstr("give pixels")) << file;
  }
}

TEST(DecodeNone, TakesPixels) {
  const std::string pixels(12, '\x40');
  ImageInput input;
  input.kind = ImageKind::pixels;
  input.width = input.height = 2;
  input.bytes.data = reinterpret_cast<const std::byte*>(pixels.data());
  input.bytes.size = pixels.size();
  const auto image = load(input, {});
  ASSERT_TRUE(image.ok()) << image.status().message();
  EXPECT_EQ(image->width, 2);
}

}  // namespace
}  // namespace troupe::vision
