// The pictures that tests/golden/vision.py draws, and its checksums, for tests.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "vision/image.hpp"

namespace troupe::vision {

inline Image drawn_picture(int32_t width, int32_t height, uint32_t seed = 0) {
  Image out{width, height, {}};
  out.rgb.resize(size_t{3} * static_cast<size_t>(width) * static_cast<size_t>(height));
  uint8_t* to = out.rgb.data();
  for (uint32_t y = 0; y < static_cast<uint32_t>(height); ++y) {
    for (uint32_t x = 0; x < static_cast<uint32_t>(width); ++x) {
      for (uint32_t c = 0; c < 3; ++c) {
        const uint32_t value =
            x * x * 3 + y * y * 5 + x * y * 7 + (c + 1) * (x * 31 + y * 17) + seed * 97;
        *to++ = static_cast<uint8_t>(value >> 3);
      }
    }
  }
  return out;
}

// zlib's crc32.
inline uint32_t checksum(std::span<const uint8_t> bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int k = 0; k < 8; ++k) t[i] = (t[i] >> 1) ^ ((t[i] & 1) != 0 ? 0xedb88320U : 0U);
    }
    return t;
  }();
  uint32_t crc = ~0U;
  for (const uint8_t b : bytes) crc = (crc >> 8) ^ table[(crc ^ b) & 255];
  return ~crc;
}

}  // namespace troupe::vision
