#include "vision/encoder.hpp"

#include <algorithm>
#include <numeric>
#include <string>
#include <thread>

#include "models/convert.hpp"
#include "vision/encoder_run.hpp"
#include "vision/unpad.hpp"

namespace troupe::vision {

using models::Scratch;
using models::Step;

constexpr size_t kConvertThreads = 6, kPatchesEach = 512;

VisionEncoder::VisionEncoder(std::shared_ptr<const OpenedFolder> folder, Backend& backend)
    : folder_(std::move(folder)),
      backend_(backend),
      activation_(backend.activation_dtype(folder_->dtype())) {}
VisionEncoder::~VisionEncoder() = default;

// ---- sizes ----

std::vector<TileShape> VisionEncoder::first_shapes(std::span<const PatchGrid> tiles) const {
  const Tower& t = folder_->description().tower;
  std::vector<TileShape> out;
  for (const PatchGrid& g : tiles) {
    if (tiled() != nullptr) {  // all that there may be, each with a class token
      out.push_back({tiled()->tiles_max, g.rows, g.columns, tiled()->tiles_max});
      continue;
    }
    out.push_back({g.frames, g.rows, g.columns, t.keep_class ? 1 : 0});
  }
  return out;
}

int32_t VisionEncoder::rows_of(const PatchGrid& grid) const {
  TileShape shape = first_shapes({&grid, 1}).front();
  for (const auto& stage : stages_) shape = stage->shape(shape);
  return static_cast<int32_t>(shape.count());
}

VisionEncoder::Buffers VisionEncoder::lay_out(Scratch& scratch, int64_t patches, int64_t rows,
                                              int64_t kept) const {
  const Tower& t = folder_->description().tower;
  const auto take = [&](int64_t count, int64_t cols) {
    return scratch.take(count, cols, activation_);
  };
  Buffers b;
  b.patches = take(patches, t.patch_values);
  b.embedded = take(patches, t.hidden);
  b.residual = take(rows, t.hidden);
  b.normed = take(rows, t.hidden);
  b.branch = take(rows, t.hidden);
  b.features = take(kept, int64_t{t.hidden} * static_cast<int64_t>(t.taken.size()));
  return b;
}

size_t VisionEncoder::layer_bytes(int64_t rows) const {
  size_t most = 0;
  for (const PlacedLayer& layer : layers_) {
    Scratch attention;
    attention.take(rows, layer.qkv.text.out, activation_);
    attention.take(rows, layer.out.text.in, activation_);
    most = std::max({most, attention.used(), layer.ffn->scratch_bytes(rows, activation_)});
  }
  return most;
}

namespace {

int64_t count_rows(const std::vector<TileShape>& tiles) {
  int64_t rows = 0;
  for (const TileShape& t : tiles) rows += t.count();
  return rows;
}

}  // namespace

size_t VisionEncoder::stage_bytes(std::vector<TileShape> tiles) const {
  const Tower& t = folder_->description().tower;
  int64_t columns = int64_t{t.hidden} * static_cast<int64_t>(t.taken.size());
  Scratch scratch;
  size_t inner = 0;
  for (const auto& stage : stages_) {
    const int64_t in_rows = count_rows(tiles);
    for (TileShape& tile : tiles) tile = stage->shape(tile);
    columns = stage->columns(columns);
    scratch.take(count_rows(tiles), columns, activation_);
    inner = std::max(inner, stage->scratch_bytes(in_rows, count_rows(tiles), activation_));
  }
  return scratch.used() + inner + size_t{4096};  // alignment of the pieces behind one another
}

size_t VisionEncoder::bytes_for(std::span<const PatchGrid> tiles) const {
  int64_t patches = 0;
  for (const PatchGrid& g : tiles) patches += g.patches();
  const auto count = static_cast<int64_t>(tiles.size());
  const Tower& t = folder_->description().tower;
  int64_t rows = patches + (t.class_token ? count : 0);
  int64_t kept = t.keep_class ? rows : patches;
  if (tiled() != nullptr) {  // pictures go through one by one
    const TiledRows all = lay_tiled(*tiled(), {}, tiled()->tiles_max, 0);
    rows = all.rows;
    kept = all.normed;
    patches = std::max(patches, kept);
  }
  Scratch scratch;
  lay_out(scratch, patches, rows, kept);
  return scratch.used() + std::max(layer_bytes(rows), stage_bytes(first_shapes(tiles)));
}

// For towers that take any grid: one long tile, or many of the smallest that are usual.
size_t VisionEncoder::workspace_bytes(int64_t patches) const {
  const Tower& t = folder_->description().tower;
  const auto cut = [&](int64_t each) {
    const PatchGrid grid{1, t.merge, static_cast<int32_t>(std::max<int64_t>(each / t.merge, 1))};
    return std::vector<PatchGrid>(static_cast<size_t>((patches + each - 1) / each), grid);
  };
  if (t.tile_side > 0) {
    const int64_t area = int64_t{t.tile_side} * t.tile_side;
    const PatchGrid grid{1, t.tile_side, t.tile_side};
    return bytes_for(
        std::vector<PatchGrid>(static_cast<size_t>((patches + area - 1) / area), grid));
  }
  constexpr int64_t kSmallTile = 64;
  return std::max(bytes_for(cut(std::max<int64_t>(patches, 1))), bytes_for(cut(kSmallTile)));
}

Status VisionEncoder::reserve(int64_t patches) {
  const Tower& t = folder_->description().tower;
  const auto turn = take_turn();  // products may be timed
  workspace_.reset();
  const int64_t at_once = tiled() != nullptr ? tiled()->tiles_max : 1;
  patches = std::max(patches, at_once * std::max(1, t.tile_side * t.tile_side));
  patches_max_ = patches;
  auto buffer = backend_.allocate(workspace_bytes(patches), "vision workspace");
  if (!buffer.ok()) return buffer.status();
  workspace_ = std::move(buffer).value();
  int64_t rows = patches + (t.class_token ? patches : 0);  // a bound: tiles have a patch
  if (tiled() != nullptr) rows = lay_tiled(*tiled(), {}, tiled()->tiles_max, 0).rows;
  return backend_.reserve_steps(1, static_cast<int32_t>(rows), 1, 1);
}

// ---- a pass ----

Result<Batch> VisionEncoder::begin(int64_t rows, std::vector<int32_t> rope) {
  StepPlanDraft draft;
  draft.step = ++steps_;
  const auto count = static_cast<int32_t>(rows);
  draft.token_ids.assign(static_cast<size_t>(rows), 0);
  draft.positions.resize(static_cast<size_t>(rows));
  std::iota(draft.positions.begin(), draft.positions.end(), 0);
  draft.rope_positions = std::move(rope);
  draft.sequences.push_back({.row_count = count, .kv_len = count, .prompt_len = count});
  std::vector<std::byte> bytes;
  draft.seal(bytes);
  TR_ASSIGN(const PlanView plan, PlanView::parse(bytes));
  return backend_.begin_step(plan, {});
}

Status VisionEncoder::finish(const Batch& batch) {
  auto result = backend_.finish_step(batch);
  TR_TRY(result.status());
  return backend_.synchronize();
}

Status VisionEncoder::upload_patches(std::span<const Tile> tiles, const TowerRows& rows,
                                     const Matrix& to) {
  std::vector<const float*> sources;
  sources.reserve(static_cast<size_t>(rows.patches));
  for (const Tile& tile : tiles) {
    for (int64_t i = 0; i < tile.grid.patches(); ++i) {
      sources.push_back(tile.patches.data() + i * tile.patch_values);
    }
  }
  const auto columns = static_cast<size_t>(to.cols);
  const size_t row_bytes = columns * dtype_bytes(activation_), bytes = row_bytes * sources.size();
  if (converted_.size() < bytes) converted_.resize(bytes);
  const auto convert = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const size_t from = rows.patch_order.empty() ? i : static_cast<size_t>(rows.patch_order[i]);
      models::convert(sources[from], DType::f32, converted_.data() + i * row_bytes, activation_,
                      columns);
    }
  };
  // A device would wait for one thread longer than for its own work.
  const size_t threads = backend_.info().unified_memory ? 1 : kConvertThreads;
  const size_t each = std::max(sources.size() / threads + 1, kPatchesEach);
  {
    std::vector<std::jthread> helpers;
    for (size_t begin = each; begin < sources.size(); begin += each)
      helpers.emplace_back(convert, begin, std::min(begin + each, sources.size()));
    convert(0, std::min(each, sources.size()));
  }
  return backend_.upload(to.data, converted_.data(), bytes);
}

