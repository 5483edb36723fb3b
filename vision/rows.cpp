#include "vision/rows.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace troupe::vision {
namespace {

struct Spot {
  int32_t row = 0, column = 0;
};

// The place of patch `index` of a frame: row-major, or block after block of merge x merge.
Spot spot_of(const PatchGrid& grid, int32_t merge, int32_t index) {
  const int32_t area = merge * merge;
  const int32_t block = index / area, inside = index % area;
  const int32_t across = grid.columns / merge;
  return {block / across * merge + inside / merge, block % across * merge + inside % merge};
}

// Merged patches of a tile in the order of attention windows, and where each window ends.
void order_windows(const Tower& tower, const PatchGrid& grid, int32_t first, TowerRows& out) {
  const int32_t rows = grid.rows / tower.merge, columns = grid.columns / tower.merge;
  const int32_t area = tower.merge * tower.merge, side = tower.window;
  auto place = static_cast<int32_t>(out.merged_order.size());
  out.merged_order.resize(out.merged_order.size() +
                          static_cast<size_t>(grid.frames * rows * columns));
  for (int32_t frame = 0; frame < grid.frames; ++frame) {
    for (int32_t top = 0; top < rows; top += side) {
      for (int32_t left = 0; left < columns; left += side) {
        for (int32_t y = top; y < std::min(top + side, rows); ++y) {
          for (int32_t x = left; x < std::min(left + side, columns); ++x) {
            const int32_t merged = first / area + (frame * rows + y) * columns + x;
            out.merged_order[static_cast<size_t>(merged)] = place++;
            for (int32_t i = 0; i < area; ++i) out.patch_order.push_back(merged * area + i);
          }
        }
        out.window_ends.push_back(place * area);
      }
    }
  }
}

// Four neighbours and their weights along one axis (Keys' kernel with -0.75, as torch has it).
struct Taps {
  int32_t at[4];
  float weight[4];
};
Taps bicubic(int32_t index, int32_t size, int32_t side) {
  const float where =
      (static_cast<float>(index) + 0.5F) * static_cast<float>(side) / static_cast<float>(size) -
      0.5F;
  const float floor = std::floor(where);
  Taps out{};
  for (int32_t k = 0; k < 4; ++k) {
    constexpr float a = -0.75F;
    const float d = std::abs(where - floor - static_cast<float>(k - 1));
    out.at[k] = std::clamp(static_cast<int32_t>(floor) + k - 1, 0, side - 1);
    out.weight[k] = d <= 1.0F ? ((a + 2.0F) * d - (a + 3.0F)) * d * d + 1.0F
                              : ((a * d - 5.0F * a) * d + 8.0F * a) * d - 4.0F * a;
  }
  return out;
}

// The bucket of a fraction of the way, rounded wherever the reference rounds: at the edges of
// buckets the last bit decides.
int32_t bucket(int32_t index, int32_t size, int32_t side, bool exact) {
  const float step = 1.0F / static_cast<float>(size);
  const float fraction =
      exact ? static_cast<float>(index * (1.0 / size))
            : std::min(static_cast<float>(index) * step, static_cast<float>(1.0 - 1e-6));
  const double width = 1.0 / side;
  int32_t found = 0;
  while (found + 1 < side && static_cast<float>(width + found * width) <= fraction) ++found;
  return found;
}

class Placer {
 public:
  Placer(const Tower& tower, TowerRows& out) : tower_(tower), out_(out) {
    table_ = std::get_if<PositionTable>(&tower.positions);
  }
  // Whether any tile has another grid than the table's, and wants mixtures.
  void choose_taps(std::span<const PatchGrid> tiles) {
    if (table_ == nullptr) return;
    const bool mixed = table_->fit == PositionTable::Fit::bicubic &&
                       std::any_of(tiles.begin(), tiles.end(), [&](const PatchGrid& g) {
                         return g.rows != table_->side || g.columns != table_->side;
                       });
    position_taps_ = mixed ? 16 : 1;
    out_.taps = 1 + position_taps_;
  }
  void class_row() {
    add(class_source());
    if (table_ != nullptr) position(first_position() - 1);
  }
  void patch(int32_t source, const PatchGrid& grid, Spot spot) {
    add(source);
    if (table_ == nullptr) return;
    const int32_t side = table_->side;
    if (position_taps_ == 1) {
      const bool buckets = table_->fit != PositionTable::Fit::bicubic;
      const bool exact = table_->fit == PositionTable::Fit::exact_buckets;
      const int32_t y = buckets ? bucket(spot.row, grid.rows, side, exact) : spot.row;
      const int32_t x = buckets ? bucket(spot.column, grid.columns, side, exact) : spot.column;
      position(first_position() + y * side + x);
      return;
    }
    const Taps ys = bicubic(spot.row, grid.rows, side);
    const Taps xs = bicubic(spot.column, grid.columns, side);
    for (int32_t y = 0; y < 4; ++y) {
      for (int32_t x = 0; x < 4; ++x) {
        add(first_position() + ys.at[y] * side + xs.at[x], ys.weight[y] * xs.weight[x]);
      }
    }
  }

 private:
  [[nodiscard]] int32_t class_source() const { return static_cast<int32_t>(out_.patches); }
  [[nodiscard]] int32_t first_position() const {  // of the grid
    return class_source() + (tower_.class_token ? 2 : 0);
  }
  void add(int32_t source, float weight = 1.0F) {
    out_.sources.push_back(source);
    if (position_taps_ > 1) out_.weights.push_back(weight);
  }
  void position(int32_t source) {
    add(source);
    for (int32_t k = 1; k < position_taps_; ++k) add(-1);
  }

  const Tower& tower_;
  TowerRows& out_;
  const PositionTable* table_ = nullptr;
  int32_t position_taps_ = 0;
};

}  // namespace

TowerRows lay_rows(const Tower& tower, std::span<const PatchGrid> tiles) {
  TowerRows out;
  for (const PatchGrid& grid : tiles) {
    if (tower.window > 0) order_windows(tower, grid, static_cast<int32_t>(out.patches), out);
    out.patches += grid.patches();
  }
  Placer placer(tower, out);
  placer.choose_taps(tiles);
  int32_t first = 0, row = 0;
  for (const PatchGrid& grid : tiles) {
    const auto count = static_cast<int32_t>(grid.patches());
    const int32_t frame = grid.rows * grid.columns;
    if (tower.class_token) {
      placer.class_row();
      out.rope.insert(out.rope.end(), {0, 0, 0});
      if (tower.keep_class) out.kept.push_back(row);
      ++row;
    }
    for (int32_t i = 0; i < count; ++i, ++row) {
      const size_t at = static_cast<size_t>(first + i);
      const int32_t patch = out.patch_order.empty() ? i : out.patch_order[at] - first;
      const Spot spot = spot_of(grid, tower.merge, patch % frame);
      placer.patch(first + i, grid, spot);
      out.rope.insert(out.rope.end(), {patch / frame, spot.row, spot.column});
      out.kept.push_back(row);
      const bool frame_ends = tower.class_token ? i + 1 == count : (i + 1) % frame == 0;
      if (frame_ends) out.ends.push_back(row + 1);
    }
    first += count;
  }
  out.rows = row;
  return out;
}

}  // namespace troupe::vision
