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
  t.hidden = s.hidden;
  t.heads = s.heads;
  t.patch_size = s.patch_size;
  t.patch_values = s.channels * s.patch_size * s.patch_size;
  t.tile_side = s.side();
  if (t.tile_side % shuffle != 0) {
    config.fail("downsample_ratio", "takes blocks of " + std::to_string(shuffle) +
                                        ", which do not divide the " + std::to_string(t.tile_side) +
                                        " patches of a tile's side");
  }
}

constexpr TowerDefaults kInternVit{.hidden = 1024,
                                   .inner = 4096,
                                   .layers = 24,
                                   .heads = 16,
                                   .image_size = 448,
                                   .patch_size = 14,
                                   .eps = 1e-6,
                                   .activation = "gelu"};

}  // namespace

void describe_internvl(const Fields& config, VisionDescription& out) {
  const Fields vision = config.object("vision_config");
  const TowerSizes s = read_tower(vision, kInternVit);
  const int32_t shuffle = read_shuffle(config);
  const int32_t hidden = text_hidden(config);
  const bool bias = vision.boolean("attention_bias", false);
  const std::string prefix = "vision_tower.";
  Tower& t = out.tower;
  describe_frame(s, shuffle, config, t);
  t.patches = patch_convolution(prefix + "embeddings.patch_embeddings.projection", s, true);
  t.class_token =
      models::vector_spec(prefix + "embeddings.cls_token", s.hidden, models::Fill::random);
  if (vision.boolean("use_absolute_position_embeddings", true)) {
    t.positions = position_table(prefix + "embeddings.position_embeddings", s, true);
  }
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string name = prefix + "encoder.layer." + std::to_string(i) + ".";
    const std::string attention = name + "attention.";
    TowerLayer layer;
    layer.qkv = linears({attention + "q_proj", attention + "k_proj", attention + "v_proj"},
                        s.hidden, s.hidden, bias);
    layer.out = linear(attention + "projection_layer", s.hidden, s.hidden);
    layer.scale = 1.0F / std::sqrt(static_cast<float>(s.hidden / s.heads));
    if (vision.boolean("use_qk_norm", false)) {  // over all heads together
      layer.q_norm = models::rms_norm(attention + "q_norm", s.hidden, 1e-6);
      layer.k_norm = models::rms_norm(attention + "k_norm", s.hidden, 1e-6);
    }
    layer.ffn = plain_ffn(name + "mlp.fc1", name + "mlp.fc2", s);
    layer.norm = vit_norm(vision, name + "layernorm_before", s);
    layer.ffn_norm = vit_norm(vision, name + "layernorm_after", s);
    layer.gain = models::vector_spec(name + "lambda_1", s.hidden, models::Fill::ones);
    layer.ffn_gain = models::vector_spec(name + "lambda_2", s.hidden, models::Fill::ones);
    t.layers.push_back(std::move(layer));
  }
  if (!vision.boolean("use_mean_pooling", true)) {
    t.final_norm = models::layer_norm(prefix + "layernorm", s.hidden, s.eps);
  }
  const int64_t feature = config.integer("vision_feature_layer", -limits::layers, limits::layers, -1);
  if (feature != -1) {
    t.taken = read_feature_layers(config, "vision_feature_layer", s.layers, -1);
    t.layers.resize(static_cast<size_t>(t.taken.front()));
    t.final_norm = {};
  }
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
  const Fields vision = config.object("vision_config");
  TowerSizes s = read_tower(vision, kInternVit);
  s.image_size = config.count("force_image_size", 1 << 16, s.image_size);
  const int32_t shuffle = read_shuffle(config);
  const int32_t hidden = text_hidden(config);
  const bool bias = vision.boolean("qkv_bias", false);
  const std::string prefix = "vision_model.";
  Tower& t = out.tower;
  describe_frame(s, shuffle, config, t);
  t.patches = patch_convolution(prefix + "embeddings.patch_embedding", s, true);
  t.class_token =
      models::vector_spec(prefix + "embeddings.class_embedding", s.hidden, models::Fill::random);
  // The table is that of the tower's own image size, whatever tiles the checkpoint now takes.
  const TowerSizes own = read_tower(vision, kInternVit);
  t.positions = position_table(prefix + "embeddings.position_embedding", own, true);
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string name = prefix + "encoder.layers." + std::to_string(i) + ".";
    TowerLayer layer;
    layer.qkv = linear(name + "attn.qkv", int64_t{3} * s.hidden, s.hidden, bias);
    layer.out = linear(name + "attn.proj", s.hidden, s.hidden);
    layer.scale = 1.0F / std::sqrt(static_cast<float>(s.hidden / s.heads));
    if (vision.boolean("qk_normalization", true)) {
      layer.q_norm = models::rms_norm(name + "attn.q_norm", s.hidden, s.eps);
      layer.k_norm = models::rms_norm(name + "attn.k_norm", s.hidden, s.eps);
    }
    layer.ffn = plain_ffn(name + "mlp.fc1", name + "mlp.fc2", s);
    layer.norm = vit_norm(vision, name + "norm1", s);
    layer.ffn_norm = vit_norm(vision, name + "norm2", s);
    layer.gain = models::vector_spec(name + "ls1", s.hidden, models::Fill::ones);
    layer.ffn_gain = models::vector_spec(name + "ls2", s.hidden, models::Fill::ones);
    t.layers.push_back(std::move(layer));
  }
  t.taken = read_feature_layers(config, "select_layer", s.layers, -1);
  t.layers.resize(static_cast<size_t>(t.taken.front()));
  const std::string version = config.text("ps_version", "v1");
  if (version != "v1" && version != "v2") {
    config.fail("ps_version", "is \"" + version + "\"; known are v1 and v2");
  }
  const int64_t wide = int64_t{s.hidden} * shuffle * shuffle;
  out.projector = {Shuffle{shuffle, version == "v1" ? Shuffle::Order::grid_by_columns
                                                    : Shuffle::Order::grid},
                   Norm{models::layer_norm("mlp1.0", wide, 1e-5)},
                   Linear{linear("mlp1.1", hidden, wide)}, Activate{Activation::gelu},
                   Linear{linear("mlp1.3", hidden, hidden)}};
  out.rules.hidden = hidden;
  out.rules.image_token = read_image_token(config);
}

}  // namespace troupe::vision
