// Gemma 2: norms around both branches, weights stored minus one, soft-capped scores and logits,
// every other layer with a sliding window, embeddings scaled by the root of their size.
#include <cmath>

#include "base/limits.hpp"
#include "models/families/common.hpp"
#include "models/families/list.hpp"

namespace troupe::models {

void describe_gemma2(const Fields& config, ModelDescription& out) {
  constexpr float kStoredMinusOne = 1.0F;
  const Sizes s = read_sizes(config);
  const double eps = config.real("rms_norm_eps", 0.0, 1.0, 1e-6);
  const double scalar = config.real("query_pre_attn_scalar", 1e-3, 1e9, 256.0);
  const auto softcap = static_cast<float>(config.real("attn_logit_softcapping", 0.0, 1e9, 0.0));
  const auto window =
      static_cast<int32_t>(config.integer("sliding_window", 0, limits::prompt_tokens, 4096));
  const auto types = read_layer_types(config, s.layers);
  const Activation activation = read_activation(
      config, config.either("hidden_activation", "hidden_act"), "gelu_pytorch_tanh");
  const bool bias = config.boolean("attention_bias", false);
  describe_frame(config, s, out);
  if (config.boolean("tie_word_embeddings", true)) out.head.parts.clear();
  out.final_norm = rms_norm("model.norm", s.hidden, eps, kStoredMinusOne);
  out.embedding_scale = std::sqrt(static_cast<float>(s.hidden));
  out.logit_softcap = static_cast<float>(config.real("final_logit_softcapping", 0.0, 1e9, 0.0));
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    const auto norm = [&](const char* name) {
      return rms_norm(prefix + name, s.hidden, eps, kStoredMinusOne);
    };
    Layer layer;
    GroupedQuery mixer = separate_attention(s, {prefix + "self_attn.", bias, bias});
    mixer.scale = 1.0F / std::sqrt(static_cast<float>(scalar));
    mixer.softcap = softcap;
    mixer.window = read_window(config, types, static_cast<size_t>(i), window, i % 2 == 0);
    layer.mixer = std::move(mixer);
    layer.ffn = gated_ffn(prefix + "mlp.", s.hidden, s.inner, activation);
    layer.residual = Residual::sandwich;
    layer.norm = norm("input_layernorm");
    layer.post_norm = norm("post_attention_layernorm");
    layer.ffn_norm = norm("pre_feedforward_layernorm");
    layer.post_ffn_norm = norm("post_feedforward_layernorm");
    out.layers.push_back(std::move(layer));
  }
}

}  // namespace troupe::models
