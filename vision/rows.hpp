// How the patches of one call lie in the tower's rows: where each row comes from, where it stands,
// and what it attends to. Host side, from the grids alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vision/processor.hpp"
#include "vision/tower.hpp"

namespace troupe::vision {

// The rows that stand for one tile, between stages: a grid, and single rows around it.
struct TileShape {
  int32_t frames = 1, rows = 0, columns = 0;
  int32_t extra = 0;
  [[nodiscard]] int64_t count() const { return int64_t{frames} * rows * columns + extra; }
};

struct TowerRows {
  int64_t patches = 0;
  int64_t rows = 0;                    // patches and class tokens
  std::vector<int32_t> patch_order;    // place in the tower -> patch as the tiles give it; empty: as is
  std::vector<int32_t> ends;           // of attention within a tile's frames
  std::vector<int32_t> window_ends;    // of attention within windows
  std::vector<int32_t> rope;           // time, row, column per row
  // Each row as a sum of rows: of the embedded patches, then the class token, then the positions.
  std::vector<int32_t> sources;
  std::vector<float> weights;          // empty: all 1
  int32_t taps = 1;
  std::vector<int32_t> kept;           // rows that go on to the projector
  std::vector<int32_t> merged_order;   // merged row -> its place in the tower's order; empty: as is
};

TowerRows lay_rows(const Tower& tower, std::span<const PatchGrid> tiles);

}  // namespace troupe::vision
