// Llama 3.2 Vision (Mllama): all tiles of a picture together through a tower that knows their
// arrangement; the last layers are gated; the projector sees some middle states beside the last.
#include <algorithm>

#include "base/limits.hpp"
#include "vision/families/common.hpp"
#include "vision/families/families.hpp"

namespace troupe::vision {
namespace {

using models::Fields;
using models::Fill;

models::TensorSpec rows_spec(const std::string& name, int64_t rows, int64_t cols) {
  models::TensorSpec t;
  t.name = name;
  t.rows = rows;
  t.cols = cols;
  return t;
}

TiledPositions tiled_positions(const Fields& vision, const std::string& prefix,
                               const TowerSizes& s) {
  TiledPositions out;
  const std::string gated = prefix + "gated_positional_embedding.";
  const std::string before = prefix + "pre_tile_positional_embedding.";
  const std::string behind = prefix + "post_tile_positional_embedding.";
  out.side = s.side();
  out.tiles_max = vision.count("max_num_tiles", 64, 4);
  out.multiple = 8;
  const auto ratios = static_cast<int32_t>(
      vision.integer_rows("supported_aspect_ratios", 1, 64).size());
  out.aspects = vision.count("max_aspect_ratio_id", 4096, std::max(ratios, 8)) + 1;
  const int64_t each = int64_t{out.side} * out.side + 1;
  out.table = rows_spec(gated + "embedding", each, s.hidden);
  // Stored with a row per aspect: its tiles' places lie one behind the other in it.
  out.tile_table = rows_spec(gated + "tile_embedding.weight", out.aspects,
                             out.tiles_max * each * s.hidden);
  out.before = rows_spec(before + "embedding.weight", out.aspects, int64_t{out.tiles_max} * s.hidden);
  out.behind = rows_spec(behind + "embedding.weight", out.aspects, int64_t{out.tiles_max} * s.hidden);
  out.gate = models::vector_spec(gated + "gate", 1, Fill::random);
  out.before_gate = models::vector_spec(before + "gate", 1, Fill::random);
  out.behind_gate = models::vector_spec(behind + "gate", 1, Fill::random);
  out.middle_norm = models::layer_norm(prefix + "layernorm_post", s.hidden, 1e-5);
  out.behind_layers = s.layers;
  return out;
}

TowerLayer layer_of(const std::string& name, const TowerSizes& s, bool gated) {
  TowerLayer layer;
  const std::string attention = name + "self_attn.";
  layer.qkv = query_key_value(attention, s, false);
  layer.out = linear(attention + "o_proj", s.hidden, s.hidden, false);
  layer.scale = s.attention_scale();
  layer.ffn = plain_ffn(name + "mlp.fc1", name + "mlp.fc2", s);
  layer.norm = models::layer_norm(name + "input_layernorm", s.hidden, s.eps);
  layer.ffn_norm = models::layer_norm(name + "post_attention_layernorm", s.hidden, s.eps);
  if (gated) {
    layer.gate = models::vector_spec(name + "gate_attn", 1, Fill::random);
    layer.ffn_gate = models::vector_spec(name + "gate_ffn", 1, Fill::random);
  }
  return layer;
}

}  // namespace

void describe_mllama(const Fields& config, VisionDescription& out) {
  const Fields vision = config.object("vision_config");
  TowerSizes s = read_tower(vision, {.hidden = 1280,
                                     .inner = 5120,
                                     .layers = 32,
                                     .heads = 16,
                                     .image_size = 448,
                                     .patch_size = 14});
  s.eps = vision.real("norm_eps", 0.0, 1.0, 1e-5);
  const int32_t global = vision.count("num_global_layers", limits::layers, 8);
  const int32_t hidden = text_hidden(config);
  const std::string prefix = "vision_model.";
  Tower& t = out.tower;
  set_frame(s, t);
  t.tile_side = s.side();
  t.patches = patch_convolution(prefix + "patch_embedding", s, false);
  t.class_token = models::vector_spec(prefix + "class_embedding", s.hidden, Fill::random);
  t.positions = tiled_positions(vision, prefix, s);
  t.first_norm = models::layer_norm(prefix + "layernorm_pre", s.hidden, 1e-5);
  for (int32_t i = 0; i < s.layers; ++i) {
    t.layers.push_back(
        layer_of(prefix + "transformer.layers." + std::to_string(i) + ".", s, false));
  }
  for (int32_t i = 0; i < global; ++i) {
    t.layers.push_back(
        layer_of(prefix + "global_transformer.layers." + std::to_string(i) + ".", s, true));
  }
  t.keep_class = true;
  t.taken = {s.layers + global};
  auto middle = vision.integers("intermediate_layers_indices", 0, s.layers - 1);
  if (!vision.has("intermediate_layers_indices")) middle = {3, 7, 15, 23, 30};
  for (const int64_t index : middle) t.taken.push_back(static_cast<int32_t>(index) + 1);
  // The middle states stand in the projector's columns with the states innermost.
  const auto states = static_cast<int64_t>(middle.size());
  Linear projection{linear("multi_modal_projector", hidden, (states + 1) * s.hidden)};
  projection.weight.parts.front().weight.groups = std::max<int64_t>(states, 1);
  projection.weight.parts.front().weight.grouped_from = s.hidden;
  out.projector = {projection};
  out.rules.sight = Sight::cross;
  out.rules.hidden = hidden;
  out.rules.images_max = 4;
  out.rules.image_token = read_image_token(config);
  out.renames = {{"vision_model.", "model.vision_model."},
                 {"multi_modal_projector.", "model.multi_modal_projector."}};
}

}  // namespace troupe::vision
