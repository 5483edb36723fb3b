#include "vision/processors/recipe.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/assert.hpp"

namespace troupe::vision {
namespace {

// What LLaVA's pad_to_square does: the picture in the middle of a square of one colour.
Image squared(const Image& image, Colour colour) {
  const int32_t side = std::max(image.width, image.height);
  Image out{side, side, {}};
  out.rgb.resize(size_t{3} * static_cast<size_t>(side) * static_cast<size_t>(side));
  for (size_t i = 0; i < out.rgb.size(); ++i) out.rgb[i] = colour[i % 3];
  const size_t row_bytes = size_t{3} * static_cast<size_t>(image.width);
  const int32_t left = (side - image.width) / 2, top = (side - image.height) / 2;
  for (int32_t y = 0; y < image.height; ++y) {
    std::memcpy(out.rgb.data() + 3 * (int64_t{top + y} * side + left),
                image.rgb.data() + static_cast<size_t>(y) * row_bytes, row_bytes);
  }
  return out;
}

}  // namespace

Recipe stretched(Size picture, Size canvas) {
  return {.square = {},
          .part = {0, 0, picture.width, picture.height},
          .sizes = {canvas},
          .window = {0, 0, canvas.width, canvas.height},
          .canvas = canvas};
}

Recipe cell_of(Size picture, std::vector<Size> sizes, Size cell, int32_t row, int32_t column) {
  return {.square = {},
          .part = {0, 0, picture.width, picture.height},
          .sizes = std::move(sizes),
          .window = {column * cell.width, row * cell.height, cell.width, cell.height},
          .canvas = cell};
}

Recipe padded_cell(Size picture, Size size, Size cell, Corner corner) {
  Recipe out = stretched(picture, size);
  const int32_t x = std::max(corner.x, 0), y = std::max(corner.y, 0);
  const int32_t width = std::min(corner.x + cell.width, size.width) - x;
  const int32_t height = std::min(corner.y + cell.height, size.height) - y;
  out.canvas = cell;
  out.window = {};
  if (width <= 0 || height <= 0) return out;
  out.window = {x, y, width, height};
  out.left = x - corner.x;
  out.top = y - corner.y;
  return out;
}

void draw(const Image& image, const Recipe& recipe, Filter filter, const RowSink& sink) {
  Image square;
  if (recipe.square) square = squared(image, *recipe.square);
  PixelView view = part_of(recipe.square ? square : image, recipe.part);

  // From the last resize back to the first: what each must compute for the one behind it.
  std::vector<Resize> resizes;
  Region wanted = recipe.window;
  for (size_t i = recipe.sizes.size(); i-- > 0;) {
    const Size from = i > 0 ? recipe.sizes[i - 1] : Size{recipe.part.width, recipe.part.height};
    Resize resize = whole_resize(from, recipe.sizes[i], filter);
    resize.region = wanted;
    wanted = needed_source(resize);
    resizes.push_back(resize);
  }
  if (resizes.empty()) {
    resizes.push_back(whole_resize({recipe.part.width, recipe.part.height},
                                   {recipe.part.width, recipe.part.height}, filter));
    resizes.back().region = recipe.window;
  }
  Image between;
  for (size_t i = resizes.size(); i-- > 1;) {
    Image next = resample(view, resizes[i]);
    between = std::move(next);
    view = view_of(between);
    view.region = resizes[i].region;
  }
  const Resize& last = resizes.front();
  if (recipe.canvas == Size{recipe.window.width, recipe.window.height}) {
    return resample(view, last, sink);
  }
  Buffer<uint8_t> row(size_t{3} * static_cast<size_t>(recipe.canvas.width));
  std::fill(row.begin(), row.end(), uint8_t{0});
  for (int32_t y = 0; y < recipe.top; ++y) sink(y, row.data());
  resample(view, last, [&](int32_t y, const uint8_t* rgb) {
    std::memcpy(row.data() + int64_t{3} * recipe.left, rgb,
                size_t{3} * static_cast<size_t>(recipe.window.width));
    sink(recipe.top + y, row.data());
  });
  std::fill(row.begin(), row.end(), uint8_t{0});
  for (int32_t y = recipe.top + recipe.window.height; y < recipe.canvas.height; ++y) {
    sink(y, row.data());
  }
}

Tile draw_tile(const Image& image, const Recipe& recipe, const Drawing& drawing) {
  const int32_t side = drawing.patch.side;
  TR_ASSERT(recipe.canvas.width % side == 0 && recipe.canvas.height % side == 0);
  Tile tile;
  tile.grid = {1, recipe.canvas.height / side, recipe.canvas.width / side};
  PatchWriter writer(drawing.patch, drawing.normalise, tile);
  draw(image, recipe, drawing.filter,
       [&writer](int32_t y, const uint8_t* rgb) { writer.row(y, rgb); });
  return tile;
}

Tile draw_frames(std::span<const Image* const> frames, const Recipe& recipe,
                 const Drawing& drawing) {
  const int32_t side = drawing.patch.side;
  TR_ASSERT(static_cast<int32_t>(frames.size()) == drawing.patch.frames);
  Tile tile;
  tile.grid = {1, recipe.canvas.height / side, recipe.canvas.width / side};
  PatchWriter writer(drawing.patch, drawing.normalise, tile);
  for (int32_t frame = 0; frame < drawing.patch.frames; ++frame) {
    draw(*frames[static_cast<size_t>(frame)], recipe, drawing.filter,
         [&](int32_t y, const uint8_t* rgb) { writer.row(y, rgb, frame); });
  }
  return tile;
}

Result<Plan> PlanningProcessor::checked_plan(int32_t width, int32_t height) const {
  if (width < 1 || height < 1) {
    return invalid("a picture of " + std::to_string(width) + "x" + std::to_string(height) +
                   " pixels has nothing to see; both sides must be at least 1");
  }
  TR_ASSIGN(Plan p, plan({width, height}));
  p.layout.width = width;
  p.layout.height = height;
  if (p.layout.tiles.empty()) {
    for (const Recipe& recipe : p.tiles) {
      p.layout.tiles.push_back({1, recipe.canvas.height / drawing_.patch.side,
                                recipe.canvas.width / drawing_.patch.side});
    }
  }
  return p;
}

Result<PictureLayout> PlanningProcessor::layout(int32_t width, int32_t height) const {
  TR_ASSIGN(Plan p, checked_plan(width, height));
  return std::move(p.layout);
}

Result<Tile> PlanningProcessor::prepare(const Image& image, const PictureLayout& layout,
                                        int32_t tile) const {
  if (image.width != layout.width || image.height != layout.height) {
    return internal_error("a picture of " + std::to_string(image.width) + "x" +
                          std::to_string(image.height) + " pixels was laid out as " +
                          std::to_string(layout.width) + "x" + std::to_string(layout.height));
  }
  TR_ASSIGN(const Plan p, checked_plan(image.width, image.height));
  const auto index = static_cast<size_t>(tile);
  if (index >= p.tiles.size()) {
    return internal_error("tile " + std::to_string(tile) + " of a picture that has " +
                          std::to_string(p.tiles.size()));
  }
  Tile out = draw_tile(image, p.tiles[index], drawing_);
  out.index = tile;
  return out;
}

std::string repeated(std::string_view text, int64_t count) {
  std::string out;
  out.reserve(text.size() * static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) out += text;
  return out;
}

}  // namespace troupe::vision
