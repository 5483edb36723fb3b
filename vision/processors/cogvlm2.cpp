// CogVLM2: the picture stretched to the tower's square. Its rows are the patches, merged two by
// two, between a begin and an end row. (The checkpoint's own published code is the reference.)
#include "vision/processors/processors.hpp"
#include "vision/processors/recipe.hpp"
#include "vision/processors/settings.hpp"

namespace troupe::vision {
namespace {

class CogVlm2Processor final : public PlanningProcessor {
 public:
  CogVlm2Processor(const Drawing& drawing, int32_t side, std::string token, uint64_t hash)
      : PlanningProcessor(drawing, hash), side_(side), token_(std::move(token)) {}

 protected:
  [[nodiscard]] Result<Plan> plan(Size picture) const override {
    const int32_t merged = side_ / drawing().patch.side / 2;
    Plan plan;
    plan.tiles.push_back(stretched(picture, {side_, side_}));
    plan.layout.rows = merged * merged + 2;
    plan.layout.prompt = repeated(token_, plan.layout.rows);
    return plan;
  }

 private:
  int32_t side_;
  std::string token_;
};

}  // namespace

Result<OpenedProcessor> open_cogvlm2(const ProcessorFiles& files) {
  const models::Fields vision = files.model.object("vision_config");
  Drawing drawing;
  drawing.normalise = read_normalise(files.image, kClipDefaults);
  drawing.patch.side = vision.count("patch_size", 1024, 14);
  const int32_t side = vision.count("image_size", kSideMax, 1344);
  if (side % (2 * drawing.patch.side) != 0) {
    files.model.fail("vision_config.image_size", "is " + std::to_string(side) +
                                                     ", no multiple of two patches of " +
                                                     std::to_string(drawing.patch.side));
  }
  const std::string token = files.token("pad_token", "<|reserved_special_token_0|>");
  return OpenedProcessor{std::make_unique<CogVlm2Processor>(drawing, side, token, files.hash),
                         "<image>", token};
}

}  // namespace troupe::vision
