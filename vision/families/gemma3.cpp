// Gemma 3: SigLIP over one square tile, its patches pooled to 256 rows, normed and projected. The
// rows of a picture attend to one another both ways in the language model.
#include <cmath>

#include "base/limits.hpp"
#include "vision/families/common.hpp"
#include "vision/families/families.hpp"

namespace troupe::vision {

void describe_gemma3(const models::Fields& config, VisionDescription& out) {
  const int32_t hidden = text_hidden(config);
  describe_tower(config, out);
  const Tower& t = out.tower;
  const int32_t rows = config.count("mm_tokens_per_image", 1 << 20, 256);
  const auto side = static_cast<int32_t>(std::lround(std::sqrt(rows)));
  if (side * side != rows || t.tile_side % side != 0) {
    config.fail("mm_tokens_per_image", "is " + std::to_string(rows) +
                                           ", no square whose side divides the tower's " +
                                           std::to_string(t.tile_side) + " patches");
    return;
  }
  const double eps = config.object("vision_config").real("layer_norm_eps", 0.0, 1.0, 1e-6);
  const std::string prefix = "multi_modal_projector.";
  models::LinearPartSpec projection;
  projection.weight = {.name = prefix + "mm_input_projection_weight",
                       .rows = hidden,
                       .cols = t.hidden,
                       .transposed = true};
  Linear last;
  last.weight.parts = {projection};
  out.projector = {Pool{t.tile_side / side},
                   Norm{models::rms_norm(prefix + "mm_soft_emb_norm", t.hidden, eps, 1.0F)}, last};
  out.rules.sight = Sight::bidirectional;
  out.rules.hidden = hidden;
  out.rules.image_token = read_image_token(config);
  out.renames.emplace_back(prefix, "model." + prefix);
}

}  // namespace troupe::vision
