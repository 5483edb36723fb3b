// InternVL, as transformers has it (internvl) and as the original checkpoints lie (internvl_chat:
// 1.5, 2, 2.5). InternViT with layer scale and, in the largest, norms of q and k; pixel shuffle; MLP.
#include <cmath>

#include "base/limits.hpp"
#include "vision/families/common.hpp"
#include "vision/families/families.hpp"

namespace troupe::vision {
namespace {

using models::Fields;

models::NormSpec vit_norm(const Fields& vision, const std::string& name, const TowerSizes& s) {
  const std::string kind = vision.text("norm_type", "layer_norm");
  if (kind == "rms_norm") return models::rms_norm(name, s.hidden, s.eps);
  if (kind != "layer_norm") {
    vision.fail("norm_type", "is \"" + kind + "\"; known are layer_norm and rms_norm");
  }
  return models::layer_norm(name, s.hidden, s.eps);
}

// downsample_ratio 1/2 means blocks of two by two.
int32_t read_shuffle(const Fields& config) {
  const double ratio = config.real("downsample_ratio", 0.01, 1.0, 0.5);
  const auto side = static_cast<int32_t>(std::lround(1.0 / ratio));
  if (std::abs(1.0 / ratio - side) > 1e-6) {
    config.fail("downsample_ratio", "must be one over a whole number");
  }
  return side;
}

void describe_frame(const TowerSizes& s, int32_t shuffle, const Fields& config, Tower& t) {
  set_frame(s, t);
  t.tile_side = s.side();
  if (t.tile_side % shuffle != 0) {
    config.fail("downsample_ratio", "takes blocks of " + std::to_string(shuffle) +
                                        ", which do not divide the " + std::to_string(t.tile_side) +
                                        " patches of a tile's side");
  }
}

// What the parts of a layer are called.
struct LayerNames {
  std::string out, norm, ffn_norm, gain, ffn_gain;
};

// All of a layer but its queries, keys and values.
TowerLayer vit_layer(const Fields& vision, const std::string& name, const LayerNames& names,
                     const TowerSizes& s) {
  TowerLayer layer;
  layer.out = linear(name + names.out, s.hidden, s.hidden);
  layer.scale = s.attention_scale();
  layer.ffn = plain_ffn(name + "mlp.fc1", name + "mlp.fc2", s);
  layer.norm = vit_norm(vision, name + names.norm, s);
  layer.ffn_norm = vit_norm(vision, name + names.ffn_norm, s);
  layer.gain = models::vector_spec(name + names.gain, s.hidden, models::Fill::ones);
  layer.ffn_gain = models::vector_spec(name + names.ffn_gain, s.hidden, models::Fill::ones);
  return layer;
}

// The norms of q and k go over all heads together.
void add_qk_norms(const std::string& prefix, const TowerSizes& s, double eps, TowerLayer& layer) {
  layer.q_norm = models::rms_norm(prefix + "q_norm", s.hidden, eps);
  layer.k_norm = models::rms_norm(prefix + "k_norm", s.hidden, eps);
}

void keep_layers(const Fields& config, std::string_view key, const TowerSizes& s, Tower& t) {
  t.taken = read_feature_layers(config, key, s.layers, -1);
  t.layers.resize(static_cast<size_t>(t.taken.front()));
}

constexpr TowerDefaults kInternVit{.hidden = 1024,
                                   .inner = 4096,
                                   .layers = 24,
                                   .heads = 16,
                                   .image_size = 448,
                                   .patch_size = 14,
                                   .eps = 1e-6,
                                   .activation = "gelu"};

void describe_tower_of_transformers(const Fields& config, const TowerSizes& s, Tower& t) {
  const Fields vision = config.object("vision_config");
  const std::string prefix = "vision_tower.";
  t.patches = patch_convolution(prefix + "embeddings.patch_embeddings.projection", s, true);
  t.class_token =
      models::vector_spec(prefix + "embeddings.cls_token", s.hidden, models::Fill::random);
  if (vision.boolean("use_absolute_position_embeddings", true)) {
    t.positions = position_table(prefix + "embeddings.position_embeddings", s, true);
  }
  const LayerNames names{.out = "attention.projection_layer",
                         .norm = "layernorm_before",
                         .ffn_norm = "layernorm_after",
                         .gain = "lambda_1",
                         .ffn_gain = "lambda_2"};
  const bool bias = vision.boolean("attention_bias", false);
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string name = prefix + "encoder.layer." + std::to_string(i) + ".";
    TowerLayer layer = vit_layer(vision, name, names, s);
    layer.qkv = query_key_value(name + "attention.", s, bias);
    if (vision.boolean("use_qk_norm", false)) add_qk_norms(name + "attention.", s, 1e-6, layer);
    t.layers.push_back(std::move(layer));
  }
  if (!vision.boolean("use_mean_pooling", true)) {
    t.final_norm = models::layer_norm(prefix + "layernorm", s.hidden, s.eps);
  }
  if (config.integer("vision_feature_layer", -limits::layers, limits::layers, -1) != -1) {
    keep_layers(config, "vision_feature_layer", s, t);
    t.final_norm = {};
  }
}

void describe_original_tower(const Fields& config, const TowerSizes& s, Tower& t) {
  const Fields vision = config.object("vision_config");
  const std::string prefix = "vision_model.";
  t.patches = patch_convolution(prefix + "embeddings.patch_embedding", s, true);
  t.class_token =
      models::vector_spec(prefix + "embeddings.class_embedding", s.hidden, models::Fill::random);
  // The table is that of the tower's own image size, whatever tiles the checkpoint now takes.
  const TowerSizes own = read_tower(vision, kInternVit);
  t.positions = position_table(prefix + "embeddings.position_embedding", own, true);
  const LayerNames names{
      .out = "attn.proj", .norm = "norm1", .ffn_norm = "norm2", .gain = "ls1", .ffn_gain = "ls2"};
  const bool bias = vision.boolean("qkv_bias", false);
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string name = prefix + "encoder.layers." + std::to_string(i) + ".";
    TowerLayer layer = vit_layer(vision, name, names, s);
    layer.qkv = linear(name + "attn.qkv", int64_t{3} * s.hidden, s.hidden, bias);
    if (vision.boolean("qk_normalization", true)) add_qk_norms(name + "attn.", s, s.eps, layer);
    t.layers.push_back(std::move(layer));
  }
  keep_layers(config, "select_layer", s, t);
}