void VisionEncoder::project(Run& run, std::span<const Tile> tiles,
                            std::span<const Matrix> outputs) {
  std::vector<PatchGrid> grids;
  for (const Tile& tile : tiles) grids.push_back(tile.grid);
  std::vector<TileShape> shapes = first_shapes(grids);
  Matrix rows = run.buffers.features;
  for (const auto& stage : stages_) {
    std::vector<TileShape> next = shapes;
    for (TileShape& shape : next) shape = stage->shape(shape);
    const Matrix output =
        run.step.scratch.take(count_rows(next), stage->columns(rows.cols), activation_);
    const size_t mark = run.step.scratch.used();
    stage->run(run.step, shapes, rows, output);
    run.step.scratch.rewind(mark);
    rows = output;
    shapes = std::move(next);
  }
  std::vector<int32_t> order = run.rows.merged_order;
  if (order.empty()) {
    order.resize(static_cast<size_t>(rows.rows));
    std::iota(order.begin(), order.end(), 0);
  }
  std::span<const int32_t> left = order;
  for (const Matrix& output : outputs) {
    const auto count = static_cast<size_t>(output.rows);
    backend_.mix_rows({.inputs = {&rows, 1}, .rows = left.first(count), .output = output});
    left = left.subspan(count);
  }
}

