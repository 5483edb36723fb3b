// Idefics3 and SmolVLM: the longest edge resized, then to whole tiles, cut into them, and the whole
// once more as one tile. The prompt names each tile by its row and column.
#include <algorithm>
#include <cmath>

#include "vision/processors/processors.hpp"
#include "vision/processors/recipe.hpp"
#include "vision/processors/settings.hpp"

namespace troupe::vision {
namespace {

constexpr int32_t kLongestEver = 4096;  // the reference's bound on a resized picture

// The reference's arithmetic, step by step: Python cuts where it converts to int.
Size to_longest_edge(Size picture, int32_t edge) {
  const double aspect = static_cast<double>(picture.width) / picture.height;
  Size out;
  if (picture.width >= picture.height) {
    out = {edge, static_cast<int32_t>(edge / aspect)};
    out.height += out.height % 2;
  } else {
    out = {static_cast<int32_t>(edge * aspect), edge};
    out.width += out.width % 2;
  }
  return {std::max(out.width, 1), std::max(out.height, 1)};
}

Size below_bound(Size picture) {
  const double aspect = static_cast<double>(picture.width) / picture.height;
  Size out = picture;
  if (picture.width >= picture.height && picture.width > kLongestEver) {
    out = {kLongestEver, static_cast<int32_t>(kLongestEver / aspect)};
  } else if (picture.height > picture.width && picture.height > kLongestEver) {
    out = {static_cast<int32_t>(kLongestEver * aspect), kLongestEver};
  }
  return {std::max(out.width, 1), std::max(out.height, 1)};
}

int32_t up_to_whole(int32_t length, int32_t tile) {
  return (length + tile - 1) / tile * tile;
}

Size to_whole_tiles(Size picture, int32_t tile) {
  const double aspect = static_cast<double>(picture.width) / picture.height;
  if (picture.width >= picture.height) {
    const int32_t width = up_to_whole(picture.width, tile);
    return {width, up_to_whole(static_cast<int32_t>(width / aspect), tile)};
  }
  const int32_t height = up_to_whole(picture.height, tile);
  return {up_to_whole(static_cast<int32_t>(height * aspect), tile), height};
}

struct Settings {
  int32_t longest = 4 * 364;  // of the resized picture
  int32_t tile = 364;
  bool splits = true;
  int32_t rows = 169;  // of a tile
  std::string around = "<fake_token_around_image>", whole = "<global-img>", image = "<image>";
};

class Idefics3Processor final : public PlanningProcessor {
 public:
  Idefics3Processor(const Drawing& drawing, Settings settings, uint64_t hash)
      : PlanningProcessor(drawing, hash), s_(std::move(settings)) {}

 protected:
  [[nodiscard]] Result<Plan> plan(Size picture) const override {
    const Size first = below_bound(to_longest_edge(picture, s_.longest));
    const Size tile{s_.tile, s_.tile};
    const Size second = s_.splits ? to_whole_tiles(first, s_.tile) : tile;
    const int32_t rows = second.height / s_.tile, columns = second.width / s_.tile;
    Plan plan;
    std::string& prompt = plan.layout.prompt;
    const std::string cells = repeated(s_.image, s_.rows);
    if (rows * columns <= 1) {
      plan.tiles.push_back(cell_of(picture, {first, second}, tile, 0, 0));
      prompt = s_.around + s_.whole + cells + s_.around;
    } else {
      plan.layout.tile_rows = rows;
      plan.layout.tile_columns = columns;
      for (int32_t row = 0; row < rows; ++row) {
        for (int32_t column = 0; column < columns; ++column) {
          plan.tiles.push_back(cell_of(picture, {first, second}, tile, row, column));
          prompt += s_.around + "<row_" + std::to_string(row + 1) + "_col_" +
                    std::to_string(column + 1) + ">" + cells;
        }
        prompt += "\n";
      }
      plan.layout.overview = static_cast<int32_t>(plan.tiles.size());
      plan.tiles.push_back(cell_of(picture, {first, second, tile}, tile, 0, 0));
      prompt += "\n" + s_.around + s_.whole + cells + s_.around;
    }
    plan.layout.rows = s_.rows * static_cast<int32_t>(plan.tiles.size());
    return plan;
  }

 private:
  Settings s_;
};

}  // namespace

Result<OpenedProcessor> open_idefics3(const ProcessorFiles& files) {
  const models::Fields& image = files.image;
  const models::Fields vision = files.model.object("vision_config");
  Drawing drawing;
  drawing.filter = read_filter(image, Filter::lanczos);
  drawing.normalise = read_normalise(image, kHalfDefaults);
  drawing.patch.side = vision.count("patch_size", 1024, 32);
  require_switch(image, "do_resize", true, true);
  Settings s;
  s.longest = read_sizes(image, "size").longest.value_or(s.longest);
  s.tile = read_sizes(image, "max_image_size").longest.value_or(s.tile);
  s.splits = image.boolean("do_image_splitting", true);
  if (s.longest > kSideMax || s.tile > kSideMax || s.tile % drawing.patch.side != 0) {
    image.fail("max_image_size", "must be at most " + std::to_string(kSideMax) +
                                     " and a multiple of patches of " +
                                     std::to_string(drawing.patch.side));
  }
  const int32_t scale = files.model.count("scale_factor", 64, 2);
  const int64_t side = s.tile / drawing.patch.side;
  const int64_t rows = std::max<int64_t>(1, side * side / (int64_t{scale} * scale));
  s.rows = files.processor.count("image_seq_len", kRowsMax, checked_rows(image, "max_image_size", rows));
  s.around = files.token("fake_image_token", s.around);
  s.whole = files.token("global_image_token", s.whole);
  s.image = files.token("image_token", s.image);
  const std::string token = s.image;
  return OpenedProcessor{std::make_unique<Idefics3Processor>(drawing, std::move(s), files.hash),
                         token, token};
}

}  // namespace troupe::vision
