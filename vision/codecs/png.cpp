// PNG through libpng: any depth and colour type to 8 bits (the upper ones of 16), alpha over white.
#include <png.h>

#include <csetjmp>
#include <cstring>
#include <vector>

#include "vision/codecs/codec.hpp"
#include "vision/codecs/pixels.hpp"
#include "vision/codecs/png_plain.hpp"

namespace troupe::vision {
namespace {

struct Source {
  Bytes bytes;
  size_t at = 0;
  bool ended = false;
  char message[128] = "";
};

void read_bytes(png_structp png, png_bytep to, size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->bytes.size() - source->at) {
    source->ended = true;
    png_error(png, "it ends early");
  }
  std::memcpy(to, source->bytes.data() + source->at, count);
  source->at += count;
}

void fail(png_structp png, png_const_charp message) {
  auto* source = static_cast<Source*>(png_get_error_ptr(png));
  std::strncpy(source->message, message, sizeof source->message - 1);
  png_longjmp(png, 1);
}
void ignore(png_structp, png_const_charp) {}

// What longjmp may leave behind lives outside.
struct Work {
  png_structp png = nullptr;
  png_infop info = nullptr;
  Buffer<uint8_t> rgba;  // one row, or all of an interlaced picture
  std::vector<png_bytep> rows;
  ~Work() { png_destroy_read_struct(&png, &info, nullptr); }
};

void normalise(png_structp png, png_infop info) {
  const int colour = png_get_color_type(png, info);
  png_set_strip_16(png);
  png_set_expand(png);
  if ((colour & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png);
}

bool run(Work& work, Source& source, const StoredHeader& header, Image& out) {
  work.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, fail, ignore);
  if (work.png == nullptr) return false;
  work.info = png_create_info_struct(work.png);
  if (work.info == nullptr) return false;
  png_structp png = work.png;
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_read_fn(png, &source, read_bytes);
  png_set_user_limits(png, static_cast<png_uint_32>(header.width),
                      static_cast<png_uint_32>(header.height));
  png_set_chunk_cache_max(png, 128);
  png_set_chunk_malloc_max(png, 8 << 20);
  // Whatever says nothing of pixels is skipped unread: libpng would make room for a text of the length
  // that a damaged file claims, and write zeros into all of it.
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  png_read_info(png, work.info);
  normalise(png, work.info);
  const int passes = png_set_interlace_handling(png);
  png_read_update_info(png, work.info);
  const size_t width = png_get_image_width(png, work.info);
  const size_t height = png_get_image_height(png, work.info);
  const bool alpha = png_get_channels(png, work.info) == 4;
  if (width != static_cast<size_t>(header.width) || height != static_cast<size_t>(header.height) ||
      png_get_rowbytes(png, work.info) != width * (alpha ? 4 : 3)) {
    png_error(png, "its header changes");
  }
  if (alpha) work.rgba.resize(4 * width * (passes > 1 ? height : 1));
  const auto row_of = [&](size_t y) {
    if (!alpha) return out.rgb.data() + 3 * width * y;
    return work.rgba.data() + (passes > 1 ? 4 * width * y : 0);
  };
  for (int pass = 0; pass < passes; ++pass) {
    for (size_t y = 0; y < height; ++y) {
      png_read_row(png, row_of(y), nullptr);
      if (alpha && pass == passes - 1) {
        rgba_over_white(row_of(y), static_cast<int64_t>(width), out.rgb.data() + 3 * width * y);
      }
    }
  }
  return true;
}

}  // namespace

Result<Image> decode_png(Bytes bytes, const StoredHeader& header) {
#ifdef TROUPE_DEFLATE
  if (auto plain = decode_plain_png(bytes, header)) return *std::move(plain);
#endif
  Image out{header.width, header.height, {}};
  out.rgb.resize(size_t{3} * static_cast<size_t>(header.width) *
                 static_cast<size_t>(header.height));
  Source source{.bytes = bytes};
  Work work;
  const bool fine = run(work, source, header, out);
  if (source.ended) return truncated(ImageFormat::png, bytes.size());
  if (!fine) {
    return damaged(ImageFormat::png, "cannot be decoded (" + std::string(source.message) + ")");
  }
  return out;
}

}  // namespace troupe::vision
