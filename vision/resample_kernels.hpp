// The inner loops of resampling, once per instruction set.
//
// A weight of 22 bits is more than 16-bit multipliers take: it is split into two parts of 11 bits,
// and the sums are joined at the end. All is modulo 2^32, so the result is Pillow's exactly.
#pragma once

#include <cstdint>

namespace troupe::vision {

inline constexpr int kWeightBits = 22;
inline constexpr int kLowBits = 11;
// Bytes beyond a row's last pixel that a kernel may read, and beyond its result that it may write.
inline constexpr int kRowSlack = 32;

// Two neighbouring taps' halves of weights: weight = high * 2^11 + low.
struct TapPair {
  int16_t high[2];
  int16_t low[2];
};

// One result pixel from `pairs` pairs of source pixels, the first of which is `first`.
struct PixelTaps {
  int32_t first = 0;
  int32_t pairs = 0;  // even
  const TapPair* taps = nullptr;
};

// out[x] = sum over taps of source pixels (RGB), for x < width. Reads kRowSlack bytes beyond taps.
void resample_row(const uint8_t* source, const PixelTaps* pixels, int32_t width, uint8_t* out);
// out[i] = sum over pairs of rows[2p][i], rows[2p + 1][i], for i < bytes. Reads and writes whole
// vectors, up to kRowSlack bytes beyond the end.
void resample_rows(const uint8_t* const* rows, const TapPair* taps, int32_t pairs, int64_t bytes,
                   uint8_t* out);

}  // namespace troupe::vision
