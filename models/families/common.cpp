#include "models/families/common.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/limits.hpp"

namespace troupe::models {
namespace {

LinearPartSpec linear_part(const std::string& name, int64_t out, int64_t in, bool bias,
                           ShardAxis axis, int64_t unit) {
  LinearPartSpec part;
  part.weight.name = name + ".weight";
  part.weight.rows = out;
  part.weight.cols = in;
  part.weight.axis = axis;
  part.weight.unit = unit;
  if (bias) part.bias = name + ".bias";
  return part;
}

struct NamedActivation {
  std::string_view name;
  Activation kind;
};
constexpr std::array<NamedActivation, 11> kActivations = {
    {{"silu", Activation::silu},
     {"swish", Activation::silu},
     {"gelu", Activation::gelu},
     {"gelu_python", Activation::gelu},
     {"gelu_new", Activation::gelu_tanh},
     {"gelu_fast", Activation::gelu_tanh},
     {"gelu_pytorch_tanh", Activation::gelu_tanh},
     {"quick_gelu", Activation::gelu_quick},
     {"relu", Activation::relu},
     {"relu2", Activation::relu2},
     {"relu_squared", Activation::relu2}}};

// Scalings whose config states the length before scaling: the model's own is longer.
int32_t scaled_context(const RopeConfig& rope, int32_t context) {
  const bool stretches =
      rope.scaling == RopeScaling::linear || rope.scaling == RopeScaling::dynamic;
  const double length = rope.scaling == RopeScaling::yarn
                            ? std::max<double>(context, rope.original_length * rope.factor)
                            : context * (stretches ? std::max(1.0, rope.factor) : 1.0);
  return static_cast<int32_t>(std::min<double>(length, limits::prompt_tokens));
}

}  // namespace

Sizes read_sizes(const Fields& c) {
  Sizes s;
  s.vocab = c.count("vocab_size", limits::vocabulary);
  s.hidden = c.count("hidden_size", limits::hidden);
  s.layers = c.count("num_hidden_layers", limits::layers);
  s.heads = c.count("num_attention_heads", limits::heads);
  s.kv_heads = c.count("num_key_value_heads", limits::heads, s.heads);
  s.inner = c.count("intermediate_size", limits::inner);
  s.context = c.count("max_position_embeddings", limits::prompt_tokens);
  if (!c.has("head_dim") && s.hidden % s.heads != 0) {
    c.fail("num_attention_heads", "is " + std::to_string(s.heads) +
                                      ", which does not divide hidden_size " +
                                      std::to_string(s.hidden));
  }
  s.head_dim = c.count("head_dim", limits::head_dim, std::max(1, s.hidden / s.heads));
  if (s.heads % s.kv_heads != 0) {
    c.fail("num_key_value_heads", "is " + std::to_string(s.kv_heads) +
                                      ", which does not divide num_attention_heads " +
                                      std::to_string(s.heads));
  }
  return s;
}

LinearPartSpec split_rows(const std::string& name, int64_t out, int64_t in, bool bias,
                          int64_t unit) {
  return linear_part(name, out, in, bias, ShardAxis::rows, unit);
}
LinearPartSpec split_kv(const std::string& name, int64_t out, int64_t in, bool bias, int64_t unit) {
  return linear_part(name, out, in, bias, ShardAxis::kv_heads, unit);
}
LinearPartSpec split_columns(const std::string& name, int64_t out, int64_t in, bool bias,
                             int64_t unit) {
  return linear_part(name, out, in, bias, ShardAxis::columns, unit);
}
LinearPartSpec whole(const std::string& name, int64_t out, int64_t in, bool bias) {
  return linear_part(name, out, in, bias, ShardAxis::none, 1);
}
LinearPartSpec picked(LinearPartSpec part, RowPick pick) {
  part.weight.pick = pick;
  return part;
}

TensorSpec vector_spec(const std::string& name, int64_t elements, Fill fill) {
  TensorSpec t;
  t.name = name;
  t.rows = 1;
  t.cols = elements;
  t.fill = fill;
  return t;
}

NormSpec rms_norm(const std::string& name, int64_t size, double eps, float weight_offset) {
  NormSpec n;
  n.weight = vector_spec(name + ".weight", size, weight_offset == 0.0F ? Fill::ones : Fill::zeros);
  n.eps = static_cast<float>(eps);
  n.weight_offset = weight_offset;
  return n;
}

NormSpec layer_norm(const std::string& name, int64_t size, double eps) {
  NormSpec n = rms_norm(name, size, eps);
  n.kind = NormKind::layer;
  n.bias = vector_spec(name + ".bias", size, Fill::zeros);
  return n;
}

GroupedQuery separate_attention(const Sizes& s, const AttentionNames& n) {
  GroupedQuery m;
  m.heads = s.heads;
  m.kv_heads = s.kv_heads;
  m.head_dim = s.head_dim;
  const int64_t q = int64_t{s.heads} * s.head_dim;
  const int64_t kv = int64_t{s.kv_heads} * s.head_dim;
  m.qkv.parts = {split_rows(n.prefix + "q_proj", q, s.hidden, n.qkv_bias, s.head_dim),
                 split_kv(n.prefix + "k_proj", kv, s.hidden, n.qkv_bias, s.head_dim),
                 split_kv(n.prefix + "v_proj", kv, s.hidden, n.qkv_bias, s.head_dim)};
  m.out.parts = {split_columns(n.prefix + "o_proj", s.hidden, q, n.out_bias, s.head_dim)};
  m.rope = 0;
  m.scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim));
  return m;
}

