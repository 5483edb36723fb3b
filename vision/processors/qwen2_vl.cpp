// Qwen2-VL and Qwen2.5-VL: any size, rounded to whole blocks of merged patches within a budget of
// pixels. A patch covers two frames; a still picture is shown in both.
#include <algorithm>
#include <cmath>

#include "vision/processors/processors.hpp"
#include "vision/processors/recipe.hpp"
#include "vision/processors/settings.hpp"

namespace troupe::vision {
namespace {

struct PixelBudget {
  int64_t fewest = 56 * 56, most = 28 * 28 * 1280;
};

// The reference's smart_resize, with Python's round (halves to even).
Result<Size> smart_resize(Size picture, int32_t factor, const PixelBudget& budget) {
  const double height = picture.height, width = picture.width;
  const double longer = std::max(height, width), shorter = std::min(height, width);
  if (longer / shorter > 200) {
    return invalid("a picture of " + std::to_string(picture.width) + "x" +
                   std::to_string(picture.height) +
                   " pixels is more than 200 times as long as it is wide; crop it");
  }
  int64_t rows = static_cast<int64_t>(std::nearbyint(height / factor)) * factor;
  int64_t columns = static_cast<int64_t>(std::nearbyint(width / factor)) * factor;
  if (rows * columns > budget.most) {
    const double beta = std::sqrt((height * width) / static_cast<double>(budget.most));
    const auto cut = [&](double side) {
      return std::max<int64_t>(factor,
                               static_cast<int64_t>(std::floor(side / beta / factor)) * factor);
    };
    rows = cut(height);
    columns = cut(width);
  } else if (rows * columns < budget.fewest) {
    const double beta = std::sqrt(static_cast<double>(budget.fewest) / (height * width));
    rows = static_cast<int64_t>(std::ceil(height * beta / factor)) * factor;
    columns = static_cast<int64_t>(std::ceil(width * beta / factor)) * factor;
  }
  if (rows > kSideMax * 16 || columns > kSideMax * 16) {
    return limit_exceeded("a picture would be resized to " + std::to_string(columns) + "x" +
                          std::to_string(rows) + " pixels; lower max_pixels");
  }
  return Size{static_cast<int32_t>(columns), static_cast<int32_t>(rows)};
}

class Qwen2VlProcessor final : public PlanningProcessor {
 public:
  Qwen2VlProcessor(const Drawing& drawing, const PixelBudget& budget, std::string token,
                   uint64_t hash)
      : PlanningProcessor(drawing, hash), budget_(budget), token_(std::move(token)) {}

 protected:
  [[nodiscard]] Result<Plan> plan(Size picture) const override {
    const PatchShape& patch = drawing().patch;
    const int32_t block = patch.side * patch.merge;
    TR_ASSIGN(const Size size, smart_resize(picture, block, budget_));
    Plan plan;
    plan.tiles.push_back(stretched(picture, size));
    plan.layout.rope_frames = 1;
    plan.layout.rope_rows = size.height / block;
    plan.layout.rope_columns = size.width / block;
    plan.layout.rows = plan.layout.rope_rows * plan.layout.rope_columns;
    plan.layout.prompt = repeated(token_, plan.layout.rows);
    return plan;
  }

 private:
  PixelBudget budget_;
  std::string token_;
};

PixelBudget read_budget(const models::Fields& image) {
  constexpr int64_t kPixelsMax = int64_t{1} << 28;
  PixelBudget out;
  if (image.has("size")) {
    const models::Fields size = image.object("size");
    out.fewest = size.integer("shortest_edge", 1, kPixelsMax, out.fewest);
    out.most = size.integer("longest_edge", 1, kPixelsMax, out.most);
  }
  out.fewest = image.integer("min_pixels", 1, kPixelsMax, out.fewest);
  out.most = image.integer("max_pixels", 1, kPixelsMax, out.most);
  if (out.fewest > out.most) image.fail("min_pixels", "is more than max_pixels");
  return out;
}

}  // namespace

Result<OpenedProcessor> open_qwen2_vl(const ProcessorFiles& files) {
  const models::Fields& image = files.image;
  Drawing drawing;
  drawing.filter = read_filter(image, Filter::bicubic);
  drawing.normalise = read_normalise(image, kClipDefaults);
  drawing.patch = {.side = image.count("patch_size", 1024, 14),
                   .merge = image.count("merge_size", 64, 2),
                   .frames = image.count("temporal_patch_size", 64, 2)};
  require_switch(image, "do_resize", true, true);
  const std::string token = files.token("image_token", "<|image_pad|>");
  return OpenedProcessor{
      std::make_unique<Qwen2VlProcessor>(drawing, read_budget(image), token, files.hash), token,
      token};
}

}  // namespace troupe::vision
