// GPT-NeoX and Pythia: layer norms with bias, attention and feed-forward side by side, a share of
// each head rotated, q, k and v interleaved per head in one weight.
#include "models/families/common.hpp"
#include "models/families/list.hpp"

namespace troupe::models {

void describe_gpt_neox(const Fields& config, ModelDescription& out) {
  const Sizes s = read_sizes(config);
  const double eps = config.real("layer_norm_eps", 0.0, 1.0, 1e-5);
  const bool parallel = config.boolean("use_parallel_residual", true);
  const bool bias = config.boolean("attention_bias", true);
  const Activation activation = read_activation(config, "hidden_act", "gelu");
  describe_frame(config, s, out);
  out.ropes = {
      read_rope(config, {.head_dim = s.head_dim, .partial = 0.25, .context_length = s.context})};
  out.embedding.name = "gpt_neox.embed_in.weight";
  out.final_norm = layer_norm("gpt_neox.final_layer_norm", s.hidden, eps);
  if (out.head) out.head.parts.front().weight.name = "embed_out.weight";
  out.renames = {{"embed_out.", "lm_head."}, {"gpt_neox.", ""}};
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string prefix = "gpt_neox.layers." + std::to_string(i) + ".";
    Layer layer;
    GroupedQuery mixer = interleaved_attention(s, prefix + "attention.", bias);
    mixer.rope = 0;
    layer.mixer = std::move(mixer);
    Dense ffn;
    ffn.gated = false;
    ffn.activation = activation;
    ffn.up.parts = {split_rows(prefix + "mlp.dense_h_to_4h", s.inner, s.hidden, true)};
    ffn.down.parts = {split_columns(prefix + "mlp.dense_4h_to_h", s.hidden, s.inner, true)};
    layer.ffn = std::move(ffn);
    layer.residual = parallel ? Residual::parallel : Residual::sequential;
    layer.norm = layer_norm(prefix + "input_layernorm", s.hidden, eps);
    layer.ffn_norm = layer_norm(prefix + "post_attention_layernorm", s.hidden, eps);
    out.layers.push_back(std::move(layer));
  }
}

}  // namespace troupe::models
