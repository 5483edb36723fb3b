#include "vision/tiled.hpp"

namespace troupe::vision {

TiledRows lay_tiled(const TiledPositions& spec, const TiledGates& gates, int32_t tiles,
                    int32_t aspect) {
  TiledRows out;
  const int32_t area = spec.side * spec.side, each = area + 1;
  // Where each input's rows begin, as mix_rows counts them through.
  const int32_t class_row = tiles * area;
  const int32_t table = class_row + 1;
  const int32_t tile_table = table + each + aspect * spec.tiles_max * each;
  const int32_t before =
      table + each + spec.aspects * spec.tiles_max * each + aspect * spec.tiles_max;
  const auto add = [&](int32_t row, float weight) {
    out.sources.push_back(row);
    out.weights.push_back(weight);
  };
  for (int32_t tile = 0; tile < spec.tiles_max; ++tile) {
    for (int32_t place = 0; place < each; ++place) {
      const bool patch = place > 0;
      // Empty tiles have patches of zero: nothing but positions is left of them.
      const int32_t own = tile < tiles ? tile * area + place - 1 : -1;
      add(patch ? own : class_row, 1.0F);
      add(table + place, 1.0F - gates.positions);
      add(tile_table + tile * each + place, gates.positions);
      add(patch ? before + tile : -1, gates.before);
    }
  }
  out.normed = int64_t{spec.tiles_max} * each;
  out.real = int64_t{tiles} * each;
  const int32_t extra = (spec.multiple - each % spec.multiple) % spec.multiple;
  for (int32_t row = 0; row < out.normed; ++row) {
    out.padded.push_back(row);
    out.behind.push_back(aspect * spec.tiles_max + row / each);
  }
  for (int32_t tile = 0; tile < spec.tiles_max; ++tile) {
    for (int32_t i = 0; i < extra; ++i) {
      out.padded.push_back(-1);
      out.behind.push_back(aspect * spec.tiles_max + tile);
    }
  }
  out.rows = static_cast<int64_t>(out.padded.size());
  return out;
}

}  // namespace troupe::vision