GroupedQuery interleaved_attention(const Sizes& s, const std::string& prefix, bool bias) {
  GroupedQuery m;
  m.heads = s.heads;
  m.kv_heads = s.heads;
  m.head_dim = s.head_dim;
  const int64_t dim = s.head_dim;
  const int64_t rows = s.heads * dim;
  for (int64_t i = 0; i < 3; ++i) {
    m.qkv.parts.push_back(picked(split_rows(prefix + "query_key_value", rows, s.hidden, bias, dim),
                                 {.of = 3 * dim, .begin = i * dim, .count = dim}));
  }
  m.out.parts = {split_columns(prefix + "dense", s.hidden, rows, bias, dim)};
  m.scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim));
  return m;
}

Dense gated_ffn(const std::string& prefix, int64_t hidden, int64_t inner, Activation activation,
                bool bias) {
  Dense f;
  f.activation = activation;
  f.up.parts = {split_rows(prefix + "gate_proj", inner, hidden, bias),
                split_rows(prefix + "up_proj", inner, hidden, bias)};
  f.down.parts = {split_columns(prefix + "down_proj", hidden, inner, bias)};
  return f;
}

void check_experts(const Fields& config, int32_t layers, int32_t experts) {
  const int64_t all = int64_t{layers} * experts;
  if (all <= limits::expert_weights) return;
  config.fail("num_hidden_layers", "times the experts makes " + std::to_string(all) +
                                       " experts, at most " +
                                       std::to_string(limits::expert_weights) + " are built");
}

Activation read_activation(const Fields& config, std::string_view key, std::string_view fallback) {
  const std::string name = config.text(key, std::string(fallback));
  for (const NamedActivation& a : kActivations) {
    if (a.name == name) return a.kind;
  }
  std::string known;
  for (const NamedActivation& a : kActivations)
    known += (known.empty() ? "" : ", ") + std::string(a.name);
  config.fail(key, "is \"" + name + "\"; known are " + known);
  return Activation::silu;
}

std::vector<std::string> read_layer_types(const Fields& config, int32_t layers) {
  std::vector<std::string> types = config.texts("layer_types");
  if (types.empty()) return types;
  if (types.size() != static_cast<size_t>(layers)) {
    config.fail("layer_types", "has " + std::to_string(types.size()) +
                                   " entries, num_hidden_layers is " + std::to_string(layers));
  }
  for (const std::string& type : types) {
    if (type == "full_attention" || type == "sliding_attention") continue;
    config.fail("layer_types",
                "holds \"" + type + "\"; known are full_attention and sliding_attention");
  }
  types.resize(static_cast<size_t>(layers), "full_attention");
  return types;
}

int32_t read_window(const Fields& config, const std::vector<std::string>& layer_types, size_t layer,
                    int32_t window, bool slides_by_default) {
  const bool slides =
      layer_types.empty() ? slides_by_default : layer_types[layer] == "sliding_attention";
  if (slides && window == 0 && !layer_types.empty()) {
    config.fail("sliding_window", "is missing, but layer_types has sliding_attention");
  }
  return slides ? window : 0;
}

void describe_frame(const Fields& config, const Sizes& s, ModelDescription& out) {
  out.vocab = s.vocab;
  out.hidden = s.hidden;
  out.ropes = {read_rope(config, {.head_dim = s.head_dim, .context_length = s.context})};
  out.context_length = scaled_context(out.ropes.front(), s.context);
  out.embedding = {.name = "model.embed_tokens.weight",
                   .rows = s.vocab,
                   .cols = s.hidden,
                   .axis = ShardAxis::vocabulary};
  out.final_norm = rms_norm("model.norm", s.hidden, config.real("rms_norm_eps", 0.0, 1.0, 1e-6));
  if (!config.boolean("tie_word_embeddings", false)) {
    out.head.parts = {whole("lm_head", s.vocab, s.hidden)};
    out.head.parts.front().weight.axis = ShardAxis::vocabulary;
  }
}

void describe_llama_layers(const Fields& config, const Sizes& s, bool qkv_bias, bool out_bias,
                           ModelDescription& out) {
  const double eps = config.real("rms_norm_eps", 0.0, 1.0, 1e-6);
  const Activation activation = read_activation(config, "hidden_act");
  const bool mlp_bias = config.boolean("mlp_bias", false);
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    Layer layer;
    layer.mixer = separate_attention(s, {prefix + "self_attn.", qkv_bias, out_bias});
    layer.ffn = gated_ffn(prefix + "mlp.", s.hidden, s.inner, activation, mlp_bias);
    layer.norm = rms_norm(prefix + "input_layernorm", s.hidden, eps);
    layer.ffn_norm = rms_norm(prefix + "post_attention_layernorm", s.hidden, eps);
    out.layers.push_back(std::move(layer));
  }
}

}  // namespace troupe::models
