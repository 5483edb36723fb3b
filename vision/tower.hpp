// What a visual half computes, as data: patches -> tower -> projector -> embedding rows. A family
// file (families/) turns config.json into this; one loop (encoder.cpp) runs it on every backend.
//
// Weights, norms and feed-forwards are those of models/description.hpp. What is strange becomes a
// new variant of Positions or Stage, never a flag in a shared one.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "models/description.hpp"
#include "vision/eyes.hpp"

namespace troupe::vision {

// ---- how a patch knows where it is, before the first layer ----
struct NoPositions {};
// A row per place of a side x side grid, after the class token's if there is one. Another grid takes
// the nearest (`buckets`: the fraction of the way, as NaViT does it; multiplied up in f32, or exact
// in f64) or a bicubic mixture.
struct PositionTable {
  models::TensorSpec table;
  int32_t side = 0;
  enum class Fit : uint8_t { bicubic, buckets, exact_buckets } fit = Fit::bicubic;
};
// All tiles of a picture go through the tower together, filled up to `tiles_max` with empty ones and
// each tile to a multiple of `multiple` rows (Mllama). What fills up sees the picture's rows alone,
// which see everything. Tables are by aspect (Tile::aspect); a tile stands for a frame of the grid.
struct TiledPositions {
  models::TensorSpec table;        // class token and patches of a tile
  models::TensorSpec tile_table;   // per aspect and tile, likewise: rows are places
  models::TensorSpec before, behind;  // one row per aspect and tile; behind layer `behind_layers`
  models::TensorSpec gate, before_gate, behind_gate;  // scalars whose tanh scales
  models::NormSpec middle_norm;    // behind layer `behind_layers`, before `behind` is added
  int32_t behind_layers = 0;
  int32_t tiles_max = 1, aspects = 1, multiple = 1, side = 0;
};
using Positions = std::variant<NoPositions, PositionTable, TiledPositions>;

// ---- layers ----
// Rotations over a patch's place: rotary pairs by (row, column), each pair with its frequency.
struct PatchRope {
  std::vector<float> frequencies;  // head_dim / 2; empty: none
  int32_t row_pairs = 0;           // the first so many turn by the row, the others by the column
};
struct TowerLayer {
  models::LinearSpec qkv, out;
  models::NormSpec q_norm, k_norm;
  float scale = 1.0F;
  bool windowed = false;  // attends within Tower::window, else within the tile
  models::Dense ffn;
  models::NormSpec norm, ffn_norm;            // before the branches; empty: none
  models::NormSpec post_norm, post_ffn_norm;  // after them
  models::TensorSpec gain, ffn_gain;          // a factor per column of a branch (layer scale)
  models::TensorSpec gate, ffn_gate;          // scalars whose tanh scales a branch
};
struct Tower {
  int32_t hidden = 0, heads = 0;
  int32_t patch_values = 0;         // of one patch: channels x frames x height x width
  int32_t patch_size = 0;           // pixels a side
  int32_t tile_side = 0;            // patches a side, where all tiles are alike; 0: any grid
  int32_t merge = 1;                // patches come in blocks of merge x merge
  models::LinearSpec patches;
  models::TensorSpec class_token;   // a row before each tile's patches
  Positions positions;
  models::NormSpec first_norm;
  PatchRope rope;
  int32_t window = 0;               // side of an attention window, in merged patches
  std::vector<TowerLayer> layers;
  // Hidden states that the projector sees side by side: 0 is before the first layer, -1 behind the
  // final norm. Layers behind the last one taken are not described.
  std::vector<int32_t> taken = {-1};
  models::NormSpec final_norm;
  bool keep_class = false;          // the class token's row goes on to the projector
};

// ---- what becomes of a tile's rows behind the tower, in order ----
// Blocks of side x side rows stand side by side in one row. `grid` order finds them in a row-major
// grid; else they already follow one another.
struct Shuffle {
  int32_t side = 2;
  enum class Order : uint8_t { grid, grid_by_columns, blocks } order = Order::grid;
};
struct Pool {  // the mean of side x side rows; the grid is row-major
  int32_t side = 2;
};
struct Norm {
  models::NormSpec norm;
};
struct Linear {
  models::LinearSpec weight;
};
struct Activate {
  Activation kind = Activation::gelu;
};
struct Gated {  // a gated feed-forward
  models::Dense ffn;
};
// Rows that are learnt and stand before and behind a tile's.
struct Bookends {
  models::TensorSpec before, behind;
};
// Perceiver: learnt queries look at a tile's rows once, keys knowing their row and column by sines
// and cosines.
struct Resampler {
  models::TensorSpec queries;  // count x width
  models::LinearSpec kv;       // hidden to width
  models::NormSpec query_norm, kv_norm, post_norm;
  models::LinearSpec q, k, v, out;
  models::LinearSpec projection;
  int32_t heads = 0;
  int32_t side_max = 0;        // rows and columns of a tile, at most
};
using Stage = std::variant<Shuffle, Pool, Norm, Linear, Activate, Gated, Bookends, Resampler>;

// ---- how tiles become a picture ----
struct Stacked {};  // one below the other
// The overview, then the tiles as one grid without the padding of preparation, a row end after each
// of its rows (LLaVA-NeXT).
struct Unpadded {
  models::TensorSpec row_end;
};
using Join = std::variant<Stacked, Unpadded>;

struct VisionDescription {
  std::string family;
  Tower tower;
  std::vector<Stage> projector;
  Join join;
  PromptRules rules;
  std::vector<std::pair<std::string, std::string>> renames;  // as ModelDescription's
};

}  // namespace troupe::vision
