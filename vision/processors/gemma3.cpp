// Gemma-3: the picture stretched to the tower's square; with pan and scan on, long pictures are
// also seen in pieces, and the prompt says so.
#include <algorithm>
#include <cmath>

#include "vision/processors/processors.hpp"
#include "vision/processors/recipe.hpp"
#include "vision/processors/settings.hpp"

namespace troupe::vision {
namespace {

struct PanAndScan {
  bool on = false;
  int32_t smallest = 256;  // a piece's shorter side, in pixels
  int32_t most = 4;  // pieces
  double least_ratio = 1.2;  // of the picture's sides
};

// How many pieces the longer side is cut into; 0: none.
int32_t pieces_of(const PanAndScan& pan, int32_t longer, int32_t shorter) {
  if (!pan.on || static_cast<double>(longer) / shorter < pan.least_ratio) return 0;
  auto count = static_cast<int32_t>(std::floor(static_cast<double>(longer) / shorter + 0.5));
  count = std::min(longer / pan.smallest, count);
  count = std::min(pan.most, std::max(2, count));
  const int32_t length = (longer + count - 1) / count;
  return std::min(length, shorter) < pan.smallest ? 0 : count;
}

class Gemma3Processor final : public PlanningProcessor {
 public:
  struct Text {
    std::string begin, image, end;
  };
  Gemma3Processor(const Drawing& drawing, Size tile, const PanAndScan& pan, Text text, int32_t rows,
                  uint64_t hash)
      : PlanningProcessor(drawing, hash),
        tile_(tile),
        pan_(pan),
        text_(std::move(text)),
        rows_(rows) {}

 protected:
  [[nodiscard]] Result<Plan> plan(Size picture) const override {
    Plan plan;
    plan.tiles.push_back(stretched(picture, tile_));
    const bool wide = picture.width >= picture.height;
    const int32_t longer = std::max(picture.width, picture.height);
    const int32_t count = pieces_of(pan_, longer, std::min(picture.width, picture.height));
    const int32_t length = count > 0 ? (longer + count - 1) / count : 0;
    for (int32_t i = 0; i < count; ++i) {
      Recipe recipe = stretched(picture, tile_);
      const int32_t from = i * length, cut = std::min(length, longer - from);
      recipe.part =
          wide ? Region{from, 0, cut, picture.height} : Region{0, from, picture.width, cut};
      plan.tiles.push_back(recipe);
    }
    if (count > 0) {
      plan.layout.overview = 0;
      (wide ? plan.layout.tile_columns : plan.layout.tile_rows) = count;
    }
    plan.layout.rows = rows_ * (1 + count);
    plan.layout.prompt = prompt(count);
    return plan;
  }

 private:
  [[nodiscard]] std::string prompt(int32_t pieces) const {
    const std::string one =
        "\n\n" + text_.begin + repeated(text_.image, rows_) + text_.end + "\n\n";
    if (pieces == 0) return one;
    std::string out =
        "Here is the original image " + one + " and here are some crops to help you see better ";
    for (int32_t i = 0; i < pieces; ++i) out += (i > 0 ? " " : "") + one;
    return out;
  }
  Size tile_;
  PanAndScan pan_;
  Text text_;
  int32_t rows_;
};

}  // namespace

Result<OpenedProcessor> open_gemma3(const ProcessorFiles& files) {
  const models::Fields& image = files.image;
  Drawing drawing;
  drawing.filter = read_filter(image, Filter::bilinear);
  drawing.normalise = read_normalise(image, kHalfDefaults);
  drawing.patch.side = files.model.object("vision_config").count("patch_size", 1024, 16);
  require_switch(image, "do_resize", true, true);
  const Sizes size = read_sizes(image, "size");
  const Size tile{size.width.value_or(224), size.height.value_or(224)};
  if (tile.width % drawing.patch.side != 0 || tile.height % drawing.patch.side != 0) {
    image.fail("size", "is no multiple of patches of " + std::to_string(drawing.patch.side));
  }
  PanAndScan pan;
  pan.on = image.boolean("do_pan_and_scan", false);
  pan.smallest = image.count("pan_and_scan_min_crop_size", kSideMax, pan.smallest);
  pan.most = image.count("pan_and_scan_max_num_crops", 1024, pan.most);
  pan.least_ratio = image.real("pan_and_scan_min_ratio_to_activate", 0, 1e6, pan.least_ratio);
  const int32_t rows = files.processor.count(
      "image_seq_length", 1 << 20, files.model.count("mm_tokens_per_image", 1 << 20, 256));
  Gemma3Processor::Text text{files.token("boi_token", "<start_of_image>"),
                             files.token("image_token", "<image_soft_token>"),
                             files.token("eoi_token", "<end_of_image>")};
  const std::string begin = text.begin, token = text.image;
  return OpenedProcessor{
      std::make_unique<Gemma3Processor>(drawing, tile, pan, std::move(text), rows, files.hash),
      begin, token};
}

}  // namespace troupe::vision
