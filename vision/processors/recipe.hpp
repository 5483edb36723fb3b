// How a tile comes from a picture, as data: families say what they want, draw() does it.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vision/image.hpp"
#include "vision/patchify.hpp"
#include "vision/processor.hpp"
#include "vision/resample.hpp"

namespace troupe::vision {

using Colour = std::array<uint8_t, 3>;

// A part of the picture, resized (several times, where the reference does), seen through a window
// and laid on a canvas. Only what the window shows is computed, with the values of the whole.
struct Recipe {
  std::optional<Colour> square;  // first padded to a square with this colour
  Region part;  // of the picture (or the square)
  std::vector<Size> sizes;  // the part is resized to each in turn
  Region window;  // of the last of them (of the part, when there is none)
  Size canvas;  // the tile in pixels
  int32_t left = 0, top = 0;  // where on the canvas the window lies; the rest is black
};

// The whole picture resized to a canvas of that size.
Recipe stretched(Size picture, Size canvas);
// Cell (row, column) of the picture resized to a grid of cells.
Recipe cell_of(Size picture, std::vector<Size> sizes, Size cell, int32_t row, int32_t column);

// A cell whose corner is at (x, y) of the picture resized to `size`; cells may begin before it and
// end behind it, or lie beside it altogether, and are black there.
struct Corner {
  int32_t x = 0, y = 0;
};
Recipe padded_cell(Size picture, Size size, Size cell, Corner corner);

struct Drawing {
  Filter filter = Filter::bicubic;
  Normalise normalise;
  PatchShape patch;
};

void draw(const Image& image, const Recipe& recipe, Filter filter, const RowSink& sink);
// A tile of whole patches: the canvas is a multiple of them.
Tile draw_tile(const Image& image, const Recipe& recipe, const Drawing& drawing);
// A tile whose patches cover several frames: one picture each.
Tile draw_frames(std::span<const Image* const> frames, const Recipe& recipe,
                 const Drawing& drawing);

// What a family decides from the size of a picture.
struct Plan {
  PictureLayout layout;
  std::vector<Recipe> tiles;
};

// A processor that plans; drawing is the same for all.
class PlanningProcessor : public Processor {
 public:
  PlanningProcessor(const Drawing& drawing, uint64_t hash) : drawing_(drawing), hash_(hash) {}
  [[nodiscard]] uint64_t hash() const final { return hash_; }
  [[nodiscard]] Result<PictureLayout> layout(int32_t width, int32_t height) const final;
  [[nodiscard]] Result<Tile> prepare(const Image& image, const PictureLayout& layout,
                                     int32_t tile) const override;

 protected:
  // The size has at least one pixel each way. `layout` comes with the size set; tiles' grids and
  // rope grids are filled in from the recipes where the family leaves them empty.
  [[nodiscard]] virtual Result<Plan> plan(Size picture) const = 0;
  [[nodiscard]] Result<Plan> checked_plan(int32_t width, int32_t height) const;
  [[nodiscard]] const Drawing& drawing() const { return drawing_; }

 private:
  Drawing drawing_;
  uint64_t hash_;
};

// `text` so many times.
std::string repeated(std::string_view text, int64_t count);

}  // namespace troupe::vision
