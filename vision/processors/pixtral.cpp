// Pixtral, and Mistral-3 which merges its patches: any size up to a longest edge, rounded up to
// whole (merged) patches. Rows of the grid are kept apart in the prompt.
#include <algorithm>
#include <cmath>

#include "vision/processors/processors.hpp"
#include "vision/processors/recipe.hpp"
#include "vision/processors/settings.hpp"

namespace troupe::vision {
namespace {

class PixtralProcessor final : public PlanningProcessor {
 public:
  struct Text {
    std::string image, row_end, end;
  };
  PixtralProcessor(const Drawing& drawing, Size longest, int32_t merge, Text text, uint64_t hash)
      : PlanningProcessor(drawing, hash),
        longest_(longest),
        merge_(merge),
        text_(std::move(text)) {}

 protected:
  [[nodiscard]] Result<Plan> plan(Size picture) const override {
    const int32_t block = drawing().patch.side * merge_;
    const double ratio = std::max(static_cast<double>(picture.height) / longest_.height,
                                  static_cast<double>(picture.width) / longest_.width);
    Size size = picture;
    if (ratio > 1) {
      size = {static_cast<int32_t>(std::floor(picture.width / ratio)),
              static_cast<int32_t>(std::floor(picture.height / ratio))};
    }
    if (size.width < 1 || size.height < 1) {
      return invalid("a picture of " + std::to_string(picture.width) + "x" +
                     std::to_string(picture.height) +
                     " pixels has no breadth left at this model's size; crop it");
    }
    const int32_t columns = (size.width - 1) / block + 1, rows = (size.height - 1) / block + 1;
    Plan plan;
    plan.tiles.push_back(stretched(picture, {columns * block, rows * block}));
    plan.layout.rows = rows * columns;
    const std::string cells = repeated(text_.image, columns);
    for (int32_t row = 0; row < rows; ++row) {
      plan.layout.prompt += cells + (row + 1 < rows ? text_.row_end : text_.end);
    }
    return plan;
  }

 private:
  Size longest_;
  int32_t merge_;
  Text text_;
};

}  // namespace

Result<OpenedProcessor> open_pixtral(const ProcessorFiles& files) {
  const models::Fields& image = files.image;
  const models::Fields vision = files.model.object("vision_config");
  Drawing drawing;
  drawing.filter = read_filter(image, Filter::bicubic);
  drawing.normalise = read_normalise(image, kClipDefaults);
  drawing.patch.side = vision.count("patch_size", 1024, 16);
  const int32_t said = files.processor.count("patch_size", 1024, drawing.patch.side);
  if (said != drawing.patch.side) {
    files.processor.fail("patch_size", "is " + std::to_string(said) +
                                           "; vision_config.patch_size of config.json is " +
                                           std::to_string(drawing.patch.side));
  }
  require_switch(image, "do_resize", true, true);
  const Sizes size = read_sizes(image, "size");
  Size longest{size.longest.value_or(size.width.value_or(1024)),
               size.longest.value_or(size.height.value_or(1024))};
  if (longest.width > kSideMax || longest.height > kSideMax) {
    image.fail("size", "must be at most " + std::to_string(kSideMax));
  }
  const int32_t merge = files.processor.count("spatial_merge_size", 64,
                                              files.model.count("spatial_merge_size", 64, 1));
  PixtralProcessor::Text text{files.processor.text("image_token", "[IMG]"),
                              files.processor.text("image_break_token", "[IMG_BREAK]"),
                              files.processor.text("image_end_token", "[IMG_END]")};
  const std::string token = text.image;
  return OpenedProcessor{
      std::make_unique<PixtralProcessor>(drawing, longest, merge, std::move(text), files.hash),
      token, token};
}

}  // namespace troupe::vision
