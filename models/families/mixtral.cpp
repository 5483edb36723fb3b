// Mixtral: Llama's attention, and a mixture of experts of which each token takes the best few.
#include "base/limits.hpp"
#include "models/families/common.hpp"
#include "models/families/list.hpp"

namespace troupe::models {

void describe_mixtral(const Fields& config, ModelDescription& out) {
  describe_mistral(config, out);
  const Sizes s = read_sizes(config);
  const int32_t experts =
      config.count(config.either("num_local_experts", "num_experts"), limits::experts);
  const Activation activation = read_activation(config, "hidden_act");
  RoutingSpec routing;
  routing.experts = experts;
  routing.top_k = config.count("num_experts_per_tok", experts);
  routing.renormalise = true;
  check_experts(config, s.layers, experts);
  if (!config.status().ok()) return;
  for (size_t i = 0; i < out.layers.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".block_sparse_moe.";
    Experts ffn;
    ffn.routing = routing;
    ffn.activation = activation;
    ffn.router.parts = {whole(prefix + "gate", experts, s.hidden)};
    for (int32_t e = 0; e < experts; ++e) {
      const std::string expert = prefix + "experts." + std::to_string(e) + ".";
      ffn.up.push_back({.parts = {split_rows(expert + "w1", s.inner, s.hidden),
                                  split_rows(expert + "w3", s.inner, s.hidden)},
                        .vision = {}});
      ffn.down.push_back(
          {.parts = {split_columns(expert + "w2", s.hidden, s.inner)}, .vision = {}});
    }
    out.layers[i].ffn = std::move(ffn);
  }
}

}  // namespace troupe::models
