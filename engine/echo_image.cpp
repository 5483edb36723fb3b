// What `echo:` says of an image: sizes are read from the headers alone, nothing is decoded.
#include <array>
#include <optional>
#include <string>

#include "base/limits.hpp"
#include "engine/echo.hpp"

namespace troupe::engine {
namespace {

constexpr uint64_t kFnvBasis = 0xCBF29CE484222325ULL;

uint64_t fnv1a(uint64_t hash, const std::byte* data, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    hash = (hash ^ static_cast<uint64_t>(data[i])) * 0x100000001B3ULL;
  }
  return hash;
}

std::string hex(uint64_t value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) out[i] = kDigits[value & 15];
  return out;
}

struct Header {
  const char* format;
  int64_t width, height;
};

// Reads that may run over the end give nothing.
class Bytes {
 public:
  explicit Bytes(const SharedBytes& b) : data_(b.data), size_(b.size) {}
  [[nodiscard]] uint32_t at(size_t i) const {
    return i < size_ ? static_cast<uint32_t>(data_[i]) : 0;
  }
  [[nodiscard]] int64_t big(size_t i, size_t n) const {
    int64_t v = 0;
    for (size_t k = 0; k < n; ++k) v = v << 8 | at(i + k);
    return v;
  }
  [[nodiscard]] int64_t little(size_t i, size_t n) const {
    int64_t v = 0;
    for (size_t k = n; k-- > 0;) v = v << 8 | at(i + k);
    return v;
  }
  [[nodiscard]] bool is(size_t i, std::string_view what) const {
    for (size_t k = 0; k < what.size(); ++k) {
      if (at(i + k) != static_cast<uint8_t>(what[k])) return false;
    }
    return i + what.size() <= size_;
  }
  [[nodiscard]] size_t size() const { return size_; }

 private:
  const std::byte* data_;
  size_t size_;
};

std::optional<Header> jpeg(const Bytes& b) {
  size_t i = 2;
  while (i + 9 < b.size() && b.at(i) == 0xFF) {
    const uint32_t marker = b.at(i + 1);
    const bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (frame) return Header{"jpeg", b.big(i + 7, 2), b.big(i + 5, 2)};
    i += 2 + static_cast<size_t>(b.big(i + 2, 2));
  }
  return {};
}

std::optional<Header> webp(const Bytes& b) {
  if (b.is(12, "VP8X")) return Header{"webp", b.little(24, 3) + 1, b.little(27, 3) + 1};
  if (b.is(12, "VP8L")) {
    const int64_t bits = b.little(21, 4);
    return Header{"webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1};
  }
  if (b.is(12, "VP8 ")) return Header{"webp", b.little(26, 2) & 0x3FFF, b.little(28, 2) & 0x3FFF};
  return {};
}

std::optional<Header> read_header(const Bytes& b) {
  std::optional<Header> header;
  if (b.is(0, "\x89PNG\r\n") && b.is(12, "IHDR")) {
    header = Header{"png", b.big(16, 4), b.big(20, 4)};
  } else if (b.is(0, "\xFF\xD8")) {
    header = jpeg(b);
  } else if (b.is(0, "RIFF") && b.is(8, "WEBP")) {
    header = webp(b);
  }
  if (header && (header->width < 1 || header->height < 1)) return {};
  return header;
}

Result<std::string> encoded_text(const ImageInput& image) {
  if (image.bytes.size == 0) return invalid("image: it has no bytes");
  const std::optional<Header> header = read_header(Bytes(image.bytes));
  if (!header) {
    return invalid("image: " + std::to_string(image.bytes.size) +
                   " bytes that are not the beginning of a PNG, JPEG or WebP file");
  }
  if (header->width * header->height > limits::image_pixels) {
    return limit_exceeded("image: " + std::to_string(header->width) + "x" +
                          std::to_string(header->height) + " pixels, the limit is " +
                          std::to_string(limits::image_pixels) + " in all");
  }
  return "[image " + std::to_string(header->width) + "x" + std::to_string(header->height) + " " +
         header->format + " " + hex(fnv1a(kFnvBasis, image.bytes.data, image.bytes.size)) + "]";
}

Result<std::string> pixels_text(const ImageInput& image) {
  constexpr std::array<const char*, 5> kNames = {"rgb", "rgba", "bgr", "bgra", "grey"};
  constexpr std::array<int64_t, 5> kChannels = {3, 4, 3, 4, 1};
  const auto format = static_cast<size_t>(image.format);
  if (format >= kNames.size()) return invalid("image: pixel format " + std::to_string(format));
  if (image.width < 1 || image.height < 1 ||
      int64_t{image.width} * image.height > limits::image_pixels) {
    return invalid("image: " + std::to_string(image.width) + "x" + std::to_string(image.height) +
                   " pixels; sides must be at least 1, and " + std::to_string(limits::image_pixels) +
                   " pixels in all are the limit");
  }
  const bool planes = image.layout == PixelLayout::chw;
  const int64_t row = int64_t{image.width} * (planes ? 1 : kChannels[format]);
  const int64_t rows = int64_t{image.height} * (planes ? kChannels[format] : 1);
  const int64_t stride = image.row_stride == 0 ? row : image.row_stride;
  const int64_t needed = stride * (rows - 1) + row;
  if (stride < row || needed > static_cast<int64_t>(image.bytes.size)) {
    return invalid("image: " + std::to_string(rows) + " rows of " + std::to_string(row) +
                   " bytes, " + std::to_string(stride) + " apart, need " + std::to_string(needed) +
                   " bytes, and " + std::to_string(image.bytes.size) + " are given");
  }
  uint64_t hash = kFnvBasis;
  for (int64_t r = 0; r < rows; ++r) {
    hash = fnv1a(hash, image.bytes.data + r * stride, static_cast<size_t>(row));
  }
  return "[image " + std::to_string(image.width) + "x" + std::to_string(image.height) + " " +
         kNames[format] + " " + hex(hash) + "]";
}

Result<std::string> embedding_text(const ImageInput& image) {
  constexpr std::array<const char*, 3> kNames = {"f16", "bf16", "f32"};
  const auto type = static_cast<size_t>(image.type);
  if (type >= kNames.size()) return invalid("image: embedding type " + std::to_string(type));
  const int64_t bytes = int64_t{image.rows} * image.hidden * (type == 2 ? 4 : 2);
  if (image.rows < 1 || image.hidden < 1 || bytes != static_cast<int64_t>(image.bytes.size)) {
    return invalid("image: an embedding of " + std::to_string(image.rows) + "x" +
                   std::to_string(image.hidden) + " " + kNames[type] + " has " +
                   std::to_string(bytes) + " bytes, and " + std::to_string(image.bytes.size) +
                   " are given");
  }
  return "[embedding " + std::to_string(image.rows) + "x" + std::to_string(image.hidden) + " " +
         kNames[type] + " " + hex(fnv1a(kFnvBasis, image.bytes.data, image.bytes.size)) + "]";
}

}  // namespace

Result<std::string> echo_image_text(const ImageInput& image) {
  switch (image.kind) {
    case ImageKind::encoded: return encoded_text(image);
    case ImageKind::pixels: return pixels_text(image);
    case ImageKind::embedding: return embedding_text(image);
  }
  return invalid("image: unknown kind");
}

}  // namespace troupe::engine
