// Fuzz target: any bytes as a picture. What is decoded has the size that its header said.
#include "base/assert.hpp"
#include "models/fuzz.hpp"
#include "vision/decode.hpp"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace troupe::vision;
  const DecodeLimits limits{.bytes = size_t{1} << 20, .pixels = 1 << 20, .side = 65535};
  const std::span<const std::byte> bytes{reinterpret_cast<const std::byte*>(data), size};
  const auto header = read_header(bytes, limits);
  const auto image = decode(bytes, limits);
  if (!image.ok()) {
    TR_ASSERT(!image.status().message().empty());
    return 0;
  }
  TR_ASSERT(header.ok() && header->width == image->width && header->height == image->height);
  TR_ASSERT(image->rgb.size() ==
            size_t{3} * static_cast<size_t>(image->width) * static_cast<size_t>(image->height));
  unsigned sum = 0;
  for (const uint8_t value : image->rgb) sum += value;
  [[maybe_unused]] volatile unsigned seen = sum;
  return 0;
}
