// Gemma 3: Gemma 2's sandwich without its soft-caps, norms of q and k, most layers with a sliding
// window and a rope of their own. Rows of a picture look at one another both ways (PlanView's
// span_ends), which is the plan's affair.
#include <cmath>

#include "base/limits.hpp"
#include "models/families/common.hpp"
#include "models/families/list.hpp"

namespace troupe::models {
namespace {

constexpr float kStoredMinusOne = 1.0F;
constexpr int32_t kWholeRope = 0, kSlidingRope = 1;

// Layers slide but for every sixth (sliding_window_pattern), where layer_types is silent.
int32_t window_of(const Fields& config, const std::vector<std::string>& types, int32_t layer,
                  int32_t window) {
  const int32_t pattern = config.count(
      config.either("sliding_window_pattern", "_sliding_window_pattern"), limits::layers, 6);
  return read_window(config, types, static_cast<size_t>(layer), window, (layer + 1) % pattern != 0);
}

// Two ropes: rope_parameters by layer type, or the older rope_scaling (of whole layers alone) with
// rope_theta and rope_local_base_freq.
std::vector<RopeConfig> read_ropes(const Fields& config, const Sizes& s) {
  const RopeDefaults whole{.head_dim = s.head_dim, .theta = 1e6, .context_length = s.context};
  const RopeDefaults sliding{.head_dim = s.head_dim, .context_length = s.context};
  if (config.has("rope_parameters")) {
    return {read_rope(config, whole, "full_attention"),
            read_rope(config, sliding, "sliding_attention")};
  }
  RopeConfig local;
  local.rotary_dim = s.head_dim;
  local.theta = config.real("rope_local_base_freq", 1.0 + 1e-6, 1e15, 10000.0);
  return {read_rope(config, whole), local};
}

}  // namespace

void describe_gemma3(const Fields& config, ModelDescription& out) {
  const Sizes s = read_sizes(config);
  const double eps = config.real("rms_norm_eps", 0.0, 1.0, 1e-6);
  const double scalar = config.real("query_pre_attn_scalar", 1e-3, 1e9, 256.0);
  const auto window =
      static_cast<int32_t>(config.integer("sliding_window", 0, limits::prompt_tokens, 4096));
  const auto types = read_layer_types(config, s.layers);
  const Activation activation = read_activation(
      config, config.either("hidden_activation", "hidden_act"), "gelu_pytorch_tanh");
  const bool bias = config.boolean("attention_bias", false);
  if (config.boolean("use_bidirectional_attention", false)) {
    config.fail("use_bidirectional_attention", "is true; only causal models are run");
  }
  describe_frame(config, s, out);
  out.ropes = read_ropes(config, s);
  out.context_length = s.context;
  if (config.boolean("tie_word_embeddings", true)) out.head.parts.clear();
  out.final_norm = rms_norm("model.norm", s.hidden, eps, kStoredMinusOne);
  out.embedding_scale = std::sqrt(static_cast<float>(s.hidden));
  out.logit_softcap = static_cast<float>(config.real("final_logit_softcapping", 0.0, 1e9, 0.0));
  const auto softcap = static_cast<float>(config.real("attn_logit_softcapping", 0.0, 1e9, 0.0));
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    const auto norm = [&](const std::string& name, int32_t size) {
      return rms_norm(prefix + name, size, eps, kStoredMinusOne);
    };
    Layer layer;
    GroupedQuery mixer = separate_attention(s, {prefix + "self_attn.", bias, bias});
    mixer.q_norm = norm("self_attn.q_norm", s.head_dim);
    mixer.k_norm = norm("self_attn.k_norm", s.head_dim);
    mixer.q_norm.group = mixer.k_norm.group = s.head_dim;
    mixer.scale = 1.0F / std::sqrt(static_cast<float>(scalar));
    mixer.softcap = softcap;
    mixer.window = window_of(config, types, i, window);
    mixer.rope = mixer.window > 0 ? kSlidingRope : kWholeRope;
    layer.mixer = std::move(mixer);
    layer.ffn = gated_ffn(prefix + "mlp.", s.hidden, s.inner, activation);
    layer.residual = Residual::sandwich;
    layer.norm = norm("input_layernorm", s.hidden);
    layer.post_norm = norm("post_attention_layernorm", s.hidden);
    layer.ffn_norm = norm("pre_feedforward_layernorm", s.hidden);
    layer.post_ffn_norm = norm("post_feedforward_layernorm", s.hidden);
    out.layers.push_back(std::move(layer));
  }
}

}  // namespace troupe::models
