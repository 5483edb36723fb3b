#include "models/families/nested.hpp"

#include <array>
#include <string_view>

namespace troupe::models {
namespace {

constexpr std::array<std::string_view, 3> kKeys = {"text_config", "llm_config", "language_config"};

struct Defaults {
  std::string_view model_type;
  std::string_view json;
};
constexpr std::array<Defaults, 7> kDefaults = {
    {{"llama", R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
       "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
       "rms_norm_eps": 1e-6})"},
     {"mistral", R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
       "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
       "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "sliding_window": 4096})"},
     {"qwen2", R"({"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
       "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
       "max_position_embeddings": 32768, "rms_norm_eps": 1e-6})"},
     {"qwen2_vl_text", R"({"vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568,
       "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
       "max_position_embeddings": 32768, "rms_norm_eps": 1e-5})"},
     {"qwen2_5_vl_text", R"({"vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568,
       "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
       "max_position_embeddings": 32768, "rms_norm_eps": 1e-5})"},
     {"mllama_text_model", R"({"vocab_size": 128256, "hidden_size": 4096,
       "intermediate_size": 14336, "num_hidden_layers": 40, "num_attention_heads": 32,
       "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
       "rope_theta": 500000, "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38]})"},
     {"gemma3_text", R"({"vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216,
       "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
       "head_dim": 256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
       "sliding_window": 4096})"}}};

}  // namespace

bool has_text_config(const Fields& config) {
  for (const std::string_view key : kKeys) {
    if (config.has(key)) return true;
  }
  return false;
}

Fields text_config(const Fields& config) {
  for (const std::string_view key : kKeys) {
    if (!config.has(key)) continue;
    const Fields text = config.object(key);
    const std::string model_type = text.text("model_type", "");
    for (const Defaults& d : kDefaults) {
      if (d.model_type == model_type) return text.with_defaults(d.json);
    }
    return text;
  }
  return config;
}

void add_nested_names(ModelDescription& out) {
  out.vision = true;
  for (const auto& [from, to] : {std::pair("model.", "language_model.model."),
                                 std::pair("model.", "model.language_model."),
                                 std::pair("model.", "model.text_model."),
                                 std::pair("lm_head.", "language_model.lm_head."),
                                 std::pair("output.", "language_model.output.")}) {
    out.renames.emplace_back(from, to);
  }
}

}  // namespace troupe::models
