// The vocabulary that visual families are written in: the towers and projectors that several share.
#pragma once

#include <string>

#include "models/config.hpp"
#include "models/families/common.hpp"
#include "vision/tower.hpp"

namespace troupe::vision {

struct TowerSizes {
  int32_t hidden = 0, inner = 0, layers = 0, heads = 0;
  int32_t image_size = 0, patch_size = 0, channels = 3;
  double eps = 1e-5;
  Activation activation = Activation::gelu;
  [[nodiscard]] int32_t side() const { return image_size / patch_size; }
  [[nodiscard]] int32_t patch_values() const { return channels * patch_size * patch_size; }
  [[nodiscard]] float attention_scale() const;  // one over the root of a head's width
};
struct TowerDefaults {
  int32_t hidden = 768, inner = 3072, layers = 12, heads = 12, image_size = 224, patch_size = 16;
  double eps = 1e-6;
  std::string_view activation = "gelu";
};
// The sizes under transformers' usual names; also refuses heads that do not divide the width.
TowerSizes read_tower(const models::Fields& vision, const TowerDefaults& defaults);

// Width, heads and patches of a tower of these sizes.
void set_frame(const TowerSizes& s, Tower& t);

// A width of the language half: hidden_size of its config.
int32_t text_hidden(const models::Fields& config);
// image_token_id or image_token_index; -1 when neither is there.
int32_t read_image_token(const models::Fields& config);

// A linear layer; on a vision tower everything is whole.
models::LinearSpec linear(const std::string& name, int64_t out, int64_t in, bool bias = true);
models::LinearSpec linears(const std::vector<std::string>& names, int64_t out_each, int64_t in,
                           bool bias = true);
// q_proj, k_proj and v_proj under `prefix`.
models::LinearSpec query_key_value(const std::string& prefix, const TowerSizes& s, bool bias = true);
models::Dense plain_ffn(const std::string& up, const std::string& down, const TowerSizes& s);
models::LinearSpec patch_convolution(const std::string& name, const TowerSizes& s, bool bias);
PositionTable position_table(const std::string& name, const TowerSizes& s, bool with_class);

// What vision_feature_layer says, as states of `layers` layers: the last needed layer is the last
// described. Negative ones count from the end.
std::vector<int32_t> read_feature_layers(const models::Fields& config, std::string_view key,
                                         int32_t layers, int64_t otherwise);
// The tower under vision_tower, by vision_config.model_type: CLIP, SigLIP or Pixtral. Also adds the
// names that newer checkpoints have for it.
void describe_tower(const models::Fields& config, VisionDescription& out);
// Hugging Face's encoder layers of CLIP and SigLIP, and the sizes of their frame.
void add_clip_layers(const std::string& prefix, const TowerSizes& s, Tower& t);
// linear_1, activation, linear_2 under `prefix`.
void add_mlp(const models::Fields& config, const std::string& prefix, int64_t in, int64_t hidden,
             bool bias, std::vector<Stage>& out);

}  // namespace troupe::vision
