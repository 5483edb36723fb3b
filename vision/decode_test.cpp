// Decoding against Pillow, bit by bit (tests/golden/vision/files.json), and what is refused.
#include "vision/decode.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "vision/orientation.hpp"
#include "vision/test_pictures.hpp"

namespace troupe::vision {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::string kFolder = "tests/golden/vision/files/";

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Decode, EqualsPillow) {
  const json files = json::parse(contents("tests/golden/vision/files.json"))["files"];
  ASSERT_GT(files.size(), 60U);
  for (const json& f : files) {
    const std::string data = contents(kFolder + f["name"].get<std::string>());
    const auto header = read_header(bytes_of(data), {});
    ASSERT_TRUE(header.ok()) << f["name"] << ": " << header.status().message();
    EXPECT_EQ(header->width, f["width"].get<int32_t>()) << f["name"];
    EXPECT_EQ(header->height, f["height"].get<int32_t>()) << f["name"];
    const auto image = decode(bytes_of(data), {});
    ASSERT_TRUE(image.ok()) << f["name"] << ": " << image.status().message();
    EXPECT_EQ(image->width, f["width"].get<int32_t>()) << f["name"];
    EXPECT_EQ(image->height, f["height"].get<int32_t>()) << f["name"];
    EXPECT_EQ(checksum(image->rgb), f["crc"].get<uint32_t>()) << f["name"];
  }
}

std::string problem(const std::string& data, const DecodeLimits& limits = {}) {
  const auto image = decode(bytes_of(data), limits);
  return image.ok() ? "" : image.status().message();
}

TEST(Decode, SaysWhatItIsNot) {
  EXPECT_THAT(problem(""), HasSubstr("the picture has no bytes"));
  EXPECT_THAT(problem("%PDF-1.7 and more"),
              HasSubstr("no JPEG, PNG, WebP, GIF or BMP: it begins with 25 50 44 46"));
  EXPECT_THAT(problem("<svg xmlns="), HasSubstr("it begins with 3c 73"));
  EXPECT_THAT(problem("RIFF1234WAVE"), HasSubstr("it begins with 52 49"));
}

TEST(Decode, RefusesBeforeItDecodes) {
  const std::string data = contents(kFolder + "jpeg-smooth-420.jpg");  // 203 x 151
  EXPECT_THAT(problem(data, {.bytes = 100}), HasSubstr("bytes, at most 100 are taken"));
  EXPECT_THAT(problem(data, {.pixels = 30000}),
              HasSubstr("203x151 = 30653 pixels, at most 30000 are taken"));
  EXPECT_THAT(problem(data, {.side = 200}),
              HasSubstr("203x151 pixels, a side may have at most 200"));
  EXPECT_EQ(decode(bytes_of(data), {.side = 200}).status().code(), Code::limit);
  EXPECT_EQ(problem(data, {.pixels = 30653, .side = 203}), "");
}

// A header that promises more than its bytes can hold is refused before room is made for it.
TEST(Decode, RefusesBombs) {
  std::string png = contents(kFolder + "png-rgb.png");
  png.replace(16, 8, std::string("\0\0\x3e\x80\0\0\x3e\x80", 8));  // 16000 x 16000
  EXPECT_THAT(problem(png), HasSubstr("16000x16000 pixels from"));
  png.replace(16, 8, std::string("\x7f\xff\xff\xff\x7f\xff\xff\xff", 8));
  EXPECT_THAT(problem(png), HasSubstr("a side may have at most 65535"));
  png.replace(16, 8, std::string("\0\0\0\0\0\0\0\1", 8));
  EXPECT_THAT(problem(png), HasSubstr("says that it is 0x1 pixels"));
  std::string jpeg = contents(kFolder + "jpeg-one.jpg");
  const size_t frame = jpeg.find("\xff\xc0");
  jpeg.replace(frame + 5, 4, "\xff\xf0\x0f\xf0");
  EXPECT_THAT(problem(jpeg), HasSubstr("4080x65520 pixels from"));
  std::string bmp = contents(kFolder + "bmp-rgb.bmp");
  bmp.replace(18, 8, std::string("\0\x10\0\0\0\x10\0\0", 8));
  EXPECT_THAT(problem(bmp), HasSubstr("the BMP is truncated"));
}

TEST(Decode, RefusesTruncatedFiles) {
  for (const char* name :
       {"jpeg-smooth-420.jpg", "jpeg-progressive.jpg", "jpeg-cmyk.jpg", "png-rgb.png",
        "png-interlaced.png", "png-palette-4.png", "webp-lossless.webp", "webp-lossy.webp",
        "webp-lossy-alpha.webp", "gif-large.gif", "gif-plain.gif", "bmp-rgb.bmp", "bmp-palette.bmp",
        "bmp-rle8.bmp"}) {
    const std::string whole = contents(kFolder + name);
    for (const size_t keep : {size_t{3}, size_t{20}, whole.size() / 3, whole.size() * 3 / 4}) {
      EXPECT_NE(problem(whole.substr(0, keep)), "") << name << " " << keep;
    }
    EXPECT_THAT(problem(whole.substr(0, whole.size() * 2 / 3)), HasSubstr("is truncated")) << name;
  }
}

