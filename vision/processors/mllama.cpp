// Mllama (Llama-3.2-Vision): the picture inside a canvas of up to four tiles, black where it ends.
// The tower is told the canvas by its number; one token stands for the picture, whose rows (a class
// row and the patches of each tile) are seen by cross-attention.
#include <algorithm>
#include <cmath>

#include "vision/processors/processors.hpp"
#include "vision/processors/recipe.hpp"
#include "vision/processors/settings.hpp"

namespace troupe::vision {
namespace {

// Canvases in the order of their numbers: rows outer, columns inner.
std::vector<Size> canvases_of(int32_t tiles_most) {
  std::vector<Size> out;
  for (int32_t rows = 1; rows <= tiles_most; ++rows) {
    for (int32_t columns = 1; rows * columns <= tiles_most; ++columns)
      out.push_back({columns, rows});
  }
  return out;
}

class MllamaProcessor final : public PlanningProcessor {
 public:
  MllamaProcessor(const Drawing& drawing, int32_t tile, int32_t tiles_most, std::string token,
                  uint64_t hash)
      : PlanningProcessor(drawing, hash),
        tile_(tile),
        tiles_most_(tiles_most),
        canvases_(canvases_of(tiles_most)),
        token_(std::move(token)) {}

  [[nodiscard]] Result<Tile> prepare(const Image& image, const PictureLayout& layout,
                                     int32_t tile) const override {
    if (tile != 0) return internal_error("a picture of Mllama's is one job, whatever its tiles");
    TR_ASSIGN(Tile out, PlanningProcessor::prepare(image, layout, 0));
    const int32_t tiles = layout.tile_rows * layout.tile_columns;
    out.grid.frames = tiles;
    for (int32_t i = 1; i < tiles; ++i) {
      TR_ASSIGN(const Tile next, PlanningProcessor::prepare(image, layout, i));
      out.patches.insert(out.patches.end(), next.patches.begin(), next.patches.end());
    }
    out.aspect = static_cast<int32_t>(best_canvas({image.width, image.height})) + 1;
    return out;
  }

 protected:
  [[nodiscard]] Result<Plan> plan(Size picture) const override {
    const Size grid = canvases_[best_canvas(picture)];
    const Size size = fitted(picture, {grid.width * tile_, grid.height * tile_});
    Plan plan;
    plan.layout.tile_rows = grid.height;
    plan.layout.tile_columns = grid.width;
    for (int32_t row = 0; row < grid.height; ++row) {
      for (int32_t column = 0; column < grid.width; ++column) {
        plan.tiles.push_back(
            padded_cell(picture, size, {tile_, tile_}, {column * tile_, row * tile_}));
      }
    }
    const int32_t side = tile_ / drawing().patch.side;
    // The tower sees all tiles side by side: one job, a frame of its grid for each.
    plan.layout.tiles = {{static_cast<int32_t>(plan.tiles.size()), side, side}};
    plan.layout.shown = (side * side + 1) * static_cast<int32_t>(plan.tiles.size());
    plan.layout.rows = (side * side + 1) * tiles_most_;
    plan.layout.prompt = token_;
    return plan;
  }

 private:
  // The least enlargement; when all shrink, the least of that; of equals the smallest canvas.
  [[nodiscard]] size_t best_canvas(Size picture) const {
    size_t best = 0;
    double best_scale = 0;
    for (size_t i = 0; i < canvases_.size(); ++i) {
      const Size& c = canvases_[i];
      const double down = static_cast<double>(c.height * tile_) / picture.height;
      const double across = static_cast<double>(c.width * tile_) / picture.width;
      const double scale = across > down ? down : across;
      const bool fits = scale >= 1, best_fits = best_scale >= 1;
      const bool smaller = c.width * c.height < canvases_[best].width * canvases_[best].height;
      const bool better = fits != best_fits ? fits : fits ? scale < best_scale : scale > best_scale;
      if (i == 0 || better || (scale == best_scale && smaller)) {
        best = i;
        best_scale = scale;
      }
    }
    return best;
  }

  [[nodiscard]] Size fitted(Size picture, Size canvas) const {
    const int32_t width = std::clamp(picture.width, tile_, canvas.width);
    const int32_t height = std::clamp(picture.height, tile_, canvas.height);
    const double down = static_cast<double>(height) / picture.height;
    const double across = static_cast<double>(width) / picture.width;
    const auto cut = [](double length, int32_t most) {
      return std::min(std::max(static_cast<int32_t>(std::floor(length)), 1), most);
    };
    if (across < down) return {width, cut(picture.height * across, height)};
    return {cut(picture.width * down, width), height};
  }

  int32_t tile_, tiles_most_;
  std::vector<Size> canvases_;
  std::string token_;
};

}  // namespace

Result<OpenedProcessor> open_mllama(const ProcessorFiles& files) {
  const models::Fields& image = files.image;
  Drawing drawing;
  drawing.filter = read_filter(image, Filter::bilinear);
  drawing.normalise = read_normalise(image, kHalfDefaults);
  drawing.patch.side = files.model.object("vision_config").count("patch_size", 1024, 14);
  require_switch(image, "do_resize", true, true);
  require_switch(image, "do_pad", true, true);
  const Sizes size = read_sizes(image, "size");
  const int32_t tile = size.height.value_or(224);
  if (size.width.value_or(tile) != tile || tile % drawing.patch.side != 0 || tile > kSideMax) {
    image.fail("size", "must be a square of whole patches of " +
                           std::to_string(drawing.patch.side) + " pixels");
  }
  const int32_t most = image.count("max_image_tiles", 64, 4);
  const std::string token = files.token("image_token", "<|image|>");
  return OpenedProcessor{std::make_unique<MllamaProcessor>(drawing, tile, most, token, files.hash),
                         token, token};
}

}  // namespace troupe::vision
