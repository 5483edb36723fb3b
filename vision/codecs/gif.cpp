// The first frame of a GIF. Transparent pixels, and those of the screen that the frame leaves bare
// (where it names a transparent colour), show white.
#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "vision/codecs/codec.hpp"
#include "vision/codecs/reader.hpp"

namespace troupe::vision {
namespace {

using Palette = std::array<std::array<uint8_t, 3>, 256>;

Palette grey_palette() {
  Palette out;
  for (size_t i = 0; i < out.size(); ++i) out[i].fill(static_cast<uint8_t>(i));
  return out;
}

void read_palette(ByteReader& in, int bits, Palette& palette) {
  for (int i = 0; i < (2 << bits); ++i) {
    for (uint8_t& channel : palette[static_cast<size_t>(i)]) channel = in.u8();
  }
}

void skip_blocks(ByteReader& in) {
  for (uint8_t length = in.u8(); length != 0 && !in.ended(); length = in.u8()) in.skip(length);
}

// The bits of a chain of blocks, lowest first.
class BitStream {
 public:
  explicit BitStream(ByteReader& in) : in_(in) {}
  // -1 at the end of the chain.
  int32_t take(int bits) {
    while (held_ < bits) {
      if (left_ == 0) {
        left_ = in_.u8();
        if (left_ == 0 || in_.ended()) return -1;
      }
      bits_ |= uint32_t{in_.u8()} << held_;
      held_ += 8;
      --left_;
    }
    const auto out = static_cast<int32_t>(bits_ & ((1U << bits) - 1));
    bits_ >>= bits;
    held_ -= bits;
    return out;
  }

 private:
  ByteReader& in_;
  uint32_t bits_ = 0;
  int held_ = 0;
  int left_ = 0;  // bytes of the block
};

// LZW with codes of up to 12 bits: each code is a shorter one and a last pixel.
class Lzw {
 public:
  explicit Lzw(int bits) : bits_(bits), clear_(1 << bits) { reset(); }

  // Calls put(pixel) for up to `count` pixels; true when all came.
  template <class Put>
  bool run(BitStream& in, int64_t count, Put put) {
    int32_t last = -1;
    uint8_t first = 0;
    while (count > 0) {
      const int32_t code = in.take(width_);
      if (code < 0 || code == clear_ + 1) return false;
      if (code == clear_) {
        reset();
        last = -1;
        continue;
      }
      if (code > next_ || (last < 0 && code >= clear_)) return false;
      const bool known = code < next_;
      size_t length = 0;
      if (!known) stack_[length++] = first;
      int32_t at = known ? code : last;
      for (; at >= clear_; at = before_[static_cast<size_t>(at)]) {
        stack_[length++] = pixel_[static_cast<size_t>(at)];
      }
      first = static_cast<uint8_t>(at);
      stack_[length++] = first;
      if (!known) stack_[0] = first;
      while (length > 0 && count > 0) {
        put(stack_[--length]);
        --count;
      }
      if (last >= 0 && next_ < 4096) {
        before_[static_cast<size_t>(next_)] = static_cast<uint16_t>(last);
        pixel_[static_cast<size_t>(next_)] = first;
        ++next_;
        if (next_ == (1 << width_) && width_ < 12) ++width_;
      }
      last = code;
    }
    return true;
  }

 private:
  void reset() {
    width_ = bits_ + 1;
    next_ = clear_ + 2;
  }
  int bits_;
  int32_t clear_;
  int width_ = 0;
  int32_t next_ = 0;
  std::array<uint16_t, 4097> before_{};
  std::array<uint8_t, 4097> pixel_{};
  std::array<uint8_t, 4098> stack_{};
};

struct Frame {
  int32_t left = 0, top = 0, width = 0, height = 0;
  bool interlaced = false;
};

// The row that the n-th stored row is.
std::vector<int32_t> row_order(const Frame& frame) {
  std::vector<int32_t> out;
  out.reserve(static_cast<size_t>(frame.height));
  if (!frame.interlaced) {
    for (int32_t y = 0; y < frame.height; ++y) out.push_back(y);
    return out;
  }
  constexpr int32_t kPasses[4][2] = {{0, 8}, {4, 8}, {2, 4}, {1, 2}};
  for (const auto& [first, step] : kPasses) {
    for (int32_t y = first; y < frame.height; y += step) out.push_back(y);
  }
  return out;
}

Result<Image> draw(ByteReader& in, const StoredHeader& header, const Frame& frame,
                   const Palette& palette, std::optional<uint8_t> clear, size_t bytes) {
  const int bits = in.u8();
  if (bits < 1 || bits > 11) return damaged(header.format, "has pixels of no known width");
  if (frame.width > header.width - frame.left || frame.height > header.height - frame.top) {
    return damaged(header.format, "has a frame larger than its screen");
  }
  constexpr std::array<uint8_t, 3> kWhite = {255, 255, 255};
  Image out{header.width, header.height, {}};
  out.rgb.resize(size_t{3} * static_cast<size_t>(out.width) * static_cast<size_t>(out.height));
  const bool covered = frame.width == out.width && frame.height == out.height;
  const auto& bare = clear ? kWhite : palette[0];
  for (size_t i = 0; !covered && i < out.rgb.size(); ++i) out.rgb[i] = bare[i % 3];
  const auto rows = row_order(frame);
  int32_t x = 0, row = 0;
  const auto place = [&] {
    const int64_t y = frame.top + rows[static_cast<size_t>(row)];
    return out.rgb.data() + 3 * (y * out.width + frame.left);
  };
  uint8_t* to = frame.height > 0 ? place() : nullptr;
  BitStream stream(in);
  Lzw lzw(bits);
  const bool whole = lzw.run(stream, int64_t{frame.width} * frame.height, [&](uint8_t pixel) {
    const auto& colour = clear && pixel == *clear ? kWhite : palette[pixel];
    std::copy(colour.begin(), colour.end(), to);
    to += 3;
    if (++x < frame.width) return;
    x = 0;
    if (++row < frame.height) to = place();
  });
  if (!whole) return truncated(header.format, bytes);
  return out;
}

}  // namespace

Result<Image> decode_gif(Bytes bytes, const StoredHeader& header) {
  ByteReader in(bytes);
  in.skip(10);
  Palette palette = grey_palette();
  const uint8_t flags = in.u8();
  in.skip(2);
  if ((flags & 0x80) != 0) read_palette(in, flags & 7, palette);
  std::optional<uint8_t> clear;
  while (!in.ended()) {
    const uint8_t kind = in.u8();
    if (kind == 0x3B) break;
    if (kind == 0x21) {
      if (in.u8() == 0xF9 && in.left() > 5 && in.next_is("\x04")) {
        ByteReader control(in.take(5));
        control.skip(1);
        const bool has_clear = (control.u8() & 1) != 0;
        control.skip(2);
        const uint8_t index = control.u8();
        clear = has_clear ? std::optional(index) : std::nullopt;
      }
      skip_blocks(in);
    } else if (kind == 0x2C) {
      Frame frame;
      frame.left = static_cast<int32_t>(in.little(2));
      frame.top = static_cast<int32_t>(in.little(2));
      frame.width = static_cast<int32_t>(in.little(2));
      frame.height = static_cast<int32_t>(in.little(2));
      const uint8_t own = in.u8();
      frame.interlaced = (own & 0x40) != 0;
      if ((own & 0x80) != 0) read_palette(in, own & 7, palette);
      return draw(in, header, frame, palette, clear, bytes.size());
    }
  }
  if (in.ended()) return truncated(header.format, bytes.size());
  return damaged(header.format, "has no frame");
}

}  // namespace troupe::vision