Status VisionEncoder::encode_group(std::span<const Tile> tiles, std::span<const Matrix> outputs) {
  std::vector<PatchGrid> grids;
  for (const Tile& tile : tiles) grids.push_back(tile.grid);
  const Tower& t = folder_->description().tower;
  TowerRows rows = lay_rows(t, grids);
  TiledRows all;
  if (tiled() != nullptr) {
    all = lay_tiled(*tiled(), tiled_gates_, grids.front().frames, tiles.front().aspect);
    rows.rows = all.rows;
    rows.rope.clear();
    rows.kept.resize(static_cast<size_t>(all.normed));
    std::iota(rows.kept.begin(), rows.kept.end(), 0);
  }
  Scratch scratch(workspace_->data(), workspace_->bytes());
  const Buffers buffers =
      lay_out(scratch, rows.patches, rows.rows, static_cast<int64_t>(rows.kept.size()));
  TR_TRY(upload_patches(tiles, rows, buffers.patches));
  TR_ASSIGN(const Batch batch, begin(rows.rows, rows.rope));
  const auto turn = take_turn();
  Step step{.backend = backend_,
            .batch = batch,
            .caches = {},
            .ropes = ropes_,
            .scratch = scratch,
            .activation = activation_,
            .forced = {}};
  Run run{.step = step,
          .rows = rows,
          .buffers = buffers,
          .shapes = {},
          .tiled = tiled() != nullptr ? &all : nullptr};
  tiled() != nullptr ? embed_tiled(run) : embed(run);
  take(run, 0);
  for (size_t i = 0; i < layers_.size(); ++i) {
    run_layer(run, layers_[i], t.layers[i]);
    const auto state = static_cast<int32_t>(i) + 1;
    take(run, state);
    pass_middle(run, state);
  }
  take(run, -1);
  project(run, tiles, outputs);
  return finish(batch);
}

