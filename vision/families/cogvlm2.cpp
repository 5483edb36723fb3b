// CogVLM2: EVA-CLIP with norms behind its branches, a 2 x 2 convolution, a gated projection, a
// learnt row before and behind each picture. In the language model image rows have weights of their
// own and share a position.
#include "base/limits.hpp"
#include "vision/families/common.hpp"
#include "vision/families/families.hpp"

namespace troupe::vision {
namespace {

TowerLayer eva_layer(const std::string& name, const TowerSizes& s) {
  TowerLayer layer;
  layer.qkv = linear(name + "attention.query_key_value", int64_t{3} * s.hidden, s.hidden);
  layer.out = linear(name + "attention.dense", s.hidden, s.hidden);
  layer.scale = s.attention_scale();
  layer.post_norm = models::layer_norm(name + "input_layernorm", s.hidden, s.eps);
  layer.ffn = plain_ffn(name + "mlp.fc1", name + "mlp.fc2", s);
  layer.post_ffn_norm = models::layer_norm(name + "post_attention_layernorm", s.hidden, s.eps);
  return layer;
}

// The kernel has channels outside the 2 x 2 places; rows come with places outside.
Linear convolution(const std::string& name, int64_t width) {
  Linear out{linear(name, width, 4 * width)};
  out.weight.parts.front().weight.groups = 4;
  return out;
}

}  // namespace

void describe_cogvlm2(const models::Fields& config, VisionDescription& out) {
  const models::Fields vision = config.object("vision_config");
  TowerSizes s = read_tower(vision, {.hidden = 1792,
                                     .inner = 15360,
                                     .layers = 63,
                                     .heads = 16,
                                     .image_size = 1344,
                                     .patch_size = 14});
  s.channels = vision.count("in_channels", 16, 3);
  const int32_t hidden = text_hidden(config);
  const int64_t inner = config.count("intermediate_size", limits::inner);
  const std::string prefix = "model.vision.";
  Tower& t = out.tower;
  set_frame(s, t);
  t.tile_side = s.side();
  if (t.tile_side % 2 != 0) vision.fail("image_size", "must be an even number of patches");
  t.patches = patch_convolution(prefix + "patch_embedding.proj", s, true);
  t.class_token = models::vector_spec(prefix + "patch_embedding.cls_embedding", s.hidden,
                                      models::Fill::random);
  t.positions = position_table(prefix + "patch_embedding.position_embedding.weight", s, true);
  for (int32_t i = 0; i < s.layers; ++i) {
    t.layers.push_back(eva_layer(prefix + "transformer.layers." + std::to_string(i) + ".", s));
  }
  const std::string projection = prefix + "linear_proj.";
  models::Dense glu;
  glu.up = linears({projection + "gate_proj", projection + "dense_h_to_4h"}, inner, hidden, false);
  glu.down = linear(projection + "dense_4h_to_h", hidden, inner, false);
  out.projector = {
      Shuffle{2, Shuffle::Order::grid},
      convolution(prefix + "conv", s.hidden),
      Linear{linear(projection + "linear_proj", hidden, s.hidden, false)},
      Norm{models::layer_norm(projection + "norm1", hidden, 1e-5)},
      Activate{Activation::gelu},
      Gated{glu},
      Bookends{models::vector_spec(prefix + "boi", hidden, models::Fill::random),
               models::vector_spec(prefix + "eoi", hidden, models::Fill::random)}};
  out.rules.sight = Sight::expert;
  out.rules.rope = SightRope::shared;
  out.rules.hidden = hidden;
  out.rules.images_max = 1;
  // A picture's rows stand where padding tokens are put.
  out.rules.image_token =
      static_cast<int32_t>(config.integer("pad_token_id", 0, limits::vocabulary, 128002));
}

}  // namespace troupe::vision
