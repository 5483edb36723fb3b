#include "vision/families/common.hpp"

#include <algorithm>
#include <cmath>

#include "base/limits.hpp"
#include "models/families/nested.hpp"

namespace troupe::vision {

using models::Fields;
using models::layer_norm;
using models::LinearSpec;

namespace {

constexpr int32_t kImageSizeMax = 1 << 16;
constexpr int32_t kPatchSizeMax = 1024;

int32_t read_side(const Fields& vision, std::string_view key, int32_t high, int32_t otherwise) {
  const auto given = vision.integers(key, 1, high);
  if (given.empty()) return otherwise;
  for (const int64_t side : given) {
    if (side != given.front()) vision.fail(key, "must be square");
  }
  return static_cast<int32_t>(given.front());
}

}  // namespace

TowerSizes read_tower(const Fields& vision, const TowerDefaults& d) {
  TowerSizes s;
  s.hidden = vision.count("hidden_size", limits::hidden, d.hidden);
  s.inner = vision.count("intermediate_size", limits::inner, d.inner);
  s.layers = vision.count("num_hidden_layers", limits::layers, d.layers);
  const std::string_view heads =
      vision.either("num_attention_heads", vision.either("num_heads", "attention_heads"));
  s.heads = vision.count(heads, limits::heads, d.heads);
  s.image_size = read_side(vision, "image_size", kImageSizeMax, d.image_size);
  s.patch_size = read_side(vision, "patch_size", kPatchSizeMax, d.patch_size);
  s.channels = vision.count("num_channels", 16, 3);
  s.eps = vision.real("layer_norm_eps", 0.0, 1.0, d.eps);
  s.activation = models::read_activation(vision, "hidden_act", d.activation);
  if (s.hidden % s.heads != 0) {
    vision.fail(heads, "is " + std::to_string(s.heads) + ", which does not divide hidden_size " +
                           std::to_string(s.hidden));
    s.heads = 1;
  }
  if (s.image_size < s.patch_size) {
    vision.fail("image_size", "is " + std::to_string(s.image_size) + ", less than patch_size " +
                                  std::to_string(s.patch_size));
    s.image_size = s.patch_size;
  }
  return s;
}

float TowerSizes::attention_scale() const {
  return 1.0F / std::sqrt(static_cast<float>(hidden / heads));
}

void set_frame(const TowerSizes& s, Tower& t) {
  t.hidden = s.hidden;
  t.heads = s.heads;
  t.patch_size = s.patch_size;
  t.patch_values = s.patch_values();
}

int32_t text_hidden(const Fields& config) {
  return models::text_config(config).count("hidden_size", limits::hidden);
}

int32_t read_image_token(const Fields& config) {
  const std::string_view key = config.either("image_token_id", "image_token_index");
  return static_cast<int32_t>(config.integer(key, 0, limits::vocabulary, -1));
}

LinearSpec linear(const std::string& name, int64_t out, int64_t in, bool bias) {
  LinearSpec spec;
  spec.parts = {models::whole(name, out, in, bias)};
  return spec;
}

LinearSpec linears(const std::vector<std::string>& names, int64_t out_each, int64_t in, bool bias) {
  LinearSpec spec;
  for (const std::string& name : names) {
    spec.parts.push_back(models::whole(name, out_each, in, bias));
  }
  return spec;
}

LinearSpec query_key_value(const std::string& prefix, const TowerSizes& s, bool bias) {
  return linears({prefix + "q_proj", prefix + "k_proj", prefix + "v_proj"}, s.hidden, s.hidden, bias);
}

models::Dense plain_ffn(const std::string& up, const std::string& down, const TowerSizes& s) {
  models::Dense f;
  f.gated = false;
  f.activation = s.activation;
  f.up = linear(up, s.inner, s.hidden);
  f.down = linear(down, s.hidden, s.inner);
  return f;
}

LinearSpec patch_convolution(const std::string& name, const TowerSizes& s, bool bias) {
  return linear(name, s.hidden, s.patch_values(), bias);
}

PositionTable position_table(const std::string& name, const TowerSizes& s, bool with_class) {
  PositionTable out;
  out.side = s.side();
  out.table.name = name;
  out.table.rows = int64_t{out.side} * out.side + (with_class ? 1 : 0);
  out.table.cols = s.hidden;
  return out;
}

std::vector<int32_t> read_feature_layers(const Fields& config, std::string_view key, int32_t layers,
                                         int64_t otherwise) {
  std::vector<int64_t> given = config.integers(key, -limits::layers, limits::layers);
  if (given.empty()) given = {otherwise};
  std::vector<int32_t> out;
  for (const int64_t layer : given) {
    const int64_t state = layer < 0 ? layers + 1 + layer : layer;
    if (state < 0 || state > layers) {
      config.fail(key, "is " + std::to_string(layer) + ", the tower has " +
                           std::to_string(layers) + " layers");
      return {0};
    }
    out.push_back(static_cast<int32_t>(state));
  }
  return out;
}

void add_clip_layers(const std::string& prefix, const TowerSizes& s, Tower& t) {
  set_frame(s, t);
  t.final_norm = layer_norm(prefix + "post_layernorm", s.hidden, s.eps);
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string name = prefix + "encoder.layers." + std::to_string(i) + ".";
    TowerLayer layer;
    layer.qkv = query_key_value(name + "self_attn.", s);
    layer.out = linear(name + "self_attn.out_proj", s.hidden, s.hidden);
    layer.scale = s.attention_scale();
    layer.ffn = plain_ffn(name + "mlp.fc1", name + "mlp.fc2", s);
    layer.norm = layer_norm(name + "layer_norm1", s.hidden, s.eps);
    layer.ffn_norm = layer_norm(name + "layer_norm2", s.hidden, s.eps);
    t.layers.push_back(std::move(layer));
  }
}

