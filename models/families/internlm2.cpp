// InternLM2 (inside InternVL-Chat 1.5 and most of InternVL 2): Llama under other names, q, k and v of
// each key head side by side in one tensor.
#include "base/limits.hpp"
#include "models/families/common.hpp"
#include "models/families/list.hpp"

namespace troupe::models {

void describe_internlm2(const Fields& config, ModelDescription& out) {
  const Sizes s = read_sizes(config);
  const double eps = config.real("rms_norm_eps", 0.0, 1.0, 1e-6);
  const Activation activation = read_activation(config, "hidden_act");
  const bool bias = config.boolean("bias", false);
  const int64_t dim = s.head_dim, shared = s.heads / s.kv_heads, group = (shared + 2) * dim;
  const int64_t q = s.heads * dim, kv = s.kv_heads * dim;
  describe_frame(config, s, out);
  out.embedding.name = "model.tok_embeddings.weight";
  if (out.head) out.head.parts.front().weight.name = "output.weight";
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    const std::string fused = prefix + "attention.wqkv";
    Layer layer;
    GroupedQuery mixer = separate_attention(s, {prefix + "attention."});
    mixer.qkv.parts = {picked(split_rows(fused, q, s.hidden, bias, shared * dim),
                              {.of = group, .begin = 0, .count = shared * dim}),
                       picked(split_kv(fused, kv, s.hidden, bias, dim),
                              {.of = group, .begin = shared * dim, .count = dim}),
                       picked(split_kv(fused, kv, s.hidden, bias, dim),
                              {.of = group, .begin = (shared + 1) * dim, .count = dim})};
    mixer.out.parts = {split_columns(prefix + "attention.wo", s.hidden, q, bias, dim)};
    layer.mixer = std::move(mixer);
    Dense ffn;
    ffn.activation = activation;
    ffn.up.parts = {split_rows(prefix + "feed_forward.w1", s.inner, s.hidden),
                    split_rows(prefix + "feed_forward.w3", s.inner, s.hidden)};
    ffn.down.parts = {split_columns(prefix + "feed_forward.w2", s.hidden, s.inner)};
    layer.ffn = std::move(ffn);
    layer.norm = rms_norm(prefix + "attention_norm", s.hidden, eps);
    layer.ffn_norm = rms_norm(prefix + "ffn_norm", s.hidden, eps);
    out.layers.push_back(std::move(layer));
  }
}

}  // namespace troupe::models
