// The inner loops of patchify, once per instruction set.
#pragma once

#include <cstdint>

namespace troupe::vision {

// Bytes that split_channels() may write beyond each plane.
inline constexpr int64_t kPlaneSlack = 16;

// RGB pixels into three planes.
void split_channels(const uint8_t* rgb, int64_t width, uint8_t* red, uint8_t* green, uint8_t* blue);

// One channel of one row of pixels into a row of patches.
struct PatchRow {
  const uint8_t* plane = nullptr;
  float* const* patches = nullptr;  // `count` of them
  int64_t count = 0;
  int64_t side = 0;
  int64_t offset = 0;  // in a patch, where the channel's pixels of this row go
  int64_t copies = 1;  // into so many frames,
  int64_t copy_stride = 0;  // so far apart
  float scale = 1, shift = 0;
};
void write_patches(const PatchRow& row);

}  // namespace troupe::vision
