// MiniCPM-V 2.6: the picture at about the tower's own size, and where it has more pixels, slices of
// a grid that fits its proportions. Sizes are any multiple of patches. (transformers has no
// processor for it: the checkpoint's own published code is the reference,
// tests/golden/vision_cases.py.)
#include <algorithm>
#include <cmath>
#include <limits>

#include "vision/processors/processors.hpp"
#include "vision/processors/recipe.hpp"
#include "vision/processors/settings.hpp"

namespace troupe::vision {
namespace {

// Python's round, then at least one.
int32_t nearest_multiple(double length, int32_t of) {
  return std::max(static_cast<int32_t>(std::nearbyint(length / of)) * of, of);
}

struct Settings {
  int32_t slices_most = 9;
  int32_t side = 448;  // of a square as large as the tower likes
  bool slices = true;
  bool numbered = true;
  int32_t rows = 64;  // of a tile, whatever its size
  std::string unknown = "<unk>", begin = "<image>", end = "</image>";
  std::string slice_begin = "<slice>", slice_end = "</slice>";
  std::string number_begin = "<image_id>", number_end = "</image_id>";
};

class MiniCpmVProcessor final : public PlanningProcessor {
 public:
  MiniCpmVProcessor(const Drawing& drawing, Settings settings, uint64_t hash)
      : PlanningProcessor(drawing, hash), s_(std::move(settings)) {}

 protected:
  [[nodiscard]] Result<Plan> plan(Size picture) const override {
    const Size grid = grid_of(picture);
    const bool sliced = grid.width > 0;
    Plan plan;
    plan.tiles.push_back(stretched(picture, fitted(picture.width, picture.height, !sliced)));
    if (sliced) {
      plan.layout.overview = 0;
      plan.layout.tile_rows = grid.height;
      plan.layout.tile_columns = grid.width;
      const double width = nearest_multiple(picture.width, grid.width);
      const double height = nearest_multiple(picture.height, grid.height);
      const Size cell = fitted(width / grid.width, height / grid.height, true);
      const Size whole{cell.width * grid.width, cell.height * grid.height};
      for (int32_t row = 0; row < grid.height; ++row) {
        for (int32_t column = 0; column < grid.width; ++column) {
          plan.tiles.push_back(cell_of(picture, {whole}, cell, row, column));
        }
      }
    }
    for (const Recipe& recipe : plan.tiles) {
      if (recipe.canvas.width <= kSideMax && recipe.canvas.height <= kSideMax) continue;
      return invalid("a picture of " + std::to_string(picture.width) + "x" +
                     std::to_string(picture.height) + " pixels is too narrow; crop it");
    }
    plan.layout.rows = s_.rows * static_cast<int32_t>(plan.tiles.size());
    write_prompt(grid, plan.layout);
    return plan;
  }

 private:
  // A size with the picture's proportions; small pictures stay small unless they may grow.
  [[nodiscard]] Size fitted(double width, double height, bool may_grow) const {
    if (width * height > static_cast<double>(s_.side) * s_.side || may_grow) {
      const double aspect = width / height;
      height = std::trunc(s_.side / std::sqrt(aspect));
      width = std::trunc(height * aspect);
    }
    const int32_t patch = drawing().patch.side;
    return {nearest_multiple(width, patch), nearest_multiple(height, patch)};
  }

  // Columns and rows of slices; none when one tile is enough.
  [[nodiscard]] Size grid_of(Size picture) const {
    const double wanted = std::log(static_cast<double>(picture.width) / picture.height);
    const double squares = static_cast<double>(picture.width) * picture.height /
                           (static_cast<double>(s_.side) * s_.side);
    const auto multiple =
        static_cast<int32_t>(std::min(std::ceil(squares), static_cast<double>(s_.slices_most)));
    if (multiple <= 1 || !s_.slices) return {};
    Size best{1, 1};
    double least = std::numeric_limits<double>::infinity();
    for (int32_t count = multiple - 1; count <= multiple + 1; ++count) {
      if (count == 1 || count > s_.slices_most) continue;
      for (int32_t columns = 1; columns <= count; ++columns) {
        if (count % columns != 0) continue;
        const int32_t rows = count / columns;
        const double error = std::abs(wanted - std::log(static_cast<double>(columns) / rows));
        if (error < least) {
          least = error;
          best = {columns, rows};
        }
      }
    }
    return best;
  }

  void write_prompt(Size grid, PictureLayout& layout) const {
    const std::string cells = repeated(s_.unknown, s_.rows);
    std::string& prompt = layout.prompt;
    if (s_.numbered) {
      prompt = s_.number_begin;
      layout.number_at = static_cast<int32_t>(prompt.size());
      prompt += s_.number_end;
    }
    prompt += s_.begin + cells + s_.end;
    for (int32_t row = 0; row < grid.height; ++row) {
      if (row > 0) prompt += "\n";
      for (int32_t column = 0; column < grid.width; ++column) {
        prompt += s_.slice_begin + cells + s_.slice_end;
      }
    }
  }

  Settings s_;
};

}  // namespace

Result<OpenedProcessor> open_minicpmv(const ProcessorFiles& files) {
  const models::Fields& image = files.image;
  const models::Fields& model = files.model;
  Drawing drawing;
  Defaults defaults = kHalfDefaults;
  // This checkpoint's names for mean and deviation are its own.
  const auto triple = [&image](std::string_view key, std::array<double, 3>& to) {
    const auto values = image.reals(key, -1e6, 1e6);
    if (values.size() == 3) std::copy(values.begin(), values.end(), to.begin());
  };
  triple("norm_mean", defaults.mean);
  triple("norm_std", defaults.std);
  drawing.normalise = read_normalise(image, defaults);
  drawing.patch.side = image.count("patch_size", 1024, 14);
  Settings s;
  s.slices_most = image.count("max_slice_nums", 1024, s.slices_most);
  s.side = image.count("scale_resolution", kSideMax, s.side);
  s.slices = image.boolean("slice_mode", model.boolean("slice_mode", true));
  s.numbered = image.boolean("use_image_id", model.boolean("use_image_id", true));
  s.rows = image.count("image_feature_size", 1 << 20, model.count("query_num", 1 << 20, s.rows));
  s.unknown = image.text("unk_token", files.token("unk_token", s.unknown));
  s.begin = image.text("im_start_token", image.text("im_start", s.begin));
  s.end = image.text("im_end_token", image.text("im_end", s.end));
  s.slice_begin = image.text("slice_start_token", image.text("slice_start", s.slice_begin));
  s.slice_end = image.text("slice_end_token", image.text("slice_end", s.slice_end));
  s.number_begin = image.text("im_id_start", s.number_begin);
  s.number_end = image.text("im_id_end", s.number_end);
  const std::string token = s.unknown;
  return OpenedProcessor{std::make_unique<MiniCpmVProcessor>(drawing, std::move(s), files.hash),
                         "(<image>./</image>)", token};
}

}  // namespace troupe::vision