namespace {

void describe_clip(const Fields& vision, const std::string& prefix, Tower& t) {
  const TowerSizes s = read_tower(
      vision, {.patch_size = 32, .eps = 1e-5, .activation = "quick_gelu"});
  t.tile_side = s.side();
  t.patches = patch_convolution(prefix + "embeddings.patch_embedding", s, false);
  t.class_token = models::vector_spec(prefix + "embeddings.class_embedding", s.hidden,
                                      models::Fill::random);
  t.first_norm = layer_norm(prefix + "pre_layrnorm", s.hidden, s.eps);
  t.positions = position_table(prefix + "embeddings.position_embedding.weight", s, true);
  add_clip_layers(prefix, s, t);
}

void describe_siglip(const Fields& vision, const std::string& prefix, Tower& t) {
  const TowerSizes s = read_tower(vision, {.activation = "gelu_pytorch_tanh"});
  t.tile_side = s.side();
  t.patches = patch_convolution(prefix + "embeddings.patch_embedding", s, true);
  t.positions = position_table(prefix + "embeddings.position_embedding.weight", s, false);
  add_clip_layers(prefix, s, t);
}

// Pixtral's: pictures of any size, rotations over rows and columns with frequencies in turn, RMS
// norms, gated feed-forwards.
void describe_pixtral(const Fields& vision, const std::string& prefix, Tower& t) {
  const TowerSizes s = read_tower(vision, {.hidden = 1024,
                                           .inner = 4096,
                                           .layers = 24,
                                           .heads = 16,
                                           .image_size = 1024,
                                           .patch_size = 16});
  const double flat = vision.real("rope_theta", 1.0 + 1e-6, 1e15, 10000.0);
  const double theta = vision.object("rope_parameters").real("rope_theta", 1.0 + 1e-6, 1e15, flat);
  set_frame(s, t);
  t.patches = patch_convolution(prefix + "patch_conv", s, false);
  t.first_norm = models::rms_norm(prefix + "ln_pre", s.hidden, 1e-5);
  const int32_t head_dim = s.hidden / s.heads;
  if (head_dim % 4 != 0) {
    vision.fail("num_attention_heads", "makes heads of " + std::to_string(head_dim) +
                                           ", which must be a multiple of 4");
  }
  t.rope.row_pairs = head_dim / 4;
  for (int32_t axis = 0; axis < 2; ++axis) {
    for (int32_t i = axis; i < head_dim / 2; i += 2) {
      t.rope.frequencies.push_back(
          static_cast<float>(1.0 / std::pow(theta, 2.0 * i / head_dim)));
    }
  }
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string name = prefix + "transformer.layers." + std::to_string(i) + ".";
    const std::string attention = name + "attention.";
    TowerLayer layer;
    layer.qkv = query_key_value(attention, s, false);
    layer.out = linear(attention + "o_proj", s.hidden, s.hidden, false);
    layer.scale = s.attention_scale();
    layer.ffn = models::gated_ffn(name + "feed_forward.", s.hidden, s.inner, s.activation);
    layer.norm = models::rms_norm(name + "attention_norm", s.hidden, 1e-5);
    layer.ffn_norm = models::rms_norm(name + "ffn_norm", s.hidden, 1e-5);
    t.layers.push_back(std::move(layer));
  }
}

}  // namespace

void describe_tower(const Fields& config, VisionDescription& out) {
  const Fields vision = config.object("vision_config");
  const std::string kind = vision.text("model_type", "clip_vision_model");
  const std::string deep = "vision_tower.vision_model.";
  out.renames.emplace_back("vision_tower.", "model.vision_tower.");
  out.renames.emplace_back(deep, "vision_tower.");
  out.renames.emplace_back(deep, "model.vision_tower.");
  if (kind == "clip_vision_model" || kind == "clip") return describe_clip(vision, deep, out.tower);
  if (kind == "siglip_vision_model" || kind == "siglip") {
    return describe_siglip(vision, deep, out.tower);
  }
  if (kind == "pixtral") return describe_pixtral(vision, "vision_tower.", out.tower);
  vision.fail("model_type", "is \"" + kind.substr(0, 64) +
                                "\"; known are clip_vision_model, siglip_vision_model, pixtral");
}

void add_mlp(const Fields& config, const std::string& prefix, int64_t in, int64_t hidden, bool bias,
             std::vector<Stage>& out) {
  const Activation activation = models::read_activation(config, "projector_hidden_act", "gelu");
  out.push_back(Linear{linear(prefix + "linear_1", hidden, in, bias)});
  out.push_back(Activate{activation});
  out.push_back(Linear{linear(prefix + "linear_2", hidden, hidden, bias)});
}

}  // namespace troupe::vision
