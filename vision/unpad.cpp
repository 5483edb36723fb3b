#include "vision/unpad.hpp"

#include <cmath>
#include <string>

namespace troupe::vision {
namespace {

// int(round(value, 7)), as the reference cuts.
int32_t rounded_down(double value) {
  constexpr double kDigits = 1e7;
  return static_cast<int32_t>(std::nearbyint(value * kDigits) / kDigits);
}

}  // namespace

Unpadding unpadding(int32_t rows, int32_t columns, int32_t width, int32_t height) {
  Unpadding out{0, rows, 0, columns};
  if (static_cast<double>(width) / height > static_cast<double>(columns) / rows) {
    const int32_t kept = rounded_down(height * (static_cast<double>(columns) / width));
    const int32_t padding = (rows - kept) / 2;
    out.row_begin = padding;
    out.row_end = rows - padding;
  } else {
    const int32_t kept = rounded_down(width * (static_cast<double>(rows) / height));
    const int32_t padding = (columns - kept) / 2;
    out.column_begin = padding;
    out.column_end = columns - padding;
  }
  return out;
}

Result<std::vector<int32_t>> unpadded_rows(const PictureLayout& layout) {
  const auto tiles = static_cast<int32_t>(layout.tiles.size());
  if (tiles == 0 || layout.overview != 0 ||
      tiles != 1 + (tiles > 1 ? layout.tile_rows * layout.tile_columns : 0)) {
    return internal_error("a picture of " + std::to_string(tiles) + " tiles, " +
                          std::to_string(layout.tile_rows) + " x " +
                          std::to_string(layout.tile_columns) + " and an overview first, expected");
  }
  const PatchGrid tile = layout.tiles.front();
  const int32_t area = tile.rows * tile.columns;
  const int32_t row_end = tiles * area;
  std::vector<int32_t> out;
  for (int32_t i = 0; i < area; ++i) out.push_back(i);
  if (tiles == 1) {
    out.push_back(row_end);
    return out;
  }
  const Unpadding kept = unpadding(tile.rows * layout.tile_rows, tile.columns * layout.tile_columns,
                                   layout.width, layout.height);
  for (int32_t y = kept.row_begin; y < kept.row_end; ++y) {
    for (int32_t x = kept.column_begin; x < kept.column_end; ++x) {
      const int32_t index = y / tile.rows * layout.tile_columns + x / tile.columns;
      out.push_back(area * (1 + index) + y % tile.rows * tile.columns + x % tile.columns);
    }
    out.push_back(row_end);
  }
  return out;
}

}  // namespace troupe::vision
