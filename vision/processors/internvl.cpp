// InternVL: as transformers has it (model_type internvl) and as the original checkpoints have it
// (internvl_chat). Both cut the same tiles; their settings stand in different files.
#include <algorithm>
#include <cmath>
#include <limits>

#include "vision/processors/dynamic_tiles.hpp"
#include "vision/processors/processors.hpp"
#include "vision/processors/settings.hpp"

namespace troupe::vision {
namespace {

class InternVlProcessor final : public PlanningProcessor {
 public:
  struct Tokens {
    std::string start, image, end;
  };
  InternVlProcessor(const Drawing& drawing, const DynamicTiles& tiles, Tokens tokens,
                    int32_t rows_of_tile, uint64_t hash)
      : PlanningProcessor(drawing, hash),
        tiles_(tiles),
        tokens_(std::move(tokens)),
        rows_of_tile_(rows_of_tile) {}

 protected:
  [[nodiscard]] Result<Plan> plan(Size picture) const override {
    Plan plan = dynamic_tiles(tiles_, picture);
    plan.layout.rows = rows_of_tile_ * static_cast<int32_t>(plan.tiles.size());
    plan.layout.prompt = tokens_.start + repeated(tokens_.image, plan.layout.rows) + tokens_.end;
    return plan;
  }

