// MiniCPM-V 2.6: SigLIP over slices of any grid (positions by buckets, NaViT), a perceiver that makes
// 64 rows of each.
#include "base/limits.hpp"
#include "vision/families/common.hpp"
#include "vision/families/families.hpp"

namespace troupe::vision {
namespace {

// One third of torch's fused in_proj.
models::LinearSpec third(int64_t width, int64_t index) {
  models::LinearPartSpec part;
  part.weight = {.name = "resampler.attn.in_proj_weight", .rows = width, .cols = width};
  part.weight.pick = {.of = 3 * width, .begin = index * width, .count = width};
  part.bias = "resampler.attn.in_proj_bias";
  models::LinearSpec out;
  out.parts = {part};
  return out;
}

Resampler resampler(int64_t queries, int64_t width, int64_t hidden) {
  constexpr int32_t kHeadDim = 128;
  constexpr int32_t kSideMax = 256;
  Resampler out;
  out.queries = {.name = "resampler.query", .rows = queries, .cols = width};
  out.kv = linear("resampler.kv_proj", width, hidden, false);
  out.query_norm = models::layer_norm("resampler.ln_q", width, 1e-6);
  out.kv_norm = models::layer_norm("resampler.ln_kv", width, 1e-6);
  out.post_norm = models::layer_norm("resampler.ln_post", width, 1e-6);
  out.q = third(width, 0);
  out.k = third(width, 1);
  out.v = third(width, 2);
  out.out = linear("resampler.attn.out_proj", width, width);
  models::LinearPartSpec projection;
  projection.weight = {
      .name = "resampler.proj", .rows = width, .cols = width, .transposed = true};
  out.projection.parts = {projection};
  out.heads = static_cast<int32_t>(std::max<int64_t>(1, width / kHeadDim));
  out.side_max = kSideMax;
  return out;
}

}  // namespace

void describe_minicpmv(const models::Fields& config, VisionDescription& out) {
  const double version = config.real("version", 0.0, 100.0, 2.6);
  if (version < 2.55 || version > 2.65) {
    config.fail("version", "is " + std::to_string(version) + "; 2.6 is known");
  }
  const models::Fields vision = config.object("vision_config");
  const TowerSizes s = read_tower(vision, {.hidden = 1152,
                                           .inner = 4304,
                                           .layers = 27,
                                           .heads = 16,
                                           .image_size = 980,
                                           .patch_size = 14,
                                           .activation = "gelu_pytorch_tanh"});
  const int32_t hidden = text_hidden(config);
  if (hidden % 4 != 0) config.fail("hidden_size", "must be a multiple of 4");
  const std::string prefix = "vpm.";
  Tower& t = out.tower;
  t.patches = patch_convolution(prefix + "embeddings.patch_embedding", s, true);
  PositionTable positions =
      position_table(prefix + "embeddings.position_embedding.weight", s, false);
  positions.fit = PositionTable::Fit::exact_buckets;
  t.positions = positions;
  add_clip_layers(prefix, s, t);
  if (config.boolean("drop_vision_last_layer", false)) t.layers.pop_back();
  out.projector = {resampler(config.count("query_num", 1 << 16, 64), hidden, s.hidden)};
  out.rules.hidden = hidden;
  out.rules.image_token = read_image_token(config);
}

}  // namespace troupe::vision
