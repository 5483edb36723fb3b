// Qwen2-VL and Qwen2.5-VL: a ViT over pictures of any size with rotations over rows and columns;
// merged patches become rows whose positions in the text are those of a grid (M-RoPE). 2.5 attends
// within windows in most layers and has RMS norms and gated feed-forwards.
#include <algorithm>
#include <cmath>

#include "base/limits.hpp"
#include "vision/families/common.hpp"
#include "vision/families/families.hpp"

namespace troupe::vision {
namespace {

using models::Fields;

struct Sizes {
  int32_t hidden = 0, heads = 0, layers = 0, inner = 0;
  int32_t merge = 2, patch = 14, frames = 2, channels = 3;
};

void describe_frame(const Fields& vision, Sizes& s, Tower& t) {
  s.layers = vision.count("depth", limits::layers, 32);
  s.heads = vision.count("num_heads", limits::heads, 16);
  s.patch = vision.count(vision.either("patch_size", "spatial_patch_size"), 1024, 14);
  s.merge = vision.count("spatial_merge_size", 64, 2);
  s.frames = vision.count("temporal_patch_size", 64, 2);
  s.channels = vision.count(vision.either("in_channels", "in_chans"), 16, 3);
  if (s.hidden % (4 * s.heads) != 0) {
    vision.fail("num_heads", "is " + std::to_string(s.heads) + "; heads of " +
                                 std::to_string(s.hidden) + " / heads must be multiples of 4 wide");
    s.heads = 1;
  }
  t.hidden = s.hidden;
  t.heads = s.heads;
  t.patch_size = s.patch;
  t.patch_values = s.channels * s.frames * s.patch * s.patch;
  t.merge = s.merge;
  t.patches = linear("visual.patch_embed.proj", s.hidden, t.patch_values, false);
  const int32_t head_dim = s.hidden / s.heads;
  const int32_t quarter = head_dim / 4;
  t.rope.row_pairs = quarter;
  for (int32_t axis = 0; axis < 2; ++axis) {
    for (int32_t i = 0; i < quarter; ++i) {
      t.rope.frequencies.push_back(
          static_cast<float>(1.0 / std::pow(10000.0, 2.0 * i / (head_dim / 2.0))));
    }
  }
}

TowerLayer attention(const std::string& name, const Sizes& s) {
  TowerLayer layer;
  layer.qkv = linear(name + "attn.qkv", int64_t{3} * s.hidden, s.hidden);
  layer.out = linear(name + "attn.proj", s.hidden, s.hidden);
  layer.scale = 1.0F / std::sqrt(static_cast<float>(s.hidden / s.heads));
  return layer;
}

void add_merger(const models::NormSpec& norm, const Sizes& s, int32_t out_hidden,
                VisionDescription& out) {
  const int64_t wide = int64_t{s.hidden} * s.merge * s.merge;
  out.projector = {Norm{norm}, Shuffle{s.merge, Shuffle::Order::blocks},
                   Linear{linear("visual.merger.mlp.0", wide, wide)}, Activate{Activation::gelu},
                   Linear{linear("visual.merger.mlp.2", out_hidden, wide)}};
}

// `width` names the field of the tower that says how wide its rows are: as the language model is.
void finish(const Fields& config, const Fields& vision, const char* width, VisionDescription& out) {
  out.rules.rope = SightRope::grid;
  out.rules.hidden = text_hidden(config);
  out.rules.image_token = read_image_token(config);
  out.renames = {{"visual.", "model.visual."}};
  const int32_t wide = vision.count(width, limits::hidden, out.rules.hidden);
  if (wide != out.rules.hidden) {
    vision.fail(width, "is " + std::to_string(wide) + ", the language model's is " +
                           std::to_string(out.rules.hidden));
  }
}

}  // namespace

void describe_qwen2_vl(const Fields& config, VisionDescription& out) {
  const Fields vision = config.object("vision_config");
  Sizes s;
  s.hidden = vision.count("embed_dim", limits::hidden, 1280);
  describe_frame(vision, s, out.tower);
  const double ratio = vision.real("mlp_ratio", 0.01, 64.0, 4.0);
  TowerSizes ffn;
  ffn.hidden = s.hidden;
  ffn.inner = static_cast<int32_t>(s.hidden * ratio);
  ffn.activation = models::read_activation(vision, "hidden_act", "quick_gelu");
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string name = "visual.blocks." + std::to_string(i) + ".";
    TowerLayer layer = attention(name, s);
    layer.ffn = plain_ffn(name + "mlp.fc1", name + "mlp.fc2", ffn);
    layer.norm = models::layer_norm(name + "norm1", s.hidden, 1e-6);
    layer.ffn_norm = models::layer_norm(name + "norm2", s.hidden, 1e-6);
    out.tower.layers.push_back(std::move(layer));
  }
  finish(config, vision, "hidden_size", out);
  add_merger(models::layer_norm("visual.merger.ln_q", s.hidden, 1e-6), s, out.rules.hidden, out);
}

void describe_qwen2_5_vl(const Fields& config, VisionDescription& out) {
  const Fields vision = config.object("vision_config");
  Sizes s;
  s.hidden = vision.count("hidden_size", limits::hidden, 3584);
  describe_frame(vision, s, out.tower);
  s.inner = vision.count("intermediate_size", limits::inner, 3420);
  const Activation activation = models::read_activation(vision, "hidden_act", "silu");
  const int32_t window = vision.count("window_size", 1 << 16, 112);
  out.tower.window = window / s.merge / s.patch;
  if (out.tower.window < 1) {
    vision.fail("window_size", "is " + std::to_string(window) + ", less than one merged patch of " +
                                   std::to_string(s.merge * s.patch));
  }
  std::vector<int64_t> whole = vision.integers("fullatt_block_indexes", 0, limits::layers);
  if (!vision.has("fullatt_block_indexes")) whole = {7, 15, 23, 31};
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string name = "visual.blocks." + std::to_string(i) + ".";
    TowerLayer layer = attention(name, s);
    layer.windowed = std::find(whole.begin(), whole.end(), i) == whole.end();
    layer.ffn = models::gated_ffn(name + "mlp.", s.hidden, s.inner, activation, true);
    layer.norm = models::rms_norm(name + "norm1", s.hidden, 1e-6);
    layer.ffn_norm = models::rms_norm(name + "norm2", s.hidden, 1e-6);
    out.tower.layers.push_back(std::move(layer));
  }
  finish(config, vision, "out_hidden_size", out);
  add_merger(models::rms_norm("visual.merger.ln_q", s.hidden, 1e-6), s, out.rules.hidden, out);
}

}  // namespace troupe::vision
