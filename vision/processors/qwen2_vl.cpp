// Qwen2-VL and Qwen2.5-VL: any size, rounded to whole blocks of merged patches within a budget of
// pixels. A patch covers two frames; a still picture is shown in both.
#include <algorithm>
#include <cmath>

#include "base/limits.hpp"
#include "vision/processors/processors.hpp"
#include "vision/processors/recipe.hpp"
#include "vision/processors/settings.hpp"

namespace troupe::vision {
namespace {

struct PixelBudget {
  int64_t fewest = 56 * 56, most = 28 * 28 * 1280;
};

// Of a frame of a video, where video_preprocessor_config.json says nothing.
constexpr PixelBudget kFrameBudget{128 * 28 * 28, 28 * 28 * 768};

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
  Qwen2VlProcessor(const Drawing& drawing, const PixelBudget& budget,
                   const PixelBudget& frame_budget, std::string token, uint64_t hash)
      : PlanningProcessor(drawing, hash),
        budget_(budget),
        frame_budget_(frame_budget),
        token_(std::move(token)) {}

  // Every pair of frames (as many as a patch covers) is a tile; the last frame is repeated.
  [[nodiscard]] Result<PictureLayout> layout_video(int32_t frames, int32_t width,
                                                   int32_t height) const override {
    constexpr int32_t kFramesMax = 1 << 16;
    if (frames < 1 || frames > kFramesMax || width < 1 || height < 1) {
      return invalid("a video of " + std::to_string(frames) + " frames of " +
                     std::to_string(width) + "x" + std::to_string(height) +
                     " pixels; it must have 1 to " + std::to_string(kFramesMax) +
                     " frames of at least 1x1");
    }
    const int32_t steps = (frames + drawing().patch.frames - 1) / drawing().patch.frames;
    TR_ASSIGN(Plan p, plan_within(frame_budget_, {width, height}, steps));
    p.layout.width = width;
    p.layout.height = height;
    const Size size = p.tiles[0].canvas;
    const int32_t side = drawing().patch.side;
    p.layout.tiles.assign(static_cast<size_t>(steps), {1, size.height / side, size.width / side});
    return std::move(p.layout);
  }

  [[nodiscard]] Result<Tile> prepare_video(std::span<const Image> frames,
                                           const PictureLayout& layout,
                                           int32_t tile) const override {
    const auto steps = static_cast<int32_t>(layout.tiles.size());
    if (frames.empty() || tile < 0 || tile >= steps) {
      return internal_error("tile " + std::to_string(tile) + " of a video that has " +
                            std::to_string(steps));
    }
    std::vector<const Image*> shown;
    for (int32_t i = 0; i < drawing().patch.frames; ++i) {
      const auto at = static_cast<size_t>(tile) * static_cast<size_t>(drawing().patch.frames) +
                      static_cast<size_t>(i);
      shown.push_back(&frames[std::min(at, frames.size() - 1)]);
      if (shown.back()->width == layout.width && shown.back()->height == layout.height) continue;
      return invalid("frame " + std::to_string(at) + " of the video has " +
                     std::to_string(shown.back()->width) + "x" +
                     std::to_string(shown.back()->height) + " pixels, the video " +
                     std::to_string(layout.width) + "x" + std::to_string(layout.height));
    }
    TR_ASSIGN(const Plan p, plan_within(frame_budget_, {layout.width, layout.height}, steps));
    Tile out = draw_frames(shown, p.tiles[0], drawing());
    out.index = tile;
    return out;
  }

 protected:
  [[nodiscard]] Result<Plan> plan(Size picture) const override {
    return plan_within(budget_, picture, 1);
  }

 private:
  // One recipe, for all the steps in time.
  [[nodiscard]] Result<Plan> plan_within(const PixelBudget& budget, Size picture,
                                         int32_t steps) const {
    const PatchShape& patch = drawing().patch;
    const int32_t block = patch.side * patch.merge;
    TR_ASSIGN(const Size size, smart_resize(picture, block, budget));
    Plan plan;
    plan.tiles.push_back(stretched(picture, size));
    plan.layout.rope_frames = steps;
    plan.layout.rope_rows = size.height / block;
    plan.layout.rope_columns = size.width / block;
    const int64_t rows = int64_t{steps} * plan.layout.rope_rows * plan.layout.rope_columns;
    if (rows > limits::prompt_tokens) {
      return limit_exceeded("the video would take " + std::to_string(rows) +
                            " tokens, a prompt has at most " +
                            std::to_string(limits::prompt_tokens) + "; send fewer frames");
    }
    plan.layout.rows = static_cast<int32_t>(rows);
    plan.layout.prompt = repeated(token_, plan.layout.rows);
    return plan;
  }

  PixelBudget budget_, frame_budget_;
  std::string token_;
};

PixelBudget read_budget(const models::Fields& image, PixelBudget out) {
  constexpr int64_t kPixelsMax = int64_t{1} << 28;
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
      std::make_unique<Qwen2VlProcessor>(drawing, read_budget(image, {}),
                                         read_budget(files.video, kFrameBudget), token, files.hash),
      token, token};
}

}  // namespace troupe::vision
