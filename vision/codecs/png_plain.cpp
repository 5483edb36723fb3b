#include "vision/codecs/png_plain.hpp"

#include <libdeflate.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "vision/codecs/pixels.hpp"
#include "vision/codecs/png_filters.hpp"

namespace troupe::vision {
namespace {

constexpr size_t kChunkFrame = 12;  // length, name and checksum around a chunk's data

// Chunks that say nothing about pixels as we take them: no colour management, no background.
constexpr std::array<std::string_view, 12> kHarmless = {
    "gAMA", "cHRM", "sRGB", "iCCP", "pHYs", "tEXt", "zTXt", "iTXt", "tIME", "bKGD", "sBIT", "eXIf"};

const uint8_t* raw(Bytes bytes, size_t at) {
  return reinterpret_cast<const uint8_t*>(bytes.data()) + at;
}

uint32_t number(const uint8_t* at) {
  return uint32_t{at[0]} << 24U | uint32_t{at[1]} << 16U | uint32_t{at[2]} << 8U | at[3];
}

struct Chunk {
  std::string_view name;
  const uint8_t* data = nullptr;
  size_t size = 0;
  [[nodiscard]] bool sound() const {  // name and data against the checksum behind them
    return libdeflate_crc32(0, data - 4, size + 4) == number(data + size);
  }
};

std::optional<Chunk> chunk_at(Bytes bytes, size_t at) {
  if (bytes.size() < kChunkFrame || at > bytes.size() - kChunkFrame) return std::nullopt;
  const uint8_t* begin = raw(bytes, at);
  const size_t size = number(begin);
  if (size > bytes.size() - at - kChunkFrame) return std::nullopt;
  return Chunk{{reinterpret_cast<const char*>(begin + 4), 4}, begin + 8, size};
}

// Bytes of a pixel; 0 for what is not ordinary.
size_t pixel_bytes(const Chunk& first, const StoredHeader& header) {
  if (first.name != "IHDR" || first.size != 13 || !first.sound()) return 0;
  if (number(first.data) != static_cast<uint32_t>(header.width) ||
      number(first.data + 4) != static_cast<uint32_t>(header.height)) {
    return 0;
  }
  const uint8_t depth = first.data[8], colour = first.data[9];
  const bool methods = first.data[10] == 0 && first.data[11] == 0 && first.data[12] == 0;
  if (depth != 8 || !methods) return 0;
  return colour == 2 ? 3 : colour == 6 ? 4 : 0;
}

struct Stored {
  size_t pixel = 0;  // bytes
  std::vector<uint8_t> joined;  // what several chunks hold
  std::span<const uint8_t> deflated;
};

std::optional<Stored> read_chunks(Bytes bytes, const StoredHeader& header) {
  constexpr size_t kSignature = 8;
  const auto first = chunk_at(bytes, kSignature);
  if (!first) return std::nullopt;
  Stored out;
  out.pixel = pixel_bytes(*first, header);
  if (out.pixel == 0) return std::nullopt;
  std::vector<Chunk> parts;
  size_t total = 0;
  for (size_t at = kSignature + kChunkFrame + first->size;;) {
    const auto chunk = chunk_at(bytes, at);
    if (!chunk) return std::nullopt;
    at += kChunkFrame + chunk->size;
    if (chunk->name == "IDAT") {
      if (!chunk->sound()) return std::nullopt;
      parts.push_back(*chunk);
      total += chunk->size;
    } else if (!parts.empty()) {
      break;  // what follows the pixels is nobody's concern
    } else if (std::find(kHarmless.begin(), kHarmless.end(), chunk->name) == kHarmless.end()) {
      return std::nullopt;
    }
  }
  if (parts.size() == 1) {
    out.deflated = {parts[0].data, parts[0].size};
    return out;
  }
  out.joined.reserve(total);
  for (const Chunk& part : parts) {
    out.joined.insert(out.joined.end(), part.data, part.data + part.size);
  }
  out.deflated = out.joined;
  return out;
}

// Rows stand in `all` with a byte for their filter before each; they end as RGB without it, at its
// beginning. A row moves only when the one below it needs it no more.
bool make_rows(Buffer<uint8_t>& all, size_t pixel, size_t width, size_t height) {
  const size_t count = pixel * width, stored = count + 1;
  const std::vector<uint8_t> nothing(count + kFilterSlack, 0);
  const auto settle = [&](size_t y) {
    uint8_t* to = all.data() + 3 * width * y;
    const uint8_t* from = all.data() + stored * y + 1;
    if (pixel == 3) {
      std::memmove(to, from, count);
    } else {
      rgba_over_white(from, static_cast<int64_t>(width), to);
    }
  };
  for (size_t y = 0; y < height; ++y) {
    uint8_t* row = all.data() + stored * y;
    const uint8_t* above = y == 0 ? nothing.data() : row - count;
    if (!unfilter_row(pixel, row[0], row + 1, above, count)) return false;
    if (y > 0) settle(y - 1);
  }
  settle(height - 1);
  return true;
}

struct FreeDecompressor {
  void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
};

}  // namespace

std::optional<Image> decode_plain_png(Bytes bytes, const StoredHeader& header) {
  const auto stored = read_chunks(bytes, header);
  if (!stored) return std::nullopt;
  const auto width = static_cast<size_t>(header.width), height = static_cast<size_t>(header.height);
  const size_t size = (stored->pixel * width + 1) * height;
  const std::unique_ptr<libdeflate_decompressor, FreeDecompressor> work(
      libdeflate_alloc_decompressor());
  if (work == nullptr) return std::nullopt;
  Image out{header.width, header.height, {}};
  out.rgb.resize(size + kFilterSlack);
  const auto result = libdeflate_zlib_decompress(work.get(), stored->deflated.data(),
                                                 stored->deflated.size(), out.rgb.data(), size, nullptr);
  if (result != LIBDEFLATE_SUCCESS) return std::nullopt;
  if (!make_rows(out.rgb, stored->pixel, width, height)) return std::nullopt;
  out.rgb.resize(3 * width * height);
  return out;
}

}  // namespace troupe::vision
