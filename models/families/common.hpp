// The vocabulary that family files are written in: names of weights with shapes and shard axes, and
// the blocks that most of today's models share.
#pragma once

#include <string>
#include <string_view>

#include "models/config.hpp"
#include "models/description.hpp"

namespace troupe::models {

// The sizes nearly every config has, under their usual names.
struct Sizes {
  int32_t vocab = 0, hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int32_t inner = 0;  // feed-forward width
  int32_t context = 0;
};
Sizes read_sizes(const Fields& config);

// Linear weights. `name` is the module's: ".weight" (and ".bias") are added.
LinearPartSpec split_rows(const std::string& name, int64_t out, int64_t in, bool bias = false,
                          int64_t unit = 1);
LinearPartSpec split_kv(const std::string& name, int64_t out, int64_t in, bool bias, int64_t unit);
LinearPartSpec split_columns(const std::string& name, int64_t out, int64_t in, bool bias = false,
                             int64_t unit = 1);
LinearPartSpec whole(const std::string& name, int64_t out, int64_t in, bool bias = false);
LinearPartSpec picked(LinearPartSpec part, RowPick pick);

TensorSpec vector_spec(const std::string& name, int64_t elements, Fill fill);
NormSpec rms_norm(const std::string& name, int64_t size, double eps, float weight_offset = 0.0F);
NormSpec layer_norm(const std::string& name, int64_t size, double eps);

struct AttentionNames {
  std::string prefix;  // "model.layers.0.self_attn."
  bool qkv_bias = false;
  bool out_bias = false;
};
// q_proj, k_proj, v_proj, o_proj, with rope 0 and the usual scale.
GroupedQuery separate_attention(const Sizes& s, const AttentionNames& names);
// One query_key_value weight whose rows are interleaved per head (NeoX, BLOOM), and `dense`.
GroupedQuery interleaved_attention(const Sizes& s, const std::string& prefix, bool bias);
// gate_proj, up_proj, down_proj.
Dense gated_ffn(const std::string& prefix, int64_t hidden, int64_t inner, Activation activation,
                bool bias = false);

// Refuses mixtures beyond limits::expert_weights, whose description alone would fill the memory.
void check_experts(const Fields& config, int32_t layers, int32_t experts);

Activation read_activation(const Fields& config, std::string_view key,
                           std::string_view fallback = "silu");
// Of a layer, from layer_types, or from what the family says where the config is silent.
int32_t read_window(const Fields& config, const std::vector<std::string>& layer_types, size_t layer,
                    int32_t window, bool slides_by_default);
// Checks layer_types ("full_attention" or "sliding_attention", one per layer); empty when absent.
std::vector<std::string> read_layer_types(const Fields& config, int32_t layers);

// What is the same in all models with llama's names: embedding, final norm, head, sizes, rope 0.
void describe_frame(const Fields& config, const Sizes& s, ModelDescription& out);
void describe_llama_layers(const Fields& config, const Sizes& s, bool qkv_bias, bool out_bias,
                           ModelDescription& out);

}  // namespace troupe::models
