// What a model computes, as data: a family file turns config.json into this, and the one loop over
// layers (forward.cpp) runs it. No family has code of its own beyond that.
//
// A layer is {mixer, ffn, residual topology, norms}. Mixers and feed-forwards are a few variants,
// each a struct here and a file under models/layers/. Strange arithmetic becomes a new variant,
// never a flag in a shared one. Weights may be chosen per token by modality: a LinearSpec's
// `vision` parts serve the rows that the plan marks as vision.
//
// Every weight names its tensor, its shape and its shard axis, so tensor parallelism works for
// every family from the first day. Fused layouts (NeoX and BLOOM interleave q, k, v per head) are
// said by RowPick: a part is picked out of the stored rows when it is placed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/backend.hpp"
#include "models/rope.hpp"

namespace troupe::models {

// How a weight is split over tensor-parallel ranks. Units (TensorSpec::unit) stay whole.
enum class ShardAxis : uint8_t {
  none,  // every rank has all of it
  rows,  // an equal share of the output rows
  columns,  // an equal share of the inputs: ranks' results are summed, rank 0 adds the bias
  kv_heads,  // rows, repeated when there are more ranks than units
  vocabulary,  // rows, rounded up: the last rank may have fewer
};

// Of every `of` stored rows, the `count` from `begin` on. of == 0: all rows.
struct RowPick {
  int64_t of = 0, begin = 0, count = 0;
};

// What dummy weights are filled with.
enum class Fill : uint8_t { random, ones, zeros };

// One weight as a layer sees it: rows x cols (a vector has rows == 1), out of a stored tensor.
struct TensorSpec {
  std::string name;  // empty: the model has none
  int64_t rows = 0;
  int64_t cols = 0;
  ShardAxis axis = ShardAxis::none;
  int64_t unit = 1;  // rows (or columns) that must stay together on one rank
  RowPick pick{};
  Fill fill = Fill::random;
  bool transposed = false;  // stored as cols x rows
  // > 1: with width = cols / groups, a column is stored at column % width * groups + column / width,
  // as the kernel of a convolution has channels outside places.
  int64_t groups = 1;
  int64_t grouped_from = 0;  // columns before this one are stored where they are
  explicit operator bool() const { return !name.empty(); }
  [[nodiscard]] int64_t stored_rows() const {
    return pick.of == 0 ? rows : rows / pick.count * pick.of;
  }
};

struct LinearPartSpec {
  TensorSpec weight;  // out x in
  std::string bias;  // out elements, picked and sharded like the weight's rows; empty: none
};
struct LinearSpec {
  std::vector<LinearPartSpec> parts;  // one above the other along the output axis
  std::vector<LinearPartSpec> vision;  // for vision rows; empty: all rows take `parts`
  explicit operator bool() const { return !parts.empty(); }
};

struct NormSpec {
  NormKind kind = NormKind::rms;
  TensorSpec weight;  // empty: no norm at all
  TensorSpec bias;
  float eps = 1e-5F;
  float weight_offset = 0.0F;  // Gemma stores weight - 1
  int32_t group = 0;  // columns normalised together; 0: the row
  explicit operator bool() const { return static_cast<bool>(weight); }
};

// ---- mixers ----
struct GroupedQuery {
  int32_t heads = 0, kv_heads = 0, head_dim = 0;
  LinearSpec qkv;  // q, k, v
  LinearSpec out;
  NormSpec q_norm, k_norm;  // per head
  int32_t rope = -1;  // index into ModelDescription::ropes; -1: none
  int32_t window = 0;  // tokens seen, the own one included; 0: all
  float scale = 1.0F;
  float softcap = 0.0F;
  bool alibi = false;
  TensorSpec sinks;  // a learnt logit per head
};
// Multi-head latent attention, absorbed: the cache holds one compressed key per token, which is
// also its value; queries are taken into that space, results out of it, by kv_b's two halves.
struct Latent {
  int32_t heads = 0;
  int32_t latent_dim = 0, rope_dim = 0, nope_dim = 0, value_dim = 0;
  LinearSpec q;  // from hidden, or from the compressed query when q_a is there
  LinearSpec q_a;
  NormSpec q_a_norm;
  LinearSpec kv_a;  // latent_dim + rope_dim
  NormSpec kv_a_norm;  // over the latent part
  TensorSpec key_up;  // heads * nope_dim x latent_dim
  TensorSpec value_up;  // heads * value_dim x latent_dim
  LinearSpec out;
  int32_t rope = -1;
  float scale = 1.0F;
};
// Attention to encoder rows, written into the cache once per sequence by Model::encode().
struct Cross {
  int32_t heads = 0, kv_heads = 0, head_dim = 0;
  int32_t encoder_rows = 0;  // at most
  int32_t encoder_dim = 0;
  LinearSpec q, kv, out;
  NormSpec q_norm, k_norm;
  float scale = 1.0F;
};
using Mixer = std::variant<GroupedQuery, Latent, Cross>;

// ---- feed-forwards ----
struct Dense {
  bool gated = true;
  Activation activation = Activation::silu;
  LinearSpec up;  // gated: gate, then up
  LinearSpec down;
};
struct Experts {
  RoutingSpec routing;  // without `correction`
  TensorSpec correction;
  LinearSpec router;
  Activation activation = Activation::silu;
  std::vector<LinearSpec> up;  // one per expert: gate, then up
  std::vector<LinearSpec> down;
  std::optional<Dense> shared;  // runs beside the chosen ones, for every row
  LinearSpec shared_gate;  // sigmoid of it weighs the shared one; empty: weight 1
};
using Ffn = std::variant<Dense, Experts>;

// ---- layers ----
enum class Residual : uint8_t {
  sequential,  // x += mixer(norm(x)); x += ffn(ffn_norm(x))
  parallel,  // x += mixer(norm(x)) + ffn(ffn_norm(x)); without ffn_norm both take norm(x)
  from_norm,  // n = norm(x); x = n + mixer(n); m = ffn_norm(x); x = m + ffn(m)
  sandwich,  // x += post_norm(mixer(norm(x))); x += post_ffn_norm(ffn(ffn_norm(x)))
};
struct Layer {
  Mixer mixer;
  Ffn ffn;
  Residual residual = Residual::sequential;
  NormSpec norm, ffn_norm, post_norm, post_ffn_norm;
  TensorSpec mixer_gate, ffn_gate;  // scalars whose tanh scales a branch (gated cross-attention)
};

struct ModelDescription {
  std::string family;
  bool vision = false;  // it is the language half of a vision-language model
  int32_t vocab = 0;
  int32_t hidden = 0;
  int32_t context_length = 0;
  std::vector<RopeConfig> ropes;
  TensorSpec embedding;  // vocab x hidden
  float embedding_scale = 1.0F;
  NormSpec embedding_norm;
  std::vector<Layer> layers;
  NormSpec final_norm;
  LinearSpec head;  // empty: tied to the embedding
  float logit_scale = 1.0F;
  float logit_softcap = 0.0F;
  // When a tensor is not there, its name is tried with these prefixes exchanged: checkpoints differ
  // in how deep they were saved ("transformer.h.0…" or "h.0…").
  std::vector<std::pair<std::string, std::string>> renames;
};

}  // namespace troupe::models
