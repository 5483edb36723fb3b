// From the bytes of a picture to its pixels, safely: the format is told by content against an
// allow-list, and size limits are checked on the header before any pixel is decoded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/limits.hpp"
#include "base/request.hpp"
#include "base/status.hpp"
#include "vision/image.hpp"

namespace troupe::vision {

enum class ImageFormat : uint8_t { jpeg, png, webp, gif, bmp };

struct DecodeLimits {
  size_t bytes = limits::image_bytes;
  int64_t pixels = limits::image_pixels;
  int32_t side = 65535;
};

struct ImageHeader {
  ImageFormat format = ImageFormat::png;
  int32_t width = 0, height = 0;  // upright: exchanged when EXIF turns the picture
};

Result<ImageHeader> read_header(std::span<const std::byte> bytes, const DecodeLimits& limits);
Result<Image> decode(std::span<const std::byte> bytes, const DecodeLimits& limits);

// Pixels that a caller gives (any format, layout and stride), and either kind of input.
Result<Image> from_pixels(const ImageInput& input, const DecodeLimits& limits);
Result<ImageHeader> measure(const ImageInput& input, const DecodeLimits& limits);
Result<Image> load(const ImageInput& input, const DecodeLimits& limits);

}  // namespace troupe::vision
