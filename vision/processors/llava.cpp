// LLaVA-1.5: CLIP's own processing, one tile. The shorter edge is resized, the middle cut out; a
// checkpoint may ask for padding to a square first.
#include <algorithm>
#include <cmath>

#include "vision/processors/clip.hpp"
#include "vision/processors/processors.hpp"

namespace troupe::vision {
namespace {

Size resized(Size picture, const Sizes& sizes) {
  if (sizes.shortest && !sizes.width) {
    // Python's: the longer edge is cut, not rounded.
    const double shorter = std::min(picture.width, picture.height);
    const double longer = std::max(picture.width, picture.height);
    const auto to = static_cast<int32_t>(*sizes.shortest * longer / shorter);
    return picture.width <= picture.height ? Size{*sizes.shortest, to} : Size{to, *sizes.shortest};
  }
  return {*sizes.width, *sizes.height};
}

// [0, size) of a canvas sees the middle of `from`: where the window begins in each.
struct Middle {
  int32_t window = 0, count = 0, canvas = 0;
};
Middle middle(int32_t from, int32_t size) {
  if (from >= size) return {(from - size) / 2, size, 0};
  return {0, from, (size - from) / 2};
}

class LlavaProcessor final : public PlanningProcessor {
 public:
  LlavaProcessor(const ClipSettings& settings, uint64_t hash)
      : PlanningProcessor(settings.drawing, hash), settings_(settings) {}

 protected:
  [[nodiscard]] Result<Plan> plan(Size picture) const override {
    Recipe recipe;
    recipe.square = settings_.square;
    if (recipe.square) picture.width = picture.height = std::max(picture.width, picture.height);
    const Size size = settings_.resize ? resized(picture, settings_.size) : picture;
    const Size canvas = settings_.crop;
    const Middle across = middle(size.width, canvas.width);
    const Middle down = middle(size.height, canvas.height);
    recipe.part = {0, 0, picture.width, picture.height};
    recipe.sizes = {size};
    recipe.window = {across.window, down.window, across.count, down.count};
    recipe.canvas = canvas;
    recipe.left = across.canvas;
    recipe.top = down.canvas;
    Plan plan;
    plan.tiles = {std::move(recipe)};
    plan.layout.rows = settings_.rows;
    plan.layout.prompt = repeated(settings_.image_token, settings_.rows);
    return plan;
  }

 private:
  ClipSettings settings_;
};

}  // namespace

ClipSettings read_clip(const ProcessorFiles& files) {
  ClipSettings out;
  const models::Fields& image = files.image;
  const models::Fields vision = files.model.object("vision_config");
  out.drawing.filter = read_filter(image, Filter::bicubic);
  out.drawing.normalise = read_normalise(image, kClipDefaults);
  out.drawing.patch.side =
      vision.count("patch_size", 1024, files.model.has("vision_config") ? 32 : 14);
  if (files.processor.has("patch_size")) {
    const int32_t side = files.processor.count("patch_size", 1024);
    if (side != out.drawing.patch.side) {
      files.processor.fail("patch_size", "is " + std::to_string(side) +
                                             "; vision_config.patch_size of config.json is " +
                                             std::to_string(out.drawing.patch.side));
    }
  }
  out.resize = image.boolean("do_resize", true);
  out.size = read_sizes(image, "size");
  if (!out.size.shortest && !out.size.width) out.size.shortest = 224;
  if (out.size.width.has_value() != out.size.height.has_value()) {
    image.fail("size", "has a height or a width alone");
    out.size.width = out.size.height = 224;
  }
  const bool square = image.is_object("size") && out.size.width;
  if (!square) out.size.width = out.size.height = std::nullopt;

  const Sizes crop = read_sizes(image, "crop_size");
  out.crop = {crop.width.value_or(224), crop.height.value_or(224)};
  if (!image.boolean("do_center_crop", true)) {
    if (!square) image.fail("do_center_crop", "is false and size gives no height and width");
    out.crop = square ? Size{*out.size.width, *out.size.height} : out.crop;
  }
  const int32_t side = out.drawing.patch.side;
  if (out.crop.width % side != 0 || out.crop.height % side != 0) {
    image.fail("crop_size", "is " + std::to_string(out.crop.width) + "x" +
                                std::to_string(out.crop.height) + ", no multiple of patches of " +
                                std::to_string(side));
  }
  const std::string strategy =
      files.processor.text("vision_feature_select_strategy",
                           files.model.text("vision_feature_select_strategy", "default"));
  const bool has_class = vision.text("model_type", "clip_vision_model").starts_with("clip");
  out.class_rows = static_cast<int32_t>(
      files.processor.integer("num_additional_image_tokens", 0, 16, has_class ? 1 : 0));
  if (strategy == "default") --out.class_rows;
  const int64_t patches = int64_t{out.crop.width / side} * (out.crop.height / side);
  out.rows = checked_rows(image, "crop_size", patches) + out.class_rows;
  out.image_token = files.token("image_token", files.processor.text("image_token", "<image>"));
  return out;
}

Result<OpenedProcessor> open_llava(const ProcessorFiles& files) {
  ClipSettings settings = read_clip(files);
  if (files.image.boolean("do_pad", false)) {
    // The background is the mean of the normalisation, as LLaVA has it.
    Colour colour{};
    const auto mean =
        files.image.has("image_mean")
            ? files.image.reals("image_mean", 0, 1)
            : std::vector<double>(kClipDefaults.mean.begin(), kClipDefaults.mean.end());
    for (size_t c = 0; c < 3 && mean.size() == 3; ++c) {
      colour[c] = static_cast<uint8_t>(mean[c] * 255);
    }
    settings.square = colour;
  }
  const std::string token = settings.image_token;
  return OpenedProcessor{std::make_unique<LlavaProcessor>(settings, files.hash), token, token};
}

}  // namespace troupe::vision