Shuffle::Order read_order(const Fields& config) {
  const std::string version = config.text("ps_version", "v1");
  if (version != "v1" && version != "v2") {
    config.fail("ps_version", "is \"" + version + "\"; known are v1 and v2");
  }
  return version == "v1" ? Shuffle::Order::grid_by_columns : Shuffle::Order::grid;
}

}  // namespace

void describe_internvl(const Fields& config, VisionDescription& out) {
  const TowerSizes s = read_tower(config.object("vision_config"), kInternVit);
  const int32_t shuffle = read_shuffle(config);
  const int32_t hidden = text_hidden(config);
  describe_frame(s, shuffle, config, out.tower);
  describe_tower_of_transformers(config, s, out.tower);
  const std::string strategy = config.text("vision_feature_select_strategy", "default");
  if (strategy != "default") {
    config.fail("vision_feature_select_strategy", "is \"" + strategy + "\"; only default shuffles");
  }
  const int64_t wide = int64_t{s.hidden} * shuffle * shuffle;
  out.projector.push_back(Shuffle{shuffle, Shuffle::Order::grid});
  out.projector.push_back(Norm{models::layer_norm("multi_modal_projector.layer_norm", wide, 1e-5)});
  add_mlp(config, "multi_modal_projector.", wide, hidden, true, out.projector);
  out.rules.hidden = hidden;
  out.rules.image_token = read_image_token(config);
  out.renames = {{"vision_tower.", "model.vision_tower."},
                 {"multi_modal_projector.", "model.multi_modal_projector."}};
}

void describe_internvl_chat(const Fields& config, VisionDescription& out) {
  TowerSizes s = read_tower(config.object("vision_config"), kInternVit);
  s.image_size = config.count("force_image_size", 1 << 16, s.image_size);
  const int32_t shuffle = read_shuffle(config);
  const int32_t hidden = text_hidden(config);
  describe_frame(s, shuffle, config, out.tower);
  describe_original_tower(config, s, out.tower);
  const int64_t wide = int64_t{s.hidden} * shuffle * shuffle;
  out.projector = {Shuffle{shuffle, read_order(config)},
                   Norm{models::layer_norm("mlp1.0", wide, 1e-5)},
                   Linear{linear("mlp1.1", hidden, wide)}, Activate{Activation::gelu},
                   Linear{linear("mlp1.3", hidden, hidden)}};
  out.rules.hidden = hidden;
  out.rules.image_token = read_image_token(config);
}

}  // namespace troupe::vision
