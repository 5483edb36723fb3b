// DeepSeek-V2: latent attention, dense layers first, then experts chosen in groups beside shared
// ones.
#include <cmath>

#include "base/limits.hpp"
#include "models/families/common.hpp"
#include "models/families/list.hpp"

namespace troupe::models {
namespace {

constexpr double kLatentNormEps = 1e-6;  // the reference's norms of latents take no eps from config

struct LatentSizes {
  int32_t q_rank = 0, kv_rank = 0, nope = 0, rope = 0, value = 0;
};

LatentSizes read_latent(const Fields& c) {
  LatentSizes l;
  l.q_rank = static_cast<int32_t>(c.integer("q_lora_rank", 0, limits::hidden, 0));
  l.kv_rank = c.count("kv_lora_rank", limits::head_dim);
  l.nope = c.count("qk_nope_head_dim", limits::head_dim);
  l.rope = c.count("qk_rope_head_dim", limits::head_dim);
  l.value = c.count("v_head_dim", limits::head_dim);
  return l;
}

Latent latent_attention(const Sizes& s, const LatentSizes& l, const std::string& prefix,
                        bool bias) {
  Latent m;
  m.heads = s.heads;
  m.latent_dim = l.kv_rank;
  m.rope_dim = l.rope;
  m.nope_dim = l.nope;
  m.value_dim = l.value;
  m.rope = 0;
  const int64_t key = l.nope + l.rope;
  if (l.q_rank > 0) {
    m.q_a.parts = {whole(prefix + "q_a_proj", l.q_rank, s.hidden, bias)};
    m.q_a_norm = rms_norm(prefix + "q_a_layernorm", l.q_rank, kLatentNormEps);
    m.q.parts = {split_rows(prefix + "q_b_proj", s.heads * key, l.q_rank, false, key)};
  } else {
    m.q.parts = {split_rows(prefix + "q_proj", s.heads * key, s.hidden, false, key)};
  }
  m.kv_a.parts = {whole(prefix + "kv_a_proj_with_mqa", l.kv_rank + l.rope, s.hidden, bias)};
  m.kv_a_norm = rms_norm(prefix + "kv_a_layernorm", l.kv_rank, kLatentNormEps);
  const int64_t both = l.nope + l.value;
  const auto half = [&](int64_t begin, int64_t rows) {
    return picked(split_rows(prefix + "kv_b_proj", s.heads * rows, l.kv_rank, false, rows),
                  {.of = both, .begin = begin, .count = rows})
        .weight;
  };
  m.key_up = half(0, l.nope);
  m.value_up = half(l.nope, l.value);
  m.out.parts = {
      split_columns(prefix + "o_proj", s.hidden, int64_t{s.heads} * l.value, bias, l.value)};
  return m;
}

RoutingSpec read_routing(const Fields& c) {
  RoutingSpec r;
  r.experts = c.count(c.either("n_routed_experts", "num_experts"), limits::experts);
  r.top_k = c.count("num_experts_per_tok", r.experts);
  r.renormalise = c.boolean("norm_topk_prob", false);
  r.scale = static_cast<float>(c.real("routed_scaling_factor", 0.0, 1e6, 1.0));
  if (const std::string score = c.text("scoring_func", "softmax"); score != "softmax") {
    c.fail("scoring_func", "is \"" + score + "\"; known is softmax");
  }
  const std::string method = c.text("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    r.groups = c.count("n_group", r.experts);
    r.top_groups = c.count("topk_group", r.groups);
    if (r.experts % r.groups != 0) {
      c.fail("n_group", "is " + std::to_string(r.groups) + ", which does not divide " +
                            std::to_string(r.experts) + " experts");
    }
  } else if (method != "greedy") {
    c.fail("topk_method", "is \"" + method + "\"; known are greedy and group_limited_greedy");
  }
  return r;
}

Experts experts_ffn(const Fields& c, const Sizes& s, const RoutingSpec& routing,
                    const std::string& prefix, Activation activation) {
  const int64_t inner = c.count("moe_intermediate_size", limits::inner);
  const int64_t shared = c.integer("n_shared_experts", 0, limits::experts, 0);
  if (inner * shared > limits::inner) {
    c.fail("n_shared_experts",
           "times moe_intermediate_size must be at most " + std::to_string(limits::inner));
  }
  Experts f;
  f.routing = routing;
  f.activation = activation;
  f.router.parts = {whole(prefix + "gate", routing.experts, s.hidden)};
  for (int32_t e = 0; e < routing.experts; ++e) {
    Dense one =
        gated_ffn(prefix + "experts." + std::to_string(e) + ".", s.hidden, inner, activation);
    f.up.push_back(std::move(one.up));
    f.down.push_back(std::move(one.down));
  }
  if (shared > 0) {
    f.shared = gated_ffn(prefix + "shared_experts.", s.hidden, inner * shared, activation);
  }
  return f;
}

}  // namespace

void describe_deepseek_v2(const Fields& config, ModelDescription& out) {
  const Sizes s = read_sizes(config);
  const LatentSizes l = read_latent(config);
  const double eps = config.real("rms_norm_eps", 0.0, 1.0, 1e-6);
  const bool bias = config.boolean("attention_bias", false);
  const Activation activation = read_activation(config, "hidden_act");
  const auto dense_layers = config.integer("first_k_dense_replace", 0, limits::layers, 0);
  const int64_t every = config.integer("moe_layer_freq", 1, limits::layers, 1);
  const RoutingSpec routing = read_routing(config);
  describe_frame(config, s, out);
  RopeConfig rope = read_rope(config, {.head_dim = l.rope, .context_length = s.context});
  rope.style = RopeStyle::interleaved;
  double scale = 1.0 / std::sqrt(static_cast<double>(l.nope + l.rope));
  if (rope.scaling != RopeScaling::none && rope.mscale_all_dim > 0.0) {
    const double mscale = yarn_mscale(rope.factor, rope.mscale_all_dim);
    scale *= mscale * mscale;
  }
  out.ropes = {rope};
  check_experts(config, s.layers, routing.experts);
  if (!config.status().ok()) return;
  for (int32_t i = 0; i < s.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    Layer layer;
    Latent mixer = latent_attention(s, l, prefix + "self_attn.", bias);
    mixer.scale = static_cast<float>(scale);
    layer.mixer = std::move(mixer);
    if (i >= dense_layers && i % every == 0) {
      layer.ffn = experts_ffn(config, s, routing, prefix + "mlp.", activation);
    } else {
      layer.ffn = gated_ffn(prefix + "mlp.", s.hidden, s.inner, activation);
    }
    layer.norm = rms_norm(prefix + "input_layernorm", s.hidden, eps);
    layer.ffn_norm = rms_norm(prefix + "post_attention_layernorm", s.hidden, eps);
    out.layers.push_back(std::move(layer));
  }
}

}  // namespace troupe::models
