// Rows of 8-bit pixels into the normalised patches of a tile, in one pass.
#pragma once

#include <array>
#include <cstdint>

#include "vision/processor.hpp"

namespace troupe::vision {

// A value of a pixel becomes value * scale + shift, by channel.
struct Normalise {
  std::array<float, 3> scale{1, 1, 1}, shift{};
};

// How a tower takes patches: side x side pixels of `frames` pictures, channel by channel. Patches
// that the projector merges (merge x merge) are neighbours.
struct PatchShape {
  int32_t side = 14;
  int32_t merge = 1;
  int32_t frames = 1;
  [[nodiscard]] int32_t values() const { return 3 * frames * side * side; }
};

class PatchWriter {
 public:
  // `tile.grid` is set; the writer makes room for its patches. Every row of pixels is given once
  // per frame.
  PatchWriter(const PatchShape& shape, const Normalise& normalise, Tile& tile);

  [[nodiscard]] int32_t width() const { return tile_.grid.columns * shape_.side; }
  [[nodiscard]] int32_t height() const { return tile_.grid.rows * shape_.side; }
  // Row `y` of a still picture (every frame of a patch shows it), or of one frame.
  void row(int32_t y, const uint8_t* rgb) { write(y, rgb, 0, shape_.frames); }
  void row(int32_t y, const uint8_t* rgb, int32_t frame) { write(y, rgb, frame, 1); }

 private:
  void write(int32_t y, const uint8_t* rgb, int32_t frame, int32_t copies);
  [[nodiscard]] int64_t patch_index(int32_t row, int32_t column) const;

  PatchShape shape_;
  Normalise normalise_;
  Tile& tile_;
  Buffer<uint8_t> planes_;  // a row of pixels, channel by channel
  std::vector<float*> patches_;  // where the patches of the current row begin
};

}  // namespace troupe::vision
