// WebP through libwebp: lossy and lossless; of an animation its first frame, on a bare canvas.
#include <webp/decode.h>
#include <webp/demux.h>

#include <algorithm>
#include <memory>

#include "vision/codecs/codec.hpp"
#include "vision/codecs/pixels.hpp"

namespace troupe::vision {
namespace {

const uint8_t* data_of(Bytes bytes) {
  return reinterpret_cast<const uint8_t*>(bytes.data());
}

Status problem(VP8StatusCode code, size_t bytes) {
  if (code == VP8_STATUS_NOT_ENOUGH_DATA || code == VP8_STATUS_SUSPENDED) {
    return truncated(ImageFormat::webp, bytes);
  }
  if (code == VP8_STATUS_OUT_OF_MEMORY) {
    return {Code::out_of_memory, "there is no memory to decode the WebP"};
  }
  return damaged(ImageFormat::webp, code == VP8_STATUS_UNSUPPORTED_FEATURE
                                        ? "uses a feature that libwebp lacks"
                                        : "does not follow the format");
}

// One picture into RGB at (left, top) of `out`.
Status decode_into(Bytes bytes, int32_t left, int32_t top, Image& out) {
  WebPDecoderConfig config;
  if (WebPInitDecoderConfig(&config) == 0) return internal_error("libwebp is of another version");
  VP8StatusCode code = WebPGetFeatures(data_of(bytes), bytes.size(), &config.input);
  if (code != VP8_STATUS_OK) return problem(code, bytes.size());
  const int32_t width = config.input.width, height = config.input.height;
  if (width > out.width - left || height > out.height - top) {
    return damaged(ImageFormat::webp, "has a frame larger than its canvas");
  }
  const bool alpha = config.input.has_alpha != 0;
  const size_t stride = size_t{3} * static_cast<size_t>(out.width);
  uint8_t* to = out.rgb.data() + stride * static_cast<size_t>(top) + 3 * static_cast<size_t>(left);
  Buffer<uint8_t> rgba;
  config.output.is_external_memory = 1;
  config.output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
  WebPRGBABuffer& buffer = config.output.u.RGBA;
  if (alpha) {
    rgba.resize(size_t{4} * static_cast<size_t>(width) * static_cast<size_t>(height));
    buffer = {rgba.data(), 4 * width, rgba.size()};
  } else {
    const size_t behind = static_cast<size_t>(out.rgb.data() + out.rgb.size() - to);
    buffer = {to, static_cast<int>(stride), behind};
  }
  code = WebPDecode(data_of(bytes), bytes.size(), &config);
  WebPFreeDecBuffer(&config.output);
  if (code != VP8_STATUS_OK) return problem(code, bytes.size());
  if (!alpha) return ok_status();
  for (int32_t y = 0; y < height; ++y) {
    rgba_over_white(rgba.data() + int64_t{4} * width * y, width,
                    to + static_cast<size_t>(y) * stride);
  }
  return ok_status();
}

}  // namespace

Result<Image> decode_webp(Bytes bytes, const StoredHeader& header) {
  Image out{header.width, header.height, {}};
  out.rgb.resize(size_t{3} * static_cast<size_t>(header.width) *
                 static_cast<size_t>(header.height));
  if (!header.animated) {
    TR_TRY(decode_into(bytes, 0, 0, out));
    return out;
  }
  const WebPData data{data_of(bytes), bytes.size()};
  const std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)> demuxer(WebPDemux(&data),
                                                                     WebPDemuxDelete);
  WebPIterator frame{};
  if (demuxer == nullptr || WebPDemuxGetFrame(demuxer.get(), 1, &frame) == 0) {
    return damaged(ImageFormat::webp, "is an animation without a whole frame");
  }
  std::fill(out.rgb.begin(), out.rgb.end(), uint8_t{255});
  const Bytes picture{reinterpret_cast<const std::byte*>(frame.fragment.bytes),
                      frame.fragment.size};
  const Status status = decode_into(picture, frame.x_offset, frame.y_offset, out);
  WebPDemuxReleaseIterator(&frame);
  TR_TRY(status);
  return out;
}

}  // namespace troupe::vision
