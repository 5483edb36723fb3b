// The tower itself: patches to rows, the layers, and the hidden states that the projector sees.
#include "vision/encoder_run.hpp"

namespace troupe::vision {

using models::Step;

namespace {

// Every row is its own source: nothing is to be moved.
bool is_identity(const std::vector<int32_t>& rows) {
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] != static_cast<int32_t>(i)) return false;
  }
  return true;
}

}  // namespace

void VisionEncoder::embed(Run& run) {
  Buffers& b = run.buffers;
  const bool alone = !class_token_ && !positions_ && run.rows.taps == 1 &&
                     is_identity(run.rows.sources);
  backend_.linear(run.step.batch, {.input = b.patches,
                                   .weight = &patches_.text,
                                   .output = alone ? b.residual : b.embedded});
  if (alone) {
    if (first_norm_) first_norm_.run(backend_, b.residual, {}, b.residual);
    return;
  }
  std::vector<Matrix> inputs = {b.embedded};
  if (class_token_) inputs.push_back(class_token_);
  if (positions_) inputs.push_back(positions_);
  backend_.mix_rows({.inputs = inputs,
                     .rows = run.rows.sources,
                     .weights = run.rows.weights,
                     .taps = run.rows.taps,
                     .output = b.residual});
  if (first_norm_) first_norm_.run(backend_, b.residual, {}, b.residual);
}

// Everything that a row is made of lies in tables: one mixture, the first norm, then the rows that
// fill tiles up.
void VisionEncoder::embed_tiled(Run& run) {
  Buffers& b = run.buffers;
  backend_.linear(run.step.batch,
                  {.input = b.patches, .weight = &patches_.text, .output = b.embedded});
  const Matrix inputs[] = {b.embedded, class_token_, positions_, tile_positions_, before_tiles_};
  const Matrix normed = b.normed.first_rows(run.tiled->normed);
  backend_.mix_rows({.inputs = inputs,
                     .rows = run.tiled->sources,
                     .weights = run.tiled->weights,
                     .taps = kTiledTaps,
                     .output = normed});
  first_norm_.run(backend_, normed, {}, normed);
  backend_.mix_rows({.inputs = {&normed, 1}, .rows = run.tiled->padded, .output = b.residual});
}

// Between the layers that a picture's tiles pass twice (TiledPositions::behind_layers).
void VisionEncoder::pass_middle(Run& run, int32_t state) {
  if (run.tiled == nullptr || state != tiled()->behind_layers) return;
  Buffers& b = run.buffers;
  if (run.pending) {
    backend_.add({.input = b.branch, .addend = b.residual, .scale = 1.0F, .output = b.residual});
    run.pending = false;
  }
  middle_norm_.run(backend_, b.residual, {}, b.residual);
  const std::vector<float> weights(run.tiled->behind.size(), tiled_gates_.behind);
  backend_.mix_rows({.inputs = {&behind_tiles_, 1},
                     .rows = run.tiled->behind,
                     .weights = weights,
                     .accumulate = true,
                     .output = b.residual});
}

namespace {

void add_pending(Backend& backend, bool& pending, const Matrix& branch, const Matrix& residual) {
  if (!pending) return;
  backend.add({.input = branch, .addend = residual, .scale = 1.0F, .output = residual});
  pending = false;
}

// The input of a branch: the residual as it is, or normed, with what is pending added on the way.
Matrix before_branch(Backend& backend, const models::PlacedNorm& norm, bool& pending,
                     const Matrix& branch, const Matrix& residual, const Matrix& normed) {
  if (!norm) {
    add_pending(backend, pending, branch, residual);
    return residual;
  }
  if (pending) {
    norm.run(backend, branch, residual, normed);
  } else {
    norm.run(backend, residual, {}, normed);
  }
  pending = false;
  return normed;
}

Matrix rows_from(const Matrix& m, int64_t begin) {
  Matrix out = m;
  out.data = static_cast<std::byte*>(m.data) +
             static_cast<size_t>(begin * m.stride) * dtype_bytes(m.dtype);
  out.rows = m.rows - begin;
  return out;
}

// Rows of the picture see all rows; what fills it up sees those of the picture.
void attend_tiled(Backend& backend, const TiledRows& tiled, const PackedAttentionArgs& all) {
  const auto real = static_cast<int32_t>(tiled.real), rows = static_cast<int32_t>(tiled.rows);
  const int32_t behind = rows - real;
  PackedAttentionArgs args = all;
  args.query = all.query.first_rows(real);
  args.output = all.output.first_rows(real);
  args.ends = {&real, 1};
  args.key_ends = {&rows, 1};
  backend.packed_attention(args);
  if (behind == 0) return;
  args.query = rows_from(all.query, real);
  args.output = rows_from(all.output, real);
  args.ends = {&behind, 1};
  args.key_ends = {&real, 1};
  backend.packed_attention(args);
}

void behind_branch(Backend& backend, const models::PlacedNorm& norm, const Matrix& gain, float gate,
                   const Matrix& branch) {
  if (norm) norm.run(backend, branch, {}, branch);
  if (gain) backend.scale_columns({.input = branch, .weight = gain, .output = branch});
  if (gate != 1.0F) {
    backend.add({.input = branch, .addend = {}, .scale = gate, .output = branch});
  }
}

}  // namespace

