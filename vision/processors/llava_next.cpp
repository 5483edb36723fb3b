// LLaVA-NeXT (anyres): the picture small as a whole, then cut into tiles of the resolution among
// those of the checkpoint that fits it best. Rows of padding are dropped, each row of features ends
// in a newline.
#include <algorithm>
#include <cmath>
#include <limits>

#include "vision/processors/clip.hpp"
#include "vision/processors/processors.hpp"

namespace troupe::vision {
namespace {

// The resolution that keeps the most of the picture, and of those the smallest.
Size best_resolution(Size picture, const std::vector<Size>& choices) {
  Size best;
  int64_t most = 0;
  int64_t least_wasted = std::numeric_limits<int64_t>::max();
  for (const Size& choice : choices) {
    const double scale = std::min(static_cast<double>(choice.width) / picture.width,
                                  static_cast<double>(choice.height) / picture.height);
    const int64_t shown = int64_t{static_cast<int32_t>(picture.width * scale)} *
                          static_cast<int32_t>(picture.height * scale);
    const int64_t kept = std::min(shown, int64_t{picture.width} * picture.height);
    const int64_t wasted = int64_t{choice.width} * choice.height - kept;
    if (kept > most || (kept == most && wasted < least_wasted)) {
      most = kept;
      least_wasted = wasted;
      best = choice;
    }
  }
  return best;
}

// The picture inside that resolution, its proportions kept.
Size fitted(Size picture, Size into) {
  const double across = static_cast<double>(into.width) / picture.width;
  const double down = static_cast<double>(into.height) / picture.height;
  if (across < down) {
    return {into.width,
            std::min(static_cast<int32_t>(std::ceil(picture.height * across)), into.height)};
  }
  return {std::min(static_cast<int32_t>(std::ceil(picture.width * down)), into.width), into.height};
}

// Python's int(round(x, 7)).
int32_t whole(double x) {
  const double below = std::floor(x);
  return static_cast<int32_t>(x - below >= 1.0 - 5e-8 ? below + 1 : below);
}

// Features of the tiles' grid that show the picture and not its padding.
Size unpadded(Size picture, Size features) {
  const double wanted = static_cast<double>(picture.width) / picture.height;
  const double given = static_cast<double>(features.width) / features.height;
  if (wanted > given) {
    const int32_t height =
        whole(picture.height * (static_cast<double>(features.width) / picture.width));
    return {features.width, features.height - (features.height - height) / 2 * 2};
  }
  const int32_t width =
      whole(picture.width * (static_cast<double>(features.height) / picture.height));
  return {features.width - (features.width - width) / 2 * 2, features.height};
}

class LlavaNextProcessor final : public PlanningProcessor {
 public:
  LlavaNextProcessor(const ClipSettings& settings, std::vector<Size> choices, uint64_t hash)
      : PlanningProcessor(settings.drawing, hash),
        settings_(settings),
        choices_(std::move(choices)) {}

 protected:
  [[nodiscard]] Result<Plan> plan(Size picture) const override {
    const Size tile = settings_.crop;
    const Size best = best_resolution(picture, choices_);
    if (best.width == 0) {
      return invalid("a picture of " + std::to_string(picture.width) + "x" +
                     std::to_string(picture.height) +
                     " pixels is too narrow for any of image_grid_pinpoints; crop or resize it");
    }
    const Size size = fitted(picture, best);
    const Size offset{(best.width - size.width) / 2, (best.height - size.height) / 2};
    Plan plan;
    plan.tiles.push_back(stretched(picture, tile));
    plan.layout.overview = 0;
    plan.layout.tile_rows = best.height / tile.height;
    plan.layout.tile_columns = best.width / tile.width;
    for (int32_t y = 0; y < best.height; y += tile.height) {
      for (int32_t x = 0; x < best.width; x += tile.width) {
        plan.tiles.push_back(
            padded_cell(picture, size, tile, {x - offset.width, y - offset.height}));
      }
    }
    const int32_t side = settings_.drawing.patch.side;
    const Size features = unpadded(picture, {plan.layout.tile_columns * (tile.width / side),
                                             plan.layout.tile_rows * (tile.height / side)});
    plan.layout.rows = settings_.rows + (features.width + 1) * features.height;
    plan.layout.prompt = repeated(settings_.image_token, plan.layout.rows);
    return plan;
  }

 private:
  ClipSettings settings_;
  std::vector<Size> choices_;
};

std::vector<Size> read_pinpoints(const ProcessorFiles& files, Size tile) {
  const models::Fields& from = files.image.has("image_grid_pinpoints") ? files.image : files.model;
  auto rows = from.integer_rows("image_grid_pinpoints", 1, kSideMax);
  if (rows.empty()) rows = {{336, 672}, {672, 336}, {672, 672}, {1008, 336}, {336, 1008}};
  std::vector<Size> out;
  for (const auto& row : rows) {
    const bool fits = row.size() == 2 && row[0] % tile.height == 0 && row[1] % tile.width == 0;
    if (!fits || out.size() == 1024) {
      from.fail("image_grid_pinpoints",
                "must be at most 1024 pairs of height and width, multiples of the tile of " +
                    std::to_string(tile.width) + "x" + std::to_string(tile.height));
      break;
    }
    out.push_back({static_cast<int32_t>(row[1]), static_cast<int32_t>(row[0])});
  }
  return out;
}

}  // namespace

Result<OpenedProcessor> open_llava_next(const ProcessorFiles& files) {
  const ClipSettings settings = read_clip(files);
  require_switch(files.image, "do_resize", true, true);
  require_switch(files.image, "do_center_crop", true, true);
  const bool same = settings.size.shortest
                        ? settings.crop == Size{*settings.size.shortest, *settings.size.shortest}
                        : settings.crop == Size{*settings.size.width, *settings.size.height};
  if (!same) files.image.fail("size", "and crop_size differ; LLaVA-NeXT's tiles have one size");
  auto choices = read_pinpoints(files, settings.crop);
  const std::string token = settings.image_token;
  return OpenedProcessor{
      std::make_unique<LlavaNextProcessor>(settings, std::move(choices), files.hash), token, token};
}

}  // namespace troupe::vision
