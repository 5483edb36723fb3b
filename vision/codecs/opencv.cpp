// JPEG, PNG and WebP through OpenCV's imgcodecs (TROUPE_CODECS=opencv): for machines that have it
// anyway. Palettes, 16 bits and animations come out as OpenCV has them.
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>

#include "vision/codecs/codec.hpp"
#include "vision/codecs/pixels.hpp"

namespace troupe::vision {
namespace {

// One row of 8-bit BGR, BGRA or grey into RGB.
void put_row(const uint8_t* from, int channels, int32_t width, uint8_t* to) {
  for (int32_t x = 0; x < width; ++x, from += channels, to += 3) {
    const uint32_t alpha = channels == 4 ? from[3] : 255;
    for (int c = 0; c < 3; ++c) {
      to[c] = over_white(channels == 1 ? from[0] : from[2 - c], alpha);
    }
  }
}

Result<Image> decode_any(Bytes bytes, const StoredHeader& header) {
  if (bytes.size() > INT32_MAX) return limit_exceeded("OpenCV takes pictures of at most 2 GiB");
  cv::Mat pixels;
  try {
    const cv::Mat encoded(1, static_cast<int>(bytes.size()), CV_8UC1,
                          const_cast<std::byte*>(bytes.data()));
    // JPEGs in colour, whatever they hold; others with their alpha.
    const int mode = header.format == ImageFormat::jpeg
                         ? cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION
                         : cv::IMREAD_UNCHANGED;
    pixels = cv::imdecode(encoded, mode);
    if (pixels.depth() == CV_16U) pixels.convertTo(pixels, CV_8U, 1.0 / 257);
  } catch (const cv::Exception& e) {
    return damaged(header.format, "cannot be decoded (" + e.err + ")");
  }
  if (pixels.empty()) return truncated(header.format, bytes.size());
  if (pixels.cols != header.width || pixels.rows != header.height || pixels.depth() != CV_8U ||
      (pixels.channels() != 1 && pixels.channels() != 3 && pixels.channels() != 4)) {
    return damaged(header.format, "is not what its header says");
  }
  Image out{header.width, header.height, {}};
  const size_t row_bytes = size_t{3} * static_cast<size_t>(out.width);
  out.rgb.resize(row_bytes * static_cast<size_t>(out.height));
  for (int32_t y = 0; y < out.height; ++y) {
    put_row(pixels.ptr<uint8_t>(y), pixels.channels(), out.width,
            out.rgb.data() + static_cast<size_t>(y) * row_bytes);
  }
  return out;
}

}  // namespace

Result<Image> decode_jpeg(Bytes bytes, const StoredHeader& h) {
  return decode_any(bytes, h);
}
Result<Image> decode_png(Bytes bytes, const StoredHeader& h) {
  return decode_any(bytes, h);
}
Result<Image> decode_webp(Bytes bytes, const StoredHeader& h) {
  return decode_any(bytes, h);
}

}  // namespace troupe::vision
