// What stands behind vision/decode.hpp: headers are read by our own code whatever the codecs are,
// so limits hold before a library sees a byte; then one function per format makes the pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.hpp"
#include "vision/decode.hpp"

namespace troupe::vision {

using Bytes = std::span<const std::byte>;

struct StoredHeader {
  ImageFormat format = ImageFormat::png;
  int32_t width = 0, height = 0;  // as stored
  int orientation = 1;  // EXIF's, 1 to 8
  int64_t pixels_max = 0;  // more cannot be in so many bytes; 0: unknown
  bool animated = false;  // WebP: frames instead of one picture
};

std::string format_name(ImageFormat format);
// EXIF's orientation from its TIFF structure; 1 where it says none.
int exif_orientation(Bytes tiff);
Result<StoredHeader> read_stored_header(Bytes bytes);

// The first picture, RGB, alpha laid over white, as stored (not turned). The header's size is what
// the caller made room for: a decoder that finds another fails.
Result<Image> decode_jpeg(Bytes bytes, const StoredHeader& header);
Result<Image> decode_png(Bytes bytes, const StoredHeader& header);
Result<Image> decode_webp(Bytes bytes, const StoredHeader& header);
Result<Image> decode_gif(Bytes bytes, const StoredHeader& header);
Result<Image> decode_bmp(Bytes bytes, const StoredHeader& header);

// Damage in words: "the JPEG ...; WHAT TO DO".
Status damaged(ImageFormat format, std::string_view why);
Status truncated(ImageFormat format, size_t bytes);

}  // namespace troupe::vision
