// BMP: palettes of 1, 4 and 8 bits (run lengths too), 16, 24 and 32 bits with or without masks.
#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "vision/codecs/codec.hpp"
#include "vision/codecs/pixels.hpp"
#include "vision/codecs/reader.hpp"

namespace troupe::vision {
namespace {

enum Compression : uint32_t { kNone = 0, kRuns8 = 1, kRuns4 = 2, kMasks = 3, kAlphaMasks = 6 };

// One colour of a pixel: bits of a number, scaled to 8.
struct Channel {
  uint32_t mask = 0;
  [[nodiscard]] uint32_t of(uint32_t pixel) const {
    if (mask == 0) return 0;
    const int shift = std::countr_zero(mask);
    const uint64_t most = mask >> shift;
    return static_cast<uint32_t>(uint64_t{(pixel & mask) >> shift} * 255 / most);
  }
};

struct Layout {
  uint32_t bits = 0, compression = kNone;
  bool top_first = false;
  size_t pixels_at = 0;
  std::array<Channel, 4> channels;  // red, green, blue, alpha
  std::vector<std::array<uint8_t, 3>> palette;
};

Result<Layout> read_layout(Bytes bytes) {
  constexpr auto kBmp = ImageFormat::bmp;
  Layout out;
  ByteReader in(bytes);
  in.skip(10);
  out.pixels_at = in.little(4);
  const uint32_t size = in.little(4);
  constexpr std::array<uint32_t, 7> kSizes = {12, 40, 52, 56, 64, 108, 124};
  if (std::find(kSizes.begin(), kSizes.end(), size) == kSizes.end()) {
    return damaged(kBmp,
                   "has a header of " + std::to_string(size) + " bytes, which no version has");
  }
  const bool old = size == 12;
  in.skip(old ? 2 : 4);
  out.top_first = !old && (in.little(4) >> 31) != 0;
  if (old) in.skip(2);
  in.skip(2);
  out.bits = in.little(2);
  uint32_t colours = 0;
  if (!old) {
    out.compression = in.little(4);
    in.skip(12);
    colours = in.little(4);
    in.skip(4);
  }
  if (out.bits == 16) {
    out.channels = {{{0x7C00}, {0x3E0}, {0x1F}, {0}}};
  } else {
    out.channels = {{{0xFF0000}, {0xFF00}, {0xFF}, {0}}};
  }
  if (out.compression == kMasks || out.compression == kAlphaMasks) {
    const int count = out.compression == kAlphaMasks || size >= 56 ? 4 : 3;
    std::array<Channel, 4> masks;
    for (int i = 0; i < count; ++i) masks[static_cast<size_t>(i)].mask = in.little(4);
    if ((masks[0].mask | masks[1].mask | masks[2].mask) != 0) out.channels = masks;
  }
  if (out.bits <= 8) {
    in.seek(14 + size);
    const uint32_t most = 1U << out.bits;
    const uint32_t count = colours == 0 ? most : std::min(colours, most);
    out.palette.resize(256, {0, 0, 0});
    for (uint32_t i = 0; i < count; ++i) {
      for (size_t c = 3; c-- > 0;) out.palette[i][c] = in.u8();
      if (!old) in.skip(1);
    }
  }
  if (in.ended()) return truncated(kBmp, bytes.size());
  return out;
}

// Colours by palette, one index per pixel.
void put_indices(const Layout& layout, const uint8_t* indices, int32_t width, uint8_t* rgb) {
  for (int32_t x = 0; x < width; ++x, rgb += 3) {
    const auto& colour = layout.palette[indices[x]];
    std::copy(colour.begin(), colour.end(), rgb);
  }
}

void put_row(const Layout& layout, const uint8_t* row, int32_t width, uint8_t* rgb) {
  if (layout.bits <= 8) {
    const uint32_t per_byte = 8 / layout.bits, mask = (1U << layout.bits) - 1;
    for (int32_t x = 0; x < width; ++x, rgb += 3) {
      const auto at = static_cast<uint32_t>(x);
      const uint32_t shift = 8 - layout.bits * (at % per_byte + 1);
      const auto& colour = layout.palette[(row[at / per_byte] >> shift) & mask];
      std::copy(colour.begin(), colour.end(), rgb);
    }
    return;
  }
  const uint32_t count = layout.bits / 8;
  for (int32_t x = 0; x < width; ++x, row += count, rgb += 3) {
    uint32_t pixel = 0;
    for (uint32_t i = 0; i < count; ++i) pixel |= uint32_t{row[i]} << (8 * i);
    const uint32_t alpha = layout.channels[3].mask == 0 ? 255 : layout.channels[3].of(pixel);
    for (size_t c = 0; c < 3; ++c) rgb[c] = over_white(layout.channels[c].of(pixel), alpha);
  }
}

Result<Image> decode_plain(Bytes bytes, const StoredHeader& header, const Layout& layout) {
  const size_t stride = (static_cast<size_t>(header.width) * layout.bits + 31) / 32 * 4;
  const size_t used = (static_cast<size_t>(header.width) * layout.bits + 7) / 8;
  const auto height = static_cast<size_t>(header.height);
  if (layout.pixels_at > bytes.size() ||
      bytes.size() - layout.pixels_at < stride * (height - 1) + used) {
    return truncated(header.format, bytes.size());
  }
  Image out{header.width, header.height, {}};
  const size_t row_bytes = size_t{3} * static_cast<size_t>(header.width);
  out.rgb.resize(row_bytes * height);
  const auto* from = reinterpret_cast<const uint8_t*>(bytes.data()) + layout.pixels_at;
  for (size_t y = 0; y < height; ++y, from += stride) {
    const size_t at = layout.top_first ? y : height - 1 - y;
    put_row(layout, from, header.width, out.rgb.data() + at * row_bytes);
  }
  return out;
}

// Run lengths into one index per pixel, bottom row first. False: the bytes ended.
bool expand_runs(ByteReader& in, bool nibbles, int32_t width, std::vector<uint8_t>& indices) {
  const size_t row = static_cast<size_t>(width);
  size_t at = 0;
  const auto put = [&](uint32_t count, auto value) {
    // A run stops at the end of its row.
    const size_t room = row - at % row;
    for (uint32_t i = 0; i < count; ++i) {
      const uint8_t v = value(i);
      if (i < room && at + i < indices.size()) indices[at + i] = v;
    }
    at += std::min<size_t>(count, room);
    if (at > indices.size()) at = indices.size();
  };
  const auto nibble = [](uint8_t byte, uint32_t i) {
    return static_cast<uint8_t>(i % 2 == 0 ? byte >> 4 : byte & 15);
  };
  bool full_row = false;  // a run ended exactly at the end of a row: its end mark says nothing more
  while (at < indices.size()) {
    const uint8_t count = in.u8(), value = in.u8();
    if (in.ended()) return false;
    if (count > 0) {
      put(count, [&](uint32_t i) { return nibbles ? nibble(value, i) : value; });
      full_row = at % row == 0;
    } else if (value == 0) {
      if (!full_row) at += row - at % row;
      full_row = false;
    } else if (value == 1) {
      return true;
    } else if (value == 2) {
      const size_t right = in.u8(), up = in.u8();
      at = std::min(indices.size(), at + right + up * row);
      full_row = false;
    } else {
      uint8_t byte = 0;
      put(value, [&](uint32_t i) {
        if (!nibbles || i % 2 == 0) byte = in.u8();
        return nibbles ? nibble(byte, i) : byte;
      });
      const uint32_t used = nibbles ? (value + 1U) / 2 : value;
      if (used % 2 != 0) in.skip(1);
      full_row = at % row == 0;
    }
  }
  return true;
}

Result<Image> decode_runs(Bytes bytes, const StoredHeader& header, const Layout& layout) {
  const auto width = static_cast<size_t>(header.width), height = static_cast<size_t>(header.height);
  // A pair of bytes fills 255 pixels; the end mark may come at any time.
  std::vector<uint8_t> indices(width * height, 0);
  ByteReader in(bytes);
  in.seek(layout.pixels_at);
  if (in.ended() || !expand_runs(in, layout.compression == kRuns4, header.width, indices)) {
    return truncated(header.format, bytes.size());
  }
  Image out{header.width, header.height, {}};
  out.rgb.resize(3 * width * height);
  for (size_t y = 0; y < height; ++y) {
    const size_t at = layout.top_first ? y : height - 1 - y;
    put_indices(layout, indices.data() + y * width, header.width, out.rgb.data() + 3 * width * at);
  }
  return out;
}

}  // namespace

Result<Image> decode_bmp(Bytes bytes, const StoredHeader& header) {
  TR_ASSIGN(const Layout layout, read_layout(bytes));
  const uint32_t bits = layout.bits;
  const bool runs =
      (layout.compression == kRuns8 && bits == 8) || (layout.compression == kRuns4 && bits == 4);
  if (runs) return decode_runs(bytes, header, layout);
  const bool masks = layout.compression == kMasks || layout.compression == kAlphaMasks;
  const bool plain = layout.compression == kNone && (bits == 1 || bits == 4 || bits == 8 ||
                                                     bits == 16 || bits == 24 || bits == 32);
  if (!plain && !(masks && (bits == 16 || bits == 24 || bits == 32))) {
    return unsupported("the BMP has " + std::to_string(bits) + " bits per pixel in compression " +
                       std::to_string(layout.compression) + ", which is not read; save it as PNG");
  }
  return decode_plain(bytes, header, layout);
}

}  // namespace troupe::vision
