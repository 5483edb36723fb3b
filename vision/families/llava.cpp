// LLaVA-1.5 (one tile of CLIP's, an MLP), LLaVA-NeXT (1.6: tiles of any resolution) and Pixtral
// (LLaVA's frame around a tower for pictures of any size). Several feature layers stand side by side.
#include <algorithm>

#include "vision/families/common.hpp"
#include "vision/families/families.hpp"

namespace troupe::vision {

using models::Fields;

void describe_llava(const Fields& config, VisionDescription& out) {
  const int32_t hidden = text_hidden(config);
  describe_tower(config, out);
  Tower& t = out.tower;
  const auto layers = static_cast<int32_t>(t.layers.size());
  t.taken = read_feature_layers(config, "vision_feature_layer", layers, -2);
  t.layers.resize(static_cast<size_t>(*std::max_element(t.taken.begin(), t.taken.end())));
  t.final_norm = {};  // it stands behind the last state, which is not looked at
  const std::string strategy = config.text("vision_feature_select_strategy", "default");
  if (strategy != "default" && strategy != "full") {
    config.fail("vision_feature_select_strategy",
                "is \"" + strategy + "\"; known are default and full");
  }
  t.keep_class = strategy == "full" && t.class_token;
  add_mlp(config, "multi_modal_projector.", int64_t{t.hidden} * static_cast<int64_t>(t.taken.size()),
          hidden, config.boolean("multimodal_projector_bias", true), out.projector);
  out.rules.hidden = hidden;
  out.rules.image_token = read_image_token(config);
  out.renames.emplace_back("multi_modal_projector.", "model.multi_modal_projector.");
}

void describe_llava_next(const Fields& config, VisionDescription& out) {
  describe_llava(config, out);
  out.join = Unpadded{models::vector_spec("image_newline", out.rules.hidden, models::Fill::random)};
  out.renames.emplace_back("image_newline", "model.image_newline");
}

}  // namespace troupe::vision
