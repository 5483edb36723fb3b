#include "vision/decode.hpp"

#include <cstring>
#include <new>
#include <string>

#include "vision/codecs/codec.hpp"
#include "vision/codecs/pixels.hpp"
#include "vision/orientation.hpp"

namespace troupe::vision {
namespace {

std::string dimensions(int64_t width, int64_t height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

Status check_size(int32_t width, int32_t height, const DecodeLimits& limits) {
  if (width > limits.side || height > limits.side) {
    return limit_exceeded("the picture has " + dimensions(width, height) +
                          " pixels, a side may have at most " + std::to_string(limits.side) +
                          "; scale it down");
  }
  if (int64_t{width} * height > limits.pixels) {
    return limit_exceeded("the picture has " + dimensions(width, height) + " = " +
                          std::to_string(int64_t{width} * height) + " pixels, at most " +
                          std::to_string(limits.pixels) + " are taken; scale it down");
  }
  return ok_status();
}

Result<StoredHeader> checked_header(Bytes bytes, const DecodeLimits& limits) {
  if (bytes.size() > limits.bytes) {
    return limit_exceeded("the picture has " + std::to_string(bytes.size()) + " bytes, at most " +
                          std::to_string(limits.bytes) + " are taken");
  }
  TR_ASSIGN(const StoredHeader header, read_stored_header(bytes));
  TR_TRY(check_size(header.width, header.height, limits));
  if (header.pixels_max > 0 && int64_t{header.width} * header.height > header.pixels_max) {
    return truncated(header.format, bytes.size())
        .at(dimensions(header.width, header.height) + " pixels from " +
            std::to_string(bytes.size()) + " bytes");
  }
  return header;
}

Result<Image> decode_stored(Bytes bytes, const StoredHeader& header) {
  switch (header.format) {
    case ImageFormat::jpeg:
      return decode_jpeg(bytes, header);
    case ImageFormat::png:
      return decode_png(bytes, header);
    case ImageFormat::webp:
      return decode_webp(bytes, header);
    case ImageFormat::gif:
      return decode_gif(bytes, header);
    case ImageFormat::bmp:
      return decode_bmp(bytes, header);
  }
  return internal_error("no codec for this format");
}

// How pixels of a caller lie: where each channel of the first pixel is, and the way to the next.
struct Channels {
  ptrdiff_t red = 0, green = 0, blue = 0, alpha = -1;
  ptrdiff_t pixel = 0, row = 0;
  int64_t bytes = 0;  // from the first to the last that is read
};

Result<Channels> channels_of(const ImageInput& input) {
  int64_t count = 3;
  if (input.format == PixelFormat::rgba || input.format == PixelFormat::bgra) count = 4;
  if (input.format == PixelFormat::grey) count = 1;
  const bool planes = input.layout == PixelLayout::chw;
  const int64_t used = planes ? input.width : input.width * count;
  const int64_t stride = input.row_stride == 0 ? used : input.row_stride;
  if (stride < used) {
    return invalid("row_stride is " + std::to_string(stride) + " bytes, rows of " +
                   std::to_string(input.width) + " pixels take " + std::to_string(used));
  }
  if (stride > int64_t{1} << 40) {
    return limit_exceeded("row_stride is " + std::to_string(stride) + " bytes, at most " +
                          std::to_string(int64_t{1} << 40) + " are taken");
  }
  const ptrdiff_t channel = planes ? stride * input.height : 1;
  Channels out;
  out.pixel = planes ? 1 : count;
  out.row = stride;
  out.bytes = (planes ? (count - 1) * channel : 0) + stride * (input.height - 1) + used;
  if (count == 1) return out;
  const bool blue_first = input.format == PixelFormat::bgr || input.format == PixelFormat::bgra;
  out.red = blue_first ? 2 * channel : 0;
  out.green = channel;
  out.blue = blue_first ? 0 : 2 * channel;
  if (count == 4) out.alpha = 3 * channel;
  return out;
}

Status check_input(const ImageInput& input, const DecodeLimits& limits) {
  if (input.kind != ImageKind::pixels) return internal_error("not an image of pixels");
  if (input.width < 1 || input.height < 1) {
    return invalid("the picture has " + dimensions(input.width, input.height) +
                   " pixels; both sides must be at least 1");
  }
  return check_size(input.width, input.height, limits);
}

void copy_row(const uint8_t* from, const Channels& channels, int32_t width, uint8_t* to) {
  if (channels.alpha < 0) {
    for (int32_t x = 0; x < width; ++x, from += channels.pixel, to += 3) {
      to[0] = from[channels.red];
      to[1] = from[channels.green];
      to[2] = from[channels.blue];
    }
    return;
  }
  for (int32_t x = 0; x < width; ++x, from += channels.pixel, to += 3) {
    const uint8_t alpha = from[channels.alpha];
    to[0] = over_white(from[channels.red], alpha);
    to[1] = over_white(from[channels.green], alpha);
    to[2] = over_white(from[channels.blue], alpha);
  }
}

// Bytes of a caller as a picture; running out of memory is an answer, not a crash.
template <class Make>
Result<Image> guarded(Make make) {
  try {
    return make();
  } catch (const std::bad_alloc&) {
    return Status{Code::out_of_memory,
                  "there is no memory for the picture's pixels; scale it down"};
  }
}

}  // namespace

Result<ImageHeader> read_header(std::span<const std::byte> bytes, const DecodeLimits& limits) {
  TR_ASSIGN(const StoredHeader header, checked_header(bytes, limits));
  const bool turned = lies_on_its_side(header.orientation);
  return ImageHeader{header.format, turned ? header.height : header.width,
                     turned ? header.width : header.height};
}

Result<Image> decode(std::span<const std::byte> bytes, const DecodeLimits& limits) {
  TR_ASSIGN(const StoredHeader header, checked_header(bytes, limits));
  return guarded([&]() -> Result<Image> {
    TR_ASSIGN(Image image, decode_stored(bytes, header));
    return upright(std::move(image), header.orientation);
  });
}

Result<Image> from_pixels(const ImageInput& input, const DecodeLimits& limits) {
  TR_TRY(check_input(input, limits));
  TR_ASSIGN(const Channels channels, channels_of(input));
  if (static_cast<uint64_t>(channels.bytes) > input.bytes.size) {
    return invalid("the picture of " + dimensions(input.width, input.height) + " pixels has " +
                   std::to_string(input.bytes.size) + " bytes, its format takes " +
                   std::to_string(channels.bytes));
  }
  return guarded([&]() -> Result<Image> {
    Image out{input.width, input.height, {}};
    const size_t row_bytes = size_t{3} * static_cast<size_t>(input.width);
    out.rgb.resize(row_bytes * static_cast<size_t>(input.height));
    const auto* from = reinterpret_cast<const uint8_t*>(input.bytes.data);
    const bool as_is = input.format == PixelFormat::rgb && input.layout == PixelLayout::hwc;
    for (int32_t y = 0; y < input.height; ++y, from += channels.row) {
      uint8_t* to = out.rgb.data() + row_bytes * static_cast<size_t>(y);
      if (as_is) {
        std::memcpy(to, from, row_bytes);
      } else {
        copy_row(from, channels, input.width, to);
      }
    }
    return out;
  });
}

Result<ImageHeader> measure(const ImageInput& input, const DecodeLimits& limits) {
  if (input.kind == ImageKind::encoded) {
    return read_header({input.bytes.data, input.bytes.size}, limits);
  }
  TR_TRY(check_input(input, limits));
  return ImageHeader{ImageFormat::bmp, input.width, input.height};
}

Result<Image> load(const ImageInput& input, const DecodeLimits& limits) {
  if (input.kind == ImageKind::encoded) return decode({input.bytes.data, input.bytes.size}, limits);
  return from_pixels(input, limits);
}

}  // namespace troupe::vision
