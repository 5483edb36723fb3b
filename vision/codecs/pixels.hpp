// The arithmetic of colours, as Pillow rounds it.
#pragma once

#include <cstdint>

namespace troupe::vision {

// A value under alpha over white.
inline uint8_t over_white(uint32_t value, uint32_t alpha) {
  if (alpha == 0) return 255;
  const uint32_t sum = (value * alpha + 255 * (255 - alpha) + 128) << 7;
  return static_cast<uint8_t>((sum + (sum >> 8)) >> 8 >> 7);
}

inline void rgba_over_white(const uint8_t* rgba, int64_t count, uint8_t* rgb) {
  for (int64_t i = 0; i < count; ++i, rgba += 4, rgb += 3) {
    for (int c = 0; c < 3; ++c) rgb[c] = over_white(rgba[c], rgba[3]);
  }
}

// Ink of 0 is white here; Adobe's files (all that matter) store it the other way round.
inline void inverted_cmyk_to_rgb(const uint8_t* cmyk, int64_t count, uint8_t* rgb) {
  for (int64_t i = 0; i < count; ++i, cmyk += 4, rgb += 3) {
    const uint32_t light = cmyk[3];
    for (int c = 0; c < 3; ++c) {
      const uint32_t product = (255U - cmyk[c]) * light + 128;
      rgb[c] = static_cast<uint8_t>(light - ((product + (product >> 8)) >> 8));
    }
  }
}

}  // namespace troupe::vision
