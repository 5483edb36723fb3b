// Formats by content, and what their headers say.
#include <algorithm>
#include <array>

#include "vision/codecs/codec.hpp"
#include "vision/codecs/reader.hpp"

namespace troupe::vision {
namespace {

constexpr std::string_view kPngMagic = "\x89PNG\r\n\x1a\n";

// Width and height from 31-bit numbers of a file.
Status set_size(StoredHeader& header, uint32_t width, uint32_t height) {
  if (width == 0 || height == 0) {
    return damaged(header.format, "says that it is " + std::to_string(width) + "x" +
                                      std::to_string(height) + " pixels");
  }
  if (width > INT32_MAX || height > INT32_MAX) {
    return limit_exceeded("the " + format_name(header.format) + " says that it is " +
                          std::to_string(width) + "x" + std::to_string(height) + " pixels");
  }
  header.width = static_cast<int32_t>(width);
  header.height = static_cast<int32_t>(height);
  return ok_status();
}

bool is_frame(uint8_t marker) {
  return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

Result<StoredHeader> read_jpeg(Bytes bytes) {
  StoredHeader header{.format = ImageFormat::jpeg};
  ByteReader in(bytes);
  in.skip(2);
  bool exif_seen = false;
  while (!in.ended()) {
    uint8_t marker = in.u8();
    if (marker != 0xFF) continue;  // what stands between segments is skipped, as libjpeg does
    while (marker == 0xFF && !in.ended()) marker = in.u8();
    if (marker == 0 || marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) continue;
    if (marker == 0xD9 || marker == 0xDA) {
      return damaged(header.format, "has no frame header before its pixels");
    }
    const size_t length = in.big(2);
    if (length < 2) return damaged(header.format, "has a segment without a length");
    ByteReader segment(in.take(length - 2));
    if (marker == 0xE1 && !exif_seen && segment.next_is(std::string_view("Exif\0\0", 6))) {
      segment.skip(6);
      header.orientation = exif_orientation(segment.take(segment.left()));
      exif_seen = true;
    }
    if (!is_frame(marker)) continue;
    segment.skip(1);
    const uint32_t height = segment.big(2), width = segment.big(2);
    if (segment.ended()) break;
    // One bit for each block of 64 pixels is the least (with coarser grids for colour); arithmetic
    // coding knows no such bound.
    if (marker < 0xC9) header.pixels_max = static_cast<int64_t>(bytes.size()) * 8192;
    TR_TRY(set_size(header, width, height));
    return header;
  }
  return truncated(header.format, bytes.size());
}

Result<StoredHeader> read_png(Bytes bytes) {
  StoredHeader header{.format = ImageFormat::png};
  ByteReader in(bytes);
  in.skip(kPngMagic.size());
  const uint32_t first = in.big(4);
  if (!in.next_is("IHDR") || first != 13) return damaged(header.format, "does not begin with IHDR");
  in.skip(4);
  const uint32_t width = in.big(4), height = in.big(4);
  const uint8_t depth = in.u8();
  const uint8_t colour = in.u8();
  in.skip(3 + 4);
  if (in.ended()) return truncated(header.format, bytes.size());
  TR_TRY(set_size(header, width, height));
  int64_t packed = 0;
  while (in.left() >= 8) {
    const uint32_t length = in.big(4);
    const bool exif = in.next_is("eXIf");
    if (in.next_is("IDAT")) packed += length;
    if (in.next_is("IEND")) break;
    in.skip(4);
    if (exif) header.orientation = exif_orientation(in.take(length));
    in.skip((exif ? 0 : size_t{length}) + 4);
  }
  // Deflate makes at most 1032 bytes of one.
  constexpr std::array<int64_t, 7> kChannels = {1, 1, 3, 1, 2, 1, 4};
  const int64_t bits = std::max<int64_t>(1, depth * kChannels[std::min<size_t>(colour, 6)]);
  header.pixels_max = (packed + 64) * 1032 * 8 / bits;
  return header;
}

Result<StoredHeader> read_webp(Bytes bytes) {
  StoredHeader header{.format = ImageFormat::webp};
  ByteReader in(bytes);
  in.skip(12);
  bool sized = false;
  while (in.left() >= 8) {
    const auto name = in.take(4);
    const std::string_view chunk(reinterpret_cast<const char*>(name.data()), 4);
    const size_t length = in.little(4);
    ByteReader body(in.take(length + (length & 1)));
    if (chunk == "VP8X" && !sized) {
      header.animated = (body.u8() & 2) != 0;
      body.skip(3);
      const uint32_t width = body.little(3) + 1, height = body.little(3) + 1;
      if (body.ended()) break;
      TR_TRY(set_size(header, width, height));
      sized = true;
    } else if (chunk == "VP8 " && !sized) {
      body.skip(6);
      const uint32_t width = body.little(2) & 0x3FFF, height = body.little(2) & 0x3FFF;
      if (body.ended()) break;
      TR_TRY(set_size(header, width, height));
      return header;
    } else if (chunk == "VP8L" && !sized) {
      body.skip(1);
      const uint32_t packed = body.little(4);
      if (body.ended()) break;
      TR_TRY(set_size(header, (packed & 0x3FFF) + 1, ((packed >> 14) & 0x3FFF) + 1));
      return header;
    } else if (chunk == "EXIF") {
      if (body.next_is(std::string_view("Exif\0\0", 6))) body.skip(6);
      header.orientation = exif_orientation(body.take(body.left()));
    }
  }
  if (!sized) return truncated(header.format, bytes.size());
  return header;
}

Result<StoredHeader> read_gif(Bytes bytes) {
  StoredHeader header{.format = ImageFormat::gif};
  ByteReader in(bytes);
  in.skip(6);
  const uint32_t width = in.little(2), height = in.little(2);
  if (in.ended()) return truncated(header.format, bytes.size());
  TR_TRY(set_size(header, width, height));
  // Every code has at least 3 bits and stands for at most 4096 pixels; a frame may leave the rest
  // of the screen bare.
  return header;
}

Result<StoredHeader> read_bmp(Bytes bytes) {
  StoredHeader header{.format = ImageFormat::bmp};
  ByteReader in(bytes);
  in.skip(14);
  const uint32_t size = in.little(4);
  const bool old = size == 12;
  const uint32_t width = in.little(old ? 2 : 4);
  uint32_t height = in.little(old ? 2 : 4);
  if (in.ended()) return truncated(header.format, bytes.size());
  if (!old && (height >> 31) != 0) height = 0U - height;  // top row first
  TR_TRY(set_size(header, width, height));
  return header;
}

std::string in_hex(Bytes bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const std::byte b : bytes) {
    if (!out.empty()) out += ' ';
    out += kDigits[static_cast<unsigned>(b) >> 4];
    out += kDigits[static_cast<unsigned>(b) & 15];
  }
  return out;
}

}  // namespace

std::string format_name(ImageFormat format) {
  switch (format) {
    case ImageFormat::jpeg:
      return "JPEG";
    case ImageFormat::png:
      return "PNG";
    case ImageFormat::webp:
      return "WebP";
    case ImageFormat::gif:
      return "GIF";
    case ImageFormat::bmp:
      return "BMP";
  }
  return "picture";
}

Status damaged(ImageFormat format, std::string_view why) {
  return invalid("the " + format_name(format) + " is damaged: it " + std::string(why) +
                 "; save it anew or send it again");
}

Status truncated(ImageFormat format, size_t bytes) {
  return invalid("the " + format_name(format) + " is truncated: its pixels go on beyond its " +
                 std::to_string(bytes) + " bytes; send it whole");
}

int exif_orientation(Bytes tiff) {
  ByteReader in(tiff);
  const bool little = in.next_is("II");
  if (!little && !in.next_is("MM")) return 1;
  const auto number = [&](int count) { return little ? in.little(count) : in.big(count); };
  in.skip(2);
  if (number(2) != 42) return 1;
  in.seek(number(4));
  const uint32_t entries = number(2);
  for (uint32_t i = 0; i < entries && !in.ended(); ++i) {
    const uint32_t tag = number(2), type = number(2);
    in.skip(4);
    const size_t value_at = in.at();
    const uint32_t value = type == 3 ? number(2) : number(4);
    if (tag == 0x112) return value >= 1 && value <= 8 && !in.ended() ? static_cast<int>(value) : 1;
    in.seek(value_at + 4);
  }
  return 1;
}

Result<StoredHeader> read_stored_header(Bytes bytes) {
  const ByteReader in(bytes);
  if (in.next_is("\xFF\xD8\xFF")) return read_jpeg(bytes);
  if (in.next_is(kPngMagic)) return read_png(bytes);
  ByteReader riff(bytes);
  riff.skip(8);
  if (in.next_is("RIFF") && riff.next_is("WEBP")) return read_webp(bytes);
  if (in.next_is("GIF87a") || in.next_is("GIF89a")) return read_gif(bytes);
  if (in.next_is("BM")) return read_bmp(bytes);
  if (bytes.empty()) return invalid("the picture has no bytes; send the file's content");
  return invalid("the picture is no JPEG, PNG, WebP, GIF or BMP: it begins with " +
                 in_hex(bytes.first(std::min<size_t>(bytes.size(), 8))));
}

}  // namespace troupe::vision