// Width times height in every way that memory can hold a picture.
struct Form {
  PixelFormat format;
  PixelLayout layout;
  int64_t slack;  // bytes behind each row
};
std::string laid_out(const Image& image, const std::vector<uint8_t>& alpha, const Form& form) {
  const bool four = form.format == PixelFormat::rgba || form.format == PixelFormat::bgra;
  const bool back = form.format == PixelFormat::bgr || form.format == PixelFormat::bgra;
  const int64_t count = form.format == PixelFormat::grey ? 1 : four ? 4 : 3;
  const bool planes = form.layout == PixelLayout::chw;
  const int64_t stride = (planes ? image.width : image.width * count) + form.slack;
  std::string out(static_cast<size_t>(stride * image.height * (planes ? count : 1)), '\x55');
  for (int64_t i = 0; i < int64_t{image.width} * image.height; ++i) {
    const int64_t x = i % image.width, y = i / image.width;
    for (int64_t c = 0; c < count; ++c) {
      const int64_t from = back && c < 3 ? 2 - c : c;
      const uint8_t value =
          c == 3 ? alpha[static_cast<size_t>(i)] : image.rgb[static_cast<size_t>(3 * i + from)];
      const int64_t at = planes ? (c * image.height + y) * stride + x : y * stride + x * count + c;
      out[static_cast<size_t>(at)] = static_cast<char>(value);
    }
  }
  return out;
}
ImageInput pixels(const Image& image, const Form& form, const std::string& data) {
  ImageInput input;
  input.kind = ImageKind::pixels;
  input.bytes = {nullptr, reinterpret_cast<const std::byte*>(data.data()), data.size()};
  input.width = image.width;
  input.height = image.height;
  input.format = form.format;
  input.layout = form.layout;
  const int64_t channels = form.format == PixelFormat::grey ? 1
                           : form.format == PixelFormat::rgba || form.format == PixelFormat::bgra
                               ? 4
                               : 3;
  const bool planes = form.layout == PixelLayout::chw;
  if (form.slack > 0)
    input.row_stride = (planes ? image.width : image.width * channels) + form.slack;
  return input;
}

TEST(FromPixels, TakesEveryFormat) {
  const Image image = drawn_picture(13, 7, 4);
  std::vector<uint8_t> alpha(13 * 7, 255);
  for (const PixelLayout layout : {PixelLayout::hwc, PixelLayout::chw}) {
    for (const int64_t slack : {int64_t{0}, int64_t{5}}) {
      for (const PixelFormat format : {PixelFormat::rgb, PixelFormat::bgr, PixelFormat::rgba,
                                       PixelFormat::bgra, PixelFormat::grey}) {
        const Form form{format, layout, slack};
        const std::string data = laid_out(image, alpha, form);
        const auto got = load(pixels(image, form, data), {});
        ASSERT_TRUE(got.ok()) << got.status().message();
        for (size_t i = 0; i < got->rgb.size(); ++i) {
          const size_t from = format == PixelFormat::grey ? i / 3 * 3 : i;
          ASSERT_EQ(got->rgb[i], image.rgb[from]) << static_cast<int>(format) << " at " << i;
        }
        // One byte less is refused.
        ImageInput less = pixels(image, form, data);
        less.bytes.size -= static_cast<size_t>(slack) + 1;
        EXPECT_THAT(load(less, {}).status().message(), HasSubstr("13x7 pixels has"));
      }
    }
  }
}

TEST(FromPixels, LaysAlphaOverWhite) {
  const Image image = drawn_picture(16, 16, 4);
  std::vector<uint8_t> alpha(256);
  for (size_t i = 0; i < alpha.size(); ++i) alpha[i] = static_cast<uint8_t>(i);
  for (const PixelFormat format : {PixelFormat::rgba, PixelFormat::bgra}) {
    const Form form{format, PixelLayout::hwc, 0};
    const std::string data = laid_out(image, alpha, form);
    const auto got = load(pixels(image, form, data), {});
    ASSERT_TRUE(got.ok());
    for (size_t i = 0; i < got->rgb.size(); ++i) {
      const double a = alpha[i / 3] / 255.0;
      EXPECT_NEAR(got->rgb[i], image.rgb[i] * a + 255 * (1 - a), 0.51) << i;
    }
  }
}

TEST(FromPixels, RefusesWhatCannotBe) {
  const Image image = drawn_picture(4, 4);
  const std::string data(48, 'x');
  ImageInput input = pixels(image, {PixelFormat::rgb, PixelLayout::hwc, 0}, data);
  input.width = 0;
  EXPECT_THAT(load(input, {}).status().message(), HasSubstr("0x4 pixels; both sides"));
  input.width = 70000;
  EXPECT_THAT(load(input, {}).status().message(), HasSubstr("at most 65535"));
  EXPECT_THAT(measure(input, {}).status().message(), HasSubstr("at most 65535"));
  input.width = 4;
  input.row_stride = 11;
  EXPECT_THAT(load(input, {}).status().message(), HasSubstr("row_stride is 11 bytes, rows of 4"));
  input.row_stride = INT64_MAX;
  EXPECT_THAT(load(input, {}).status().message(), HasSubstr("row_stride is"));
  input.row_stride = int64_t{1} << 40;
  EXPECT_FALSE(load(input, {}).ok());
}

TEST(Upright, TurnsAsExifSays) {
  // The pixel at (0, 0) of the stored picture ends up in these corners of a 2 x 3 one.
  const Image stored = drawn_picture(3, 2);
  struct Corner {
    int32_t x, y;
  };
  constexpr Corner kCorners[9] = {{},     {0, 0}, {2, 0}, {2, 1}, {0, 1},
                                  {0, 0}, {1, 0}, {1, 2}, {0, 2}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const Image turned = upright(stored, orientation);
    EXPECT_EQ(turned.width, lies_on_its_side(orientation) ? 2 : 3);
    const Corner corner = kCorners[orientation];
    const auto at = static_cast<size_t>(3 * (corner.y * turned.width + corner.x));
    EXPECT_EQ(turned.rgb[at], stored.rgb[0]) << orientation;
    EXPECT_EQ(turned.rgb[at + 1], stored.rgb[1]) << orientation;
  }
}

}  // namespace
}  // namespace troupe::vision
