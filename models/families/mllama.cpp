// Llama 3.2 Vision's language half: Llama with gated cross-attention layers between, which see the
// rows of pictures. Tokens that see none pass them by.
#include <algorithm>

#include "base/limits.hpp"
#include "models/families/common.hpp"
#include "models/families/list.hpp"
#include "models/families/nested.hpp"

namespace troupe::models {
namespace {

// Rows that the tower makes of the largest picture.
int32_t rows_of_picture(const Fields& vision) {
  const int32_t image = vision.count("image_size", 1 << 16, 448);
  const int32_t patch = vision.count("patch_size", 1024, 14);
  const int32_t tiles = vision.count("max_num_tiles", 64, 4);
  const int32_t side = image / patch;
  return tiles * (side * side + 1);
}

Layer cross_layer(const std::string& prefix, const Sizes& s, int32_t encoder_rows, double eps) {
  const std::string name = prefix + "cross_attn.";
  const int64_t q = int64_t{s.heads} * s.head_dim, kv = int64_t{s.kv_heads} * s.head_dim;
  GroupedQuery shape = separate_attention(s, {name});
  Cross mixer;
  mixer.heads = s.heads;
  mixer.kv_heads = s.kv_heads;
  mixer.head_dim = s.head_dim;
  mixer.encoder_rows = encoder_rows;
  mixer.encoder_dim = s.hidden;
  mixer.q.parts = {split_rows(name + "q_proj", q, s.hidden, false, s.head_dim)};
  mixer.kv.parts = {split_kv(name + "k_proj", kv, s.hidden, false, s.head_dim),
                    split_kv(name + "v_proj", kv, s.hidden, false, s.head_dim)};
  mixer.out = std::move(shape.out);
  mixer.q_norm = rms_norm(name + "q_norm", s.head_dim, eps);
  mixer.k_norm = rms_norm(name + "k_norm", s.head_dim, eps);
  mixer.q_norm.group = mixer.k_norm.group = s.head_dim;
  mixer.scale = shape.scale;
  Layer layer;
  layer.mixer = std::move(mixer);
  layer.mixer_gate = vector_spec(prefix + "cross_attn_attn_gate", 1, Fill::random);
  layer.ffn_gate = vector_spec(prefix + "cross_attn_mlp_gate", 1, Fill::random);
  return layer;
}

}  // namespace

void describe_mllama(const Fields& config, ModelDescription& out) {
  constexpr int32_t kPictures = 4;  // per prompt; each costs cache in every cross-attention layer
  constexpr int32_t kImageTokens = 8;  // embedded behind the vocabulary, never predicted
  const Fields text = text_config(config);
  const Sizes s = read_sizes(text);
  const double eps = text.real("rms_norm_eps", 0.0, 1.0, 1e-5);
  const Activation activation = read_activation(text, "hidden_act");
  const auto crossed = text.integers("cross_attention_layers", 0, limits::layers);
  const int32_t rows = kPictures * rows_of_picture(config.object("vision_config"));
  describe_frame(text, s, out);
  out.embedding.rows += kImageTokens;
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    const bool cross = std::find(crossed.begin(), crossed.end(), i) != crossed.end();
    Layer layer = cross ? cross_layer(prefix, s, rows, eps) : Layer{};
    if (!cross) layer.mixer = separate_attention(s, {prefix + "self_attn."});
    layer.ffn = gated_ffn(prefix + "mlp.", s.hidden, s.inner, activation);
    layer.norm = rms_norm(prefix + "input_layernorm", s.hidden, eps);
    layer.ffn_norm = rms_norm(prefix + "post_attention_layernorm", s.hidden, eps);
    out.layers.push_back(std::move(layer));
  }
  add_nested_names(out);
}

}  // namespace troupe::models
