// How all tiles of one picture lie together in a tower that sees them side by side (TiledPositions):
// first the rows of real tiles, each with its class token in front, then what fills up.
#pragma once

#include <cstdint>
#include <vector>

#include "vision/tower.hpp"

namespace troupe::vision {

struct TiledRows {
  int64_t real = 0;   // rows of real tiles
  int64_t rows = 0;   // and those that fill up
  // Each row before the first norm as a sum of rows: embedded patches, class token, table, tile
  // table, `before`. Rows of empty tiles stand behind the real ones; those that only fill a tile up
  // are not among them.
  std::vector<int32_t> sources;
  std::vector<float> weights;
  int64_t normed = 0;                 // rows that `sources` describes
  std::vector<int32_t> padded;        // row -> row before padding, -1: zeros
  std::vector<int32_t> behind;        // row -> row of `behind`
};
inline constexpr int32_t kTiledTaps = 4;

struct TiledGates {
  float positions = 0.0F, before = 0.0F, behind = 0.0F;  // tanh of the gates
};
TiledRows lay_tiled(const TiledPositions& spec, const TiledGates& gates, int32_t tiles,
                    int32_t aspect);

}  // namespace troupe::vision