 private:
  DynamicTiles tiles_;
  Tokens tokens_;
  int32_t rows_of_tile_;
};

InternVlProcessor::Tokens read_tokens(const ProcessorFiles& files) {
  return {files.token("start_image_token", "<img>"),
          files.token("context_image_token", "<IMG_CONTEXT>"),
          files.token("end_image_token", "</img>")};
}

// Rows of a tile: its patches, `ratio` of them kept each way.
int32_t rows_of(const models::Fields& file, std::string_view key, Size tile, int32_t side,
                double ratio) {
  if (tile.width % side != 0 || tile.height % side != 0) {
    file.fail(key, "is " + std::to_string(tile.width) + "x" + std::to_string(tile.height) +
                       ", no multiple of patches of " + std::to_string(side));
    return 0;
  }
  const int64_t columns = std::lround(tile.width / side * ratio);
  const int64_t rows = std::lround(tile.height / side * ratio);
  return checked_rows(file, key, columns * rows);
}

// A number or [height, width], which must agree.
int32_t square_of(const models::Fields& fields, std::string_view key, int32_t otherwise) {
  const auto values = fields.integers(key, 1, kSideMax);
  if (values.empty()) return otherwise;
  for (const int64_t v : values) {
    if (v != values.front()) fields.fail(key, "must be square");
  }
  return static_cast<int32_t>(values.front());
}

void read_counts(const models::Fields& fields, std::string_view low, std::string_view high,
                 DynamicTiles& tiles) {
  constexpr int32_t kTilesMax = 1024;
  tiles.fewest = fields.count(low, kTilesMax, 1);
  tiles.most = fields.count(high, kTilesMax, 12);
  if (tiles.fewest > tiles.most) {
    fields.fail(low, "is more than " + std::string(high));
    tiles.most = tiles.fewest;
  }
}

}  // namespace

Size best_grid(const DynamicTiles& settings, Size picture) {
  const double aspect = static_cast<double>(picture.width) / picture.height;
  const double area = static_cast<double>(picture.width) * picture.height;
  const double tile_area = static_cast<double>(settings.tile.width) * settings.tile.height;
  std::vector<Size> grids;
  for (int32_t columns = 1; columns <= settings.most; ++columns) {
    for (int32_t rows = 1; rows * columns <= settings.most; ++rows) {
      if (rows * columns >= settings.fewest) grids.push_back({columns, rows});
    }
  }
  std::stable_sort(grids.begin(), grids.end(),
                   [](Size a, Size b) { return a.width * a.height < b.width * b.height; });
  Size best{1, 1};
  double least = std::numeric_limits<double>::infinity();
  for (const Size& grid : grids) {
    const double difference = std::abs(aspect - static_cast<double>(grid.width) / grid.height);
    // Of equals the larger, while the picture fills at least half of it.
    if (difference < least ||
        (difference == least && area > 0.5 * tile_area * grid.width * grid.height)) {
      least = difference;
      best = grid;
    }
  }
  return best;
}

Plan dynamic_tiles(const DynamicTiles& settings, Size picture) {
  const Size grid = best_grid(settings, picture);
  const Size whole{grid.width * settings.tile.width, grid.height * settings.tile.height};
  Plan plan;
  plan.layout.tile_rows = grid.height;
  plan.layout.tile_columns = grid.width;
  for (int32_t row = 0; row < grid.height; ++row) {
    for (int32_t column = 0; column < grid.width; ++column) {
      plan.tiles.push_back(cell_of(picture, {whole}, settings.tile, row, column));
    }
  }
  if (settings.thumbnail && plan.tiles.size() > 1) {
    plan.layout.overview = static_cast<int32_t>(plan.tiles.size());
    plan.tiles.push_back(stretched(picture, settings.tile));
  }
  return plan;
}

Result<OpenedProcessor> open_internvl(const ProcessorFiles& files) {
  const models::Fields& image = files.image;
  const models::Fields vision = files.model.object("vision_config");
  Drawing drawing;
  drawing.filter = read_filter(image, Filter::bicubic);
  drawing.normalise = read_normalise(image, kClipDefaults);
  drawing.patch.side = square_of(vision, "patch_size", 14);
  DynamicTiles tiles;
  const Sizes size = read_sizes(image, "size");
  tiles.tile = {size.width.value_or(384), size.height.value_or(384)};
  read_counts(image, "min_patches", "max_patches", tiles);
  require_switch(image, "do_resize", true, true);
  const double ratio = files.model.real("downsample_ratio", 0.01, 1.0, 0.5);
  const int32_t rows = rows_of(image, "size", tiles.tile, drawing.patch.side, ratio);
  const int64_t said = files.processor.integer("image_seq_length", 1, 1 << 20, rows);
  if (said != rows) {
    files.processor.fail("image_seq_length", "is " + std::to_string(said) + ", but tiles of " +
                                                 std::to_string(tiles.tile.width) +
                                                 " pixels give " + std::to_string(rows) + " rows");
  }
  auto tokens = read_tokens(files);
  const std::string token = tokens.image;
  return OpenedProcessor{
      std::make_unique<InternVlProcessor>(drawing, tiles, std::move(tokens), rows, files.hash),
      token, token};
}

Result<OpenedProcessor> open_internvl_chat(const ProcessorFiles& files) {
  const models::Fields& model = files.model;
  const models::Fields vision = model.object("vision_config");
  Drawing drawing;
  // The checkpoint's own code normalises by these, whatever preprocessor_config.json says.
  drawing.normalise = read_normalise(*models::Fields::parse("{}", "defaults"), kImageNetDefaults);
  drawing.patch.side = vision.count("patch_size", 1024, 14);
  const int32_t side =
      model.count("force_image_size", kSideMax, vision.count("image_size", kSideMax, 448));
  DynamicTiles tiles;
  tiles.tile = {side, side};
  if (model.boolean("dynamic_image_size", true)) {
    read_counts(model, "min_dynamic_patch", "max_dynamic_patch", tiles);
  } else {
    tiles.most = 1;
  }
  tiles.thumbnail = model.boolean("use_thumbnail", true);
  const double ratio = model.real("downsample_ratio", 0.01, 1.0, 0.5);
  const int32_t rows = rows_of(model, "force_image_size", tiles.tile, drawing.patch.side, ratio);
  auto tokens = read_tokens(files);
  const std::string token = tokens.image;
  return OpenedProcessor{
      std::make_unique<InternVlProcessor>(drawing, tiles, std::move(tokens), rows, files.hash),
      "<image>", token};
}

}  // namespace troupe::vision
