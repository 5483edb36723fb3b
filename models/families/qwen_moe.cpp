// Qwen1.5-MoE, Qwen2-MoE and Qwen3-MoE: the attention of their dense relatives, and a mixture of
// experts in place of the feed-forward; before Qwen3 beside a shared one, which a gate of its own
// weighs per token.
#include <algorithm>

#include "base/limits.hpp"
#include "models/families/common.hpp"
#include "models/families/list.hpp"

namespace troupe::models {
namespace {

void describe_experts(const Fields& config, bool shared, ModelDescription& out) {
  const Sizes s = read_sizes(config);
  const Activation activation = read_activation(config, "hidden_act");
  const int64_t inner = config.count("moe_intermediate_size", limits::inner);
  const int64_t beside = shared ? config.count("shared_expert_intermediate_size", limits::inner) : 0;
  const int64_t every = config.integer("decoder_sparse_step", 1, limits::layers, 1);
  const auto dense = config.integers("mlp_only_layers", 0, limits::layers);
  RoutingSpec routing;
  routing.experts =
      config.count(config.either("num_experts", "num_local_experts"), limits::experts);
  routing.top_k = config.count("num_experts_per_tok", routing.experts);
  routing.renormalise = config.boolean("norm_topk_prob", false);
  check_experts(config, s.layers, routing.experts);
  if (!config.status().ok()) return;
  for (int64_t i = 0; i < s.layers; ++i) {
    if ((i + 1) % every != 0 || std::find(dense.begin(), dense.end(), i) != dense.end()) continue;
    const std::string prefix = "model.layers." + std::to_string(i) + ".mlp.";
    Experts ffn;
    ffn.routing = routing;
    ffn.activation = activation;
    ffn.router.parts = {whole(prefix + "gate", routing.experts, s.hidden)};
    for (int32_t e = 0; e < routing.experts; ++e) {
      const std::string expert = prefix + "experts." + std::to_string(e) + ".";
      Dense one = gated_ffn(expert, s.hidden, inner, activation);
      ffn.up.push_back(std::move(one.up));
      ffn.down.push_back(std::move(one.down));
    }
    if (shared) {
      ffn.shared = gated_ffn(prefix + "shared_expert.", s.hidden, beside, activation);
      ffn.shared_gate.parts = {whole(prefix + "shared_expert_gate", 1, s.hidden)};
    }
    out.layers[static_cast<size_t>(i)].ffn = std::move(ffn);
  }
}

}  // namespace

void describe_qwen2_moe(const Fields& config, ModelDescription& out) {
  describe_qwen2(config, out);
  describe_experts(config, true, out);
}

void describe_qwen3_moe(const Fields& config, ModelDescription& out) {
  describe_qwen3(config, out);
  describe_experts(config, false, out);
}

}  // namespace troupe::models
