// Language halves that no text model has. CogVLM2: Llama 3 whose attention and feed-forward have second weights for image
// rows (visual experts), which share one rope position (RopeConfig::sections: the plan says which).
#include "base/limits.hpp"
#include "models/families/common.hpp"
#include "models/families/list.hpp"
#include "models/families/nested.hpp"

namespace troupe::models {
namespace {

// q, k and v lie one behind the other in one tensor.
std::vector<LinearPartSpec> fused_qkv(const std::string& name, const Sizes& s, bool bias) {
  const int64_t dim = s.head_dim, q = s.heads * dim, kv = s.kv_heads * dim, all = q + 2 * kv;
  return {picked(split_rows(name, q, s.hidden, bias, dim), {.of = all, .begin = 0, .count = q}),
          picked(split_kv(name, kv, s.hidden, bias, dim), {.of = all, .begin = q, .count = kv}),
          picked(split_kv(name, kv, s.hidden, bias, dim),
                 {.of = all, .begin = q + kv, .count = kv})};
}

}  // namespace

void describe_cogvlm2(const Fields& config, ModelDescription& out) {
  Sizes s = read_sizes(config);
  s.kv_heads = config.count("num_multi_query_heads", limits::heads, s.kv_heads);
  if (s.heads % s.kv_heads != 0) {
    config.fail("num_multi_query_heads", "must divide num_attention_heads");
    s.kv_heads = s.heads;
  }
  const double eps = config.real("rms_norm_eps", 0.0, 1.0, 1e-5);
  describe_frame(config, s, out);
  RopeConfig rope;
  rope.rotary_dim = s.head_dim;
  rope.theta = config.real("rope_theta", 1.0 + 1e-6, 1e15, 500000.0);
  rope.sections[0] = s.head_dim / 2;
  out.ropes = {rope};
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    const std::string attention = prefix + "self_attn.";
    Layer layer;
    GroupedQuery mixer = separate_attention(s, {attention});
    mixer.qkv.parts = fused_qkv(attention + "language_expert_query_key_value", s, false);
    mixer.qkv.vision = fused_qkv(attention + "vision_expert_query_key_value", s, true);
    const int64_t width = int64_t{s.heads} * s.head_dim;
    mixer.out.parts = {split_columns(attention + "language_expert_dense", s.hidden, width, false,
                                     s.head_dim)};
    mixer.out.vision = {split_columns(attention + "vision_expert_dense", s.hidden, width, false,
                                      s.head_dim)};
    layer.mixer = std::move(mixer);
    Dense text = gated_ffn(prefix + "mlp.language_mlp.", s.hidden, s.inner, Activation::silu);
    Dense vision = gated_ffn(prefix + "mlp.vision_mlp.", s.hidden, s.inner, Activation::silu);
    text.up.vision = std::move(vision.up.parts);
    text.down.vision = std::move(vision.down.parts);
    layer.ffn = std::move(text);
    layer.norm = rms_norm(prefix + "input_layernorm", s.hidden, eps);
    layer.ffn_norm = rms_norm(prefix + "post_attention_layernorm", s.hidden, eps);
    out.layers.push_back(std::move(layer));
  }
  out.vision = true;
}

// MiniCPM-V 2.6: Qwen2, its fields flat, its weights under llm.
void describe_minicpmv(const Fields& config, ModelDescription& out) {
  describe_qwen2(config, out);
  out.vision = true;
  out.renames.emplace_back("model.", "llm.model.");
  out.renames.emplace_back("lm_head.", "llm.lm_head.");
}

}  // namespace troupe::models