void VisionEncoder::attend(Run& run, PlacedLayer& layer, const TowerLayer& spec,
                           const Matrix& input) {
  Step& step = run.step;
  const Tower& t = folder_->description().tower;
  const int64_t width = layer.out.text.in;
  const Matrix qkv = step.scratch.take(input.rows, layer.qkv.text.out, activation_);
  const Matrix attended = step.scratch.take(input.rows, width, activation_);
  const Matrix query = qkv.columns(0, width);
  const Matrix key = qkv.columns(width, width);
  models::run_linear(step, layer.qkv, input, qkv);
  if (layer.q_norm) layer.q_norm.run(backend_, query, {}, query);
  if (layer.k_norm) layer.k_norm.run(backend_, key, {}, key);
  if (!ropes_.empty()) {
    backend_.rope_write(step.batch, {.query = query,
                                     .key = key,
                                     .value = {},
                                     .heads = t.heads,
                                     .head_dim = static_cast<int32_t>(width / t.heads),
                                     .rope = &ropes_.front(),
                                     .cache = nullptr});
  }
  PackedAttentionArgs args{.query = query,
                           .key = key,
                           .value = qkv.columns(2 * width, width),
                           .ends = spec.windowed ? run.rows.window_ends : run.rows.ends,
                           .heads = t.heads,
                           .kv_heads = t.heads,
                           .scale = spec.scale,
                           .output = attended};
  if (run.tiled != nullptr) {
    attend_tiled(backend_, *run.tiled, args);
  } else {
    backend_.packed_attention(args);
  }
  models::run_linear(step, layer.out, attended, run.buffers.branch);
}

void VisionEncoder::run_layer(Run& run, PlacedLayer& layer, const TowerLayer& spec) {
  Buffers& b = run.buffers;
  const size_t mark = run.step.scratch.used();
  const auto input = [&](const models::PlacedNorm& norm) {
    return before_branch(backend_, norm, run.pending, b.branch, b.residual, b.normed);
  };
  attend(run, layer, spec, input(layer.norm));
  run.step.scratch.rewind(mark);
  behind_branch(backend_, layer.post_norm, layer.gain, layer.gate, b.branch);
  run.pending = true;
  const Matrix second = input(layer.ffn_norm);
  layer.ffn->run(run.step, second, b.branch);
  run.step.scratch.rewind(mark);
  behind_branch(backend_, layer.post_ffn_norm, layer.ffn_gain, layer.ffn_gate, b.branch);
  run.pending = true;
}

// Hidden state `state` goes beside the others that the projector sees. -1: behind the final norm.
void VisionEncoder::take(Run& run, int32_t state) {
  Buffers& b = run.buffers;
  const std::vector<int32_t>& taken = folder_->description().tower.taken;
  for (size_t i = 0; i < taken.size(); ++i) {
    if (taken[i] != state) continue;
    Matrix from = b.residual;
    if (state == -1) {
      from = before_branch(backend_, final_norm_, run.pending, b.branch, b.residual, b.normed);
    } else {
      add_pending(backend_, run.pending, b.branch, b.residual);
    }
    if (taken.size() == 1 && run.tiled == nullptr && is_identity(run.rows.kept) &&
        static_cast<int64_t>(run.rows.kept.size()) == from.rows) {
      b.features = from;  // no layer follows
      return;
    }
    const int64_t hidden = b.residual.cols;
    backend_.mix_rows({.inputs = {&from, 1},
                       .rows = run.rows.kept,
                       .output = b.features.columns(static_cast<int64_t>(i) * hidden, hidden)});
  }
}

}  // namespace troupe::vision
