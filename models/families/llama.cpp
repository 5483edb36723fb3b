// Llama 1, 2, 3, 3.1 and the many models with its shape; Mistral is the same with a sliding window.
#include "base/limits.hpp"
#include "models/families/common.hpp"
#include "models/families/list.hpp"

namespace troupe::models {

void describe_llama(const Fields& config, ModelDescription& out) {
  const Sizes s = read_sizes(config);
  const bool bias = config.boolean("attention_bias", false);
  describe_frame(config, s, out);
  describe_llama_layers(config, s, bias, bias, out);
}

void describe_mistral(const Fields& config, ModelDescription& out) {
  describe_llama(config, out);
  const auto window =
      static_cast<int32_t>(config.integer("sliding_window", 0, limits::prompt_tokens, 0));
  const auto types = read_layer_types(config, static_cast<int32_t>(out.layers.size()));
  for (size_t i = 0; i < out.layers.size(); ++i) {
    std::get<GroupedQuery>(out.layers[i].mixer).window =
        read_window(config, types, i, window, true);
  }
}

}  // namespace troupe::models
