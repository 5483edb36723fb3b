// Qwen2 and 2.5 (biased q, k, v; the upper layers may slide) and Qwen3 (norms of q and k instead).
#include "base/limits.hpp"
#include "models/families/common.hpp"
#include "models/families/list.hpp"
#include "models/families/nested.hpp"

namespace troupe::models {
namespace {

void describe_windows(const Fields& config, ModelDescription& out) {
  const auto layers = static_cast<int32_t>(out.layers.size());
  const bool slides = config.boolean("use_sliding_window", false);
  const auto stated =
      static_cast<int32_t>(config.integer("sliding_window", 0, limits::prompt_tokens, 0));
  const int32_t window = slides ? stated : 0;
  const auto from =
      static_cast<size_t>(config.integer("max_window_layers", 0, limits::layers, layers));
  const auto types = read_layer_types(config, layers);
  for (size_t i = 0; i < out.layers.size(); ++i) {
    std::get<GroupedQuery>(out.layers[i].mixer).window =
        read_window(config, types, i, window, i >= from);
  }
}

}  // namespace

void describe_qwen2(const Fields& config, ModelDescription& out) {
  const Sizes s = read_sizes(config);
  describe_frame(config, s, out);
  describe_llama_layers(config, s, config.boolean("qkv_bias", true), false, out);
  describe_windows(config, out);
}

// The fields lie flat in published configs, nested in newer ones; M-RoPE is the rope's sections.
void describe_qwen2_vl(const Fields& config, ModelDescription& out) {
  describe_qwen2(text_config(config), out);
  add_nested_names(out);
}

void describe_qwen3(const Fields& config, ModelDescription& out) {
  const Sizes s = read_sizes(config);
  const bool bias = config.boolean("attention_bias", false);
  const double eps = config.real("rms_norm_eps", 0.0, 1.0, 1e-6);
  describe_frame(config, s, out);
  describe_llama_layers(config, s, bias, bias, out);
  describe_windows(config, out);
  for (size_t i = 0; i < out.layers.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".self_attn.";
    auto& mixer = std::get<GroupedQuery>(out.layers[i].mixer);
    mixer.q_norm = rms_norm(prefix + "q_norm", s.head_dim, eps);
    mixer.k_norm = rms_norm(prefix + "k_norm", s.head_dim, eps);
    mixer.q_norm.group = mixer.k_norm.group = s.head_dim;
  }
}

}  // namespace troupe::models
