// BLOOM: ALiBi instead of rope, a norm right behind the embedding, q, k and v interleaved per head.
#include <algorithm>

#include "base/limits.hpp"
#include "models/families/common.hpp"
#include "models/families/list.hpp"

namespace troupe::models {
namespace {

Sizes bloom_sizes(const Fields& c) {
  Sizes s;
  s.vocab = c.count("vocab_size", limits::vocabulary);
  s.hidden = c.count(c.either("hidden_size", "n_embed"), limits::hidden);
  s.layers = c.count(c.either("n_layer", "num_hidden_layers"), limits::layers);
  s.heads = c.count(c.either("n_head", "num_attention_heads"), limits::heads);
  s.kv_heads = s.heads;
  s.inner = 4 * s.hidden;
  s.context =
      c.count(c.either("seq_length", "max_position_embeddings"), limits::prompt_tokens, 2048);
  if (s.hidden % s.heads != 0) {
    c.fail(c.either("n_head", "num_attention_heads"), "is " + std::to_string(s.heads) +
                                                          ", which does not divide hidden_size " +
                                                          std::to_string(s.hidden));
  }
  s.head_dim = std::max(1, s.hidden / s.heads);
  return s;
}

}  // namespace

void describe_bloom(const Fields& config, ModelDescription& out) {
  const Sizes s = bloom_sizes(config);
  const double eps = config.real("layer_norm_epsilon", 0.0, 1.0, 1e-5);
  const bool from_norm = config.boolean("apply_residual_connection_post_layernorm", false);
  out.vocab = s.vocab;
  out.hidden = s.hidden;
  out.context_length = s.context;
  out.embedding = {.name = "transformer.word_embeddings.weight",
                   .rows = s.vocab,
                   .cols = s.hidden,
                   .axis = ShardAxis::vocabulary};
  out.embedding_norm = layer_norm("transformer.word_embeddings_layernorm", s.hidden, eps);
  out.final_norm = layer_norm("transformer.ln_f", s.hidden, eps);
  if (!config.boolean("tie_word_embeddings", true)) {
    out.head.parts = {whole("lm_head", s.vocab, s.hidden)};
    out.head.parts.front().weight.axis = ShardAxis::vocabulary;
  }
  out.renames = {{"transformer.", ""}};
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string prefix = "transformer.h." + std::to_string(i) + ".";
    Layer layer;
    GroupedQuery mixer = interleaved_attention(s, prefix + "self_attention.", true);
    mixer.alibi = true;
    layer.mixer = std::move(mixer);
    Dense ffn;
    ffn.gated = false;
    ffn.activation = Activation::gelu_tanh;
    ffn.up.parts = {split_rows(prefix + "mlp.dense_h_to_4h", s.inner, s.hidden, true)};
    ffn.down.parts = {split_columns(prefix + "mlp.dense_4h_to_h", s.hidden, s.inner, true)};
    layer.ffn = std::move(ffn);
    layer.residual = from_norm ? Residual::from_norm : Residual::sequential;
    layer.norm = layer_norm(prefix + "input_layernorm", s.hidden, eps);
    layer.ffn_norm = layer_norm(prefix + "post_attention_layernorm", s.hidden, eps);
    out.layers.push_back(std::move(layer));
  }
}

}  // namespace troupe::models