Status VisionEncoder::check_tile(const Tile& tile, const Matrix& rows) const {
  const Tower& t = folder_->description().tower;
  const PatchGrid& g = tile.grid;
  const bool fits = t.tile_side == 0 || (g.rows == t.tile_side && g.columns == t.tile_side) ||
                    std::holds_alternative<PositionTable>(t.positions);
  if (!fits || tile.patch_values != t.patch_values || g.patches() < 1 ||
      static_cast<int64_t>(tile.patches.size()) != g.patches() * t.patch_values) {
    return internal_error("a tile of " + std::to_string(g.rows) + " x " +
                          std::to_string(g.columns) + " patches of " +
                          std::to_string(tile.patch_values) +
                          " values does not belong to this tower");
  }
  if (tiled() != nullptr &&
      (g.frames > tiled()->tiles_max || tile.aspect < 0 || tile.aspect >= tiled()->aspects)) {
    return internal_error("a picture of " + std::to_string(g.frames) + " tiles, aspect " +
                          std::to_string(tile.aspect) + ", does not belong to this tower");
  }
  if (rows.rows == rows_of(g) && rows.cols == folder_->rules().hidden) return ok_status();
  return internal_error("a tile gives " + std::to_string(rows_of(g)) + " rows of " +
                        std::to_string(folder_->rules().hidden) + ", there is room for " +
                        std::to_string(rows.rows) + " of " + std::to_string(rows.cols));
}

Status VisionEncoder::encode(std::span<const Tile> tiles, std::span<const Matrix> rows) {
  if (workspace_ == nullptr) return internal_error("VisionModel::encode before reserve()");
  if (rows.size() != tiles.size()) {
    return internal_error(std::to_string(tiles.size()) + " tiles, and rows for " +
                          std::to_string(rows.size()));
  }
  for (size_t i = 0; i < tiles.size(); ++i) TR_TRY(check_tile(tiles[i], rows[i]));
  for (size_t begin = 0; begin < tiles.size();) {
    std::vector<PatchGrid> grids;
    int64_t patches = 0;
    size_t end = begin;
    for (; end < tiles.size(); ++end) {
      grids.push_back(tiles[end].grid);
      patches += tiles[end].grid.patches();
      if (patches > patches_max_) break;
      if (bytes_for(grids) > workspace_->bytes() || (tiled() != nullptr && end > begin)) break;
    }
    if (end == begin) {
      return limit_exceeded("a tile of " + std::to_string(tiles[begin].grid.patches()) +
                            " patches: vision workspace was reserved for " +
                            std::to_string(patches_max_));
    }
    TR_TRY(encode_group(tiles.subspan(begin, end - begin), rows.subspan(begin, end - begin)));
    begin = end;
  }
  return ok_status();
}

// ---- pictures ----

Status VisionEncoder::join(const PictureLayout& layout, std::span<const Matrix> tiles,
                           const Matrix& out) {
  std::vector<Matrix> inputs(tiles.begin(), tiles.end());
  std::vector<int32_t> rows;
  if (std::holds_alternative<Unpadded>(folder_->description().join)) {
    TR_ASSIGN(rows, unpadded_rows(layout));
    inputs.push_back(row_end_);
  } else {
    int64_t count = 0;
    for (const Matrix& m : tiles) count += m.rows;
    rows.resize(static_cast<size_t>(count));
    std::iota(rows.begin(), rows.end(), 0);
  }
  if (static_cast<int64_t>(rows.size()) != out.rows || out.rows != layout.rows) {
    return internal_error("the tiles of a picture join to " + std::to_string(rows.size()) +
                          " rows, its layout says " + std::to_string(layout.rows));
  }
  if (rows.empty()) return ok_status();
  TR_ASSIGN(const Batch batch, begin(1, {}));
  backend_.mix_rows({.inputs = inputs, .rows = rows, .output = out});
  return finish(batch);
}

}  // namespace troupe::vision
