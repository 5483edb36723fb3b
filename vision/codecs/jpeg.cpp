// JPEG through libjpeg-turbo, with its defaults (accurate DCT, smooth upsampling), which are
// Pillow's. A file that ends early is refused; other damage gives the pixels that libjpeg makes.
#include <csetjmp>
#include <cstdio>
#include <cstring>
// After <cstdio>: jpeglib.h wants FILE.
#include <jerror.h>
#include <jpeglib.h>

#include "vision/codecs/codec.hpp"
#include "vision/codecs/pixels.hpp"

namespace troupe::vision {
namespace {

constexpr int kScansMax = 500;  // a progressive file may pass over its pixels again and again

struct Failure {
  jpeg_error_mgr base;
  std::jmp_buf back;
  char message[JMSG_LENGTH_MAX];
  bool ended_early;
};

void fail(j_common_ptr info) {
  auto* failure = reinterpret_cast<Failure*>(info->err);
  failure->base.format_message(info, failure->message);
  std::longjmp(failure->back, 1);
}

void note(j_common_ptr info, int level) {
  auto* failure = reinterpret_cast<Failure*>(info->err);
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) failure->ended_early = true;
}

void watch(j_common_ptr info) {
  const auto* decoder = reinterpret_cast<const jpeg_decompress_struct*>(info);
  if (decoder->input_scan_number <= kScansMax) return;
  auto* failure = reinterpret_cast<Failure*>(info->err);
  std::snprintf(failure->message, sizeof failure->message, "it has more than %d scans", kScansMax);
  std::longjmp(failure->back, 1);
}

// Everything that longjmp may leave behind is plain; `rows` and `out` belong to the caller.
bool run(jpeg_decompress_struct& decoder, Failure& failure, Bytes bytes, const StoredHeader& header,
         Image& out, Buffer<uint8_t>& inks) {
  jpeg_progress_mgr progress{};
  decoder.err = jpeg_std_error(&failure.base);
  failure.base.error_exit = fail;
  failure.base.emit_message = note;
  if (setjmp(failure.back) != 0) return false;
  jpeg_create_decompress(&decoder);
  progress.progress_monitor = watch;
  decoder.progress = &progress;
  jpeg_mem_src(&decoder, reinterpret_cast<const unsigned char*>(bytes.data()),
               static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&decoder, TRUE);
  if (decoder.image_width != static_cast<JDIMENSION>(header.width) ||
      decoder.image_height != static_cast<JDIMENSION>(header.height)) {
    std::snprintf(failure.message, sizeof failure.message, "it has two frame headers");
    return false;
  }
  const bool ink = decoder.jpeg_color_space == JCS_CMYK || decoder.jpeg_color_space == JCS_YCCK;
  decoder.out_color_space = ink ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(&decoder);
  const size_t width = decoder.output_width;
  if (ink) inks.resize(4 * width);
  while (decoder.output_scanline < decoder.output_height) {
    uint8_t* row = out.rgb.data() + 3 * width * decoder.output_scanline;
    JSAMPROW into = ink ? inks.data() : row;
    if (jpeg_read_scanlines(&decoder, &into, 1) != 1) return false;
    if (ink) inverted_cmyk_to_rgb(inks.data(), static_cast<int64_t>(width), row);
  }
  jpeg_finish_decompress(&decoder);
  return true;
}

}  // namespace

Result<Image> decode_jpeg(Bytes bytes, const StoredHeader& header) {
  Image out{header.width, header.height, {}};
  out.rgb.resize(size_t{3} * static_cast<size_t>(header.width) *
                 static_cast<size_t>(header.height));
  Buffer<uint8_t> inks;
  jpeg_decompress_struct decoder{};
  Failure failure{};
  const bool fine = run(decoder, failure, bytes, header, out, inks);
  jpeg_destroy_decompress(&decoder);
  if (failure.ended_early) return truncated(ImageFormat::jpeg, bytes.size());
  if (!fine) {
    return damaged(ImageFormat::jpeg, "cannot be decoded (" + std::string(failure.message) + ")");
  }
  return out;
}

}  // namespace troupe::vision
