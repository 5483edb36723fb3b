#include "vision/patchify.hpp"

#include "base/assert.hpp"
#include "vision/patchify_kernels.hpp"

namespace troupe::vision {

PatchWriter::PatchWriter(const PatchShape& shape, const Normalise& normalise, Tile& tile)
    : shape_(shape), normalise_(normalise), tile_(tile) {
  TR_ASSERT(tile.grid.frames == 1 && tile.grid.rows % shape.merge == 0 &&
            tile.grid.columns % shape.merge == 0);
  tile.patch_values = shape.values();
  tile.patches.resize(static_cast<size_t>(tile.grid.patches() * shape.values()));
  planes_.resize(static_cast<size_t>(3 * (width() + kPlaneSlack)));
  patches_.resize(static_cast<size_t>(tile.grid.columns));
}

int64_t PatchWriter::patch_index(int32_t row, int32_t column) const {
  const int32_t m = shape_.merge;
  const int64_t block = int64_t{row / m} * (tile_.grid.columns / m) + column / m;
  return block * m * m + (row % m) * m + column % m;
}

void PatchWriter::write(int32_t y, const uint8_t* rgb, int32_t frame, int32_t copies) {
  TR_DCHECK(y >= 0 && y < height());
  const int64_t stride = width() + kPlaneSlack;
  uint8_t* planes = planes_.data();
  split_channels(rgb, width(), planes, planes + stride, planes + 2 * stride);
  for (int32_t column = 0; column < tile_.grid.columns; ++column) {
    patches_[static_cast<size_t>(column)] =
        tile_.patches.data() + patch_index(y / shape_.side, column) * shape_.values();
  }
  const int64_t area = int64_t{shape_.side} * shape_.side;
  for (int32_t channel = 0; channel < 3; ++channel) {
    const auto c = static_cast<size_t>(channel);
    write_patches({.plane = planes + channel * stride,
                   .patches = patches_.data(),
                   .count = tile_.grid.columns,
                   .side = shape_.side,
                   .offset = (int64_t{channel} * shape_.frames + frame) * area +
                             int64_t{y % shape_.side} * shape_.side,
                   .copies = copies,
                   .copy_stride = area,
                   .scale = normalise_.scale[c],
                   .shift = normalise_.shift[c]});
  }
}

}  // namespace troupe::vision
