#include "vision/stages.hpp"

#include <cmath>

#include "models/layers/dense.hpp"

namespace troupe::vision {
namespace {

using models::Step;
using models::WeightLoader;
using Loaded = Result<std::unique_ptr<PlacedStage>>;

class ShuffleStage final : public PlacedStage {
 public:
  explicit ShuffleStage(const Shuffle& spec) : spec_(spec) {}
  TileShape shape(const TileShape& in) const override {
    return {in.frames, in.rows / spec_.side, in.columns / spec_.side, in.extra};
  }
  int64_t columns(int64_t in) const override { return in * spec_.side * spec_.side; }
  void run(Step& step, const std::vector<TileShape>& tiles, const Matrix& input,
           const Matrix& output) override {
    // The output seen as rows of the input's width.
    const int64_t blocks = int64_t{spec_.side} * spec_.side;
    const Matrix narrow{output.data, output.dtype, output.rows * blocks, input.cols, input.cols};
    std::vector<int32_t> rows;
    rows.reserve(static_cast<size_t>(narrow.rows));
    int32_t first = 0;
    for (const TileShape& tile : tiles) {
      list(tile, first, rows);
      first += static_cast<int32_t>(tile.count());
    }
    step.backend.mix_rows({.inputs = {&input, 1}, .rows = rows, .output = narrow});
  }

 private:
  void list(const TileShape& tile, int32_t first, std::vector<int32_t>& rows) const {
    const int32_t side = spec_.side;
    if (spec_.order == Shuffle::Order::blocks) {
      for (int32_t i = 0; i < tile.count(); ++i) rows.push_back(first + i);
      return;
    }
    const bool by_columns = spec_.order == Shuffle::Order::grid_by_columns;
    const int32_t outer = (by_columns ? tile.columns : tile.rows) / side;
    const int32_t inner = (by_columns ? tile.rows : tile.columns) / side;
    for (int32_t frame = 0; frame < tile.frames; ++frame) {
      const int32_t base = first + frame * tile.rows * tile.columns;
      for (int32_t o = 0; o < outer; ++o) {
        for (int32_t i = 0; i < inner; ++i) {
          const int32_t top = (by_columns ? i : o) * side, left = (by_columns ? o : i) * side;
          for (int32_t block = 0; block < side * side; ++block) {
            rows.push_back(base + (top + block / side) * tile.columns + left + block % side);
          }
        }
      }
    }
  }

  const Shuffle spec_;
};

class PoolStage final : public PlacedStage {
 public:
  explicit PoolStage(const Pool& spec) : spec_(spec) {}
  TileShape shape(const TileShape& in) const override {
    return {in.frames, in.rows / spec_.side, in.columns / spec_.side, 0};
  }
  void run(Step& step, const std::vector<TileShape>& tiles, const Matrix& input,
           const Matrix& output) override {
    const int32_t side = spec_.side, area = side * side;
    std::vector<int32_t> rows;
    int32_t first = 0;
    for (const TileShape& tile : tiles) {
      for (int32_t row = 0; row < tile.frames * tile.rows / side; ++row) {
        for (int32_t column = 0; column < tile.columns / side; ++column) {
          const int32_t corner = first + row * side * tile.columns + column * side;
          for (int32_t i = 0; i < area; ++i) {
            rows.push_back(corner + i / side * tile.columns + i % side);
          }
        }
      }
      first += static_cast<int32_t>(tile.count());
    }
    const std::vector<float> weights(rows.size(), 1.0F / static_cast<float>(area));
    step.backend.mix_rows({.inputs = {&input, 1},
                           .rows = rows,
                           .weights = weights,
                           .taps = area,
                           .output = output});
  }

 private:
  const Pool spec_;
};

class NormStage final : public PlacedStage {
 public:
  static Loaded load(const Norm& spec, WeightLoader& loader) {
    auto out = std::make_unique<NormStage>();
    TR_ASSIGN(out->norm_, models::load_norm(spec.norm, loader));
    return Loaded(std::move(out));
  }
  void run(Step& step, const std::vector<TileShape>&, const Matrix& input,
           const Matrix& output) override {
    norm_.run(step.backend, input, {}, output);
  }

 private:
  models::PlacedNorm norm_;
};

class LinearStage final : public PlacedStage {
 public:
  static Loaded load(const Linear& spec, WeightLoader& loader) {
    auto out = std::make_unique<LinearStage>();
    TR_ASSIGN(out->weight_, loader.linear(spec.weight));
    return Loaded(std::move(out));
  }
  int64_t columns(int64_t) const override { return weight_.text.out; }
  void run(Step& step, const std::vector<TileShape>&, const Matrix& input,
           const Matrix& output) override {
    step.backend.linear(step.batch, {.input = input, .weight = &weight_.text, .output = output});
  }

 private:
  models::PlacedLinear weight_;
};

class ActivateStage final : public PlacedStage {
 public:
  explicit ActivateStage(const Activate& spec) : spec_(spec) {}
  void run(Step& step, const std::vector<TileShape>&, const Matrix& input,
           const Matrix& output) override {
    step.backend.activation({.kind = spec_.kind, .input = input, .output = output});
  }

 private:
  const Activate spec_;
};

class GatedStage final : public PlacedStage {
 public:
  static Loaded load(const Gated& spec, WeightLoader& loader) {
    auto out = std::make_unique<GatedStage>();
    out->ffn_ = std::make_unique<models::DenseLayer>(spec.ffn);
    TR_TRY(out->ffn_->load(loader));
    return Loaded(std::move(out));
  }
  int64_t columns(int64_t) const override { return ffn_->down().text.out; }
  size_t scratch_bytes(int64_t in_rows, int64_t, DType activation) const override {
    return ffn_->scratch_bytes(in_rows, activation);
  }
  void run(Step& step, const std::vector<TileShape>&, const Matrix& input,
           const Matrix& output) override {
    ffn_->run(step, input, output);
  }

 private:
  std::unique_ptr<models::DenseLayer> ffn_;
};

class BookendsStage final : public PlacedStage {
 public:
  static Loaded load(const Bookends& spec, WeightLoader& loader) {
    auto out = std::make_unique<BookendsStage>();
    TR_ASSIGN(out->before_, loader.matrix(spec.before));
    TR_ASSIGN(out->behind_, loader.matrix(spec.behind));
    return Loaded(std::move(out));
  }
  TileShape shape(const TileShape& in) const override {
    return {in.frames, in.rows, in.columns, in.extra + 2};
  }
  void run(Step& step, const std::vector<TileShape>& tiles, const Matrix& input,
           const Matrix& output) override {
    const Matrix inputs[] = {input, before_, behind_};
    const auto ends = static_cast<int32_t>(input.rows);
    std::vector<int32_t> rows;
    int32_t first = 0;
    for (const TileShape& tile : tiles) {
      rows.push_back(ends);
      for (int32_t i = 0; i < tile.count(); ++i) rows.push_back(first + i);
      rows.push_back(ends + 1);
      first += static_cast<int32_t>(tile.count());
    }
    step.backend.mix_rows({.inputs = inputs, .rows = rows, .output = output});
  }

 private:
  Matrix before_, behind_;
};

// The sines, then the cosines, of a place along one axis: half of what a key is given.
std::vector<float> place_table(int32_t side, int64_t half) {
  std::vector<float> out(static_cast<size_t>(side * half));
  const int64_t waves = half / 2;
  for (int64_t place = 0; place < side; ++place) {
    for (int64_t i = 0; i < waves; ++i) {
      const float step = static_cast<float>(i) / static_cast<float>(waves);
      const float angle = static_cast<float>(place) * (1.0F / std::pow(10000.0F, step));
      out[static_cast<size_t>(place * half + i)] = std::sin(angle);
      out[static_cast<size_t>(place * half + waves + i)] = std::cos(angle);
    }
  }
  return out;
}

class ResamplerStage final : public PlacedStage {
 public:
  static Loaded load(const Resampler& spec, WeightLoader& loader) {
    auto out = std::make_unique<ResamplerStage>();
    out->heads_ = spec.heads;
    TR_ASSIGN(out->queries_, loader.matrix(spec.queries));
    TR_ASSIGN(out->query_norm_, models::load_norm(spec.query_norm, loader));
    TR_ASSIGN(out->kv_norm_, models::load_norm(spec.kv_norm, loader));
    TR_ASSIGN(out->post_norm_, models::load_norm(spec.post_norm, loader));
    for (const auto& [to, from] : {std::pair(&out->kv_, &spec.kv), std::pair(&out->q_, &spec.q),
                                   std::pair(&out->k_, &spec.k), std::pair(&out->v_, &spec.v),
                                   std::pair(&out->out_, &spec.out),
                                   std::pair(&out->projection_, &spec.projection)}) {
      TR_ASSIGN(*to, loader.linear(*from));
    }
    const int64_t half = spec.queries.cols / 2;
    TR_ASSIGN(out->places_, loader.upload(place_table(spec.side_max, half), "places of keys",
                                          spec.side_max, loader.activation_dtype()));
    return Loaded(std::move(out));
  }
  TileShape shape(const TileShape&) const override {
    return {1, 1, static_cast<int32_t>(queries_.rows), 0};
  }
  int64_t columns(int64_t) const override { return projection_.text.out; }
  size_t scratch_bytes(int64_t in_rows, int64_t out_rows, DType activation) const override {
    models::Scratch scratch;
    lay_out(scratch, in_rows, out_rows, activation);
    return scratch.used();
  }
  void run(Step& step, const std::vector<TileShape>& tiles, const Matrix& input,
           const Matrix& output) override {
    Backend& backend = step.backend;
    const Slots s = lay_out(step.scratch, input.rows, output.rows, step.activation);
    backend.linear(step.batch, {.input = input, .weight = &kv_.text, .output = s.rows});
    kv_norm_.run(backend, s.rows, {}, s.rows);
    backend.linear(step.batch, {.input = s.rows, .weight = &v_.text, .output = s.values});
    know_places(backend, tiles, s.rows);
    backend.linear(step.batch, {.input = s.rows, .weight = &k_.text, .output = s.keys});
    std::vector<int32_t> rows, ends, key_ends;
    const auto count = static_cast<int32_t>(queries_.rows);
    for (const TileShape& tile : tiles) {
      for (int32_t i = 0; i < count; ++i) rows.push_back(i);
      ends.push_back((ends.empty() ? 0 : ends.back()) + count);
      key_ends.push_back((key_ends.empty() ? 0 : key_ends.back()) +
                         static_cast<int32_t>(tile.count()));
    }
    backend.mix_rows({.inputs = {&queries_, 1}, .rows = rows, .output = s.attended});
    query_norm_.run(backend, s.attended, {}, s.attended);
    backend.linear(step.batch, {.input = s.attended, .weight = &q_.text, .output = s.queries});
    const auto dim = static_cast<float>(queries_.cols / heads_);
    backend.packed_attention({.query = s.queries,
                              .key = s.keys,
                              .value = s.values,
                              .ends = ends,
                              .heads = heads_,
                              .kv_heads = heads_,
                              .scale = 1.0F / std::sqrt(dim),
                              .output = s.attended,
                              .key_ends = key_ends});
    backend.linear(step.batch, {.input = s.attended, .weight = &out_.text, .output = s.queries});
    post_norm_.run(backend, s.queries, {}, s.queries);
    backend.linear(step.batch, {.input = s.queries, .weight = &projection_.text, .output = output});
  }

 private:
  struct Slots {
    Matrix rows, keys, values, queries, attended;
  };
  Slots lay_out(models::Scratch& scratch, int64_t in_rows, int64_t out_rows, DType type) const {
    const int64_t width = queries_.cols;
    return {scratch.take(in_rows, width, type), scratch.take(in_rows, width, type),
            scratch.take(in_rows, width, type), scratch.take(out_rows, width, type),
            scratch.take(out_rows, width, type)};
  }
  // Adds the column's table to the first half of each row, the row's to the second.
  void know_places(Backend& backend, const std::vector<TileShape>& tiles, const Matrix& rows) {
    std::vector<int32_t> ys, xs;
    for (const TileShape& tile : tiles) {
      for (int32_t i = 0; i < tile.rows * tile.columns; ++i) {
        ys.push_back(i / tile.columns);
        xs.push_back(i % tile.columns);
      }
    }
    const int64_t half = rows.cols / 2;
    for (const auto& [indices, at] : {std::pair(&xs, int64_t{0}), std::pair(&ys, half)}) {
      backend.mix_rows({.inputs = {&places_, 1},
                        .rows = *indices,
                        .accumulate = true,
                        .output = rows.columns(at, half)});
    }
  }

  int32_t heads_ = 0;
  Matrix queries_, places_;
  models::PlacedNorm query_norm_, kv_norm_, post_norm_;
  models::PlacedLinear kv_, q_, k_, v_, out_, projection_;
};

struct StageLoader {
  WeightLoader& loader;
  Loaded operator()(const Shuffle& s) const { return Loaded(std::make_unique<ShuffleStage>(s)); }
  Loaded operator()(const Pool& s) const { return Loaded(std::make_unique<PoolStage>(s)); }
  Loaded operator()(const Norm& s) const { return NormStage::load(s, loader); }
  Loaded operator()(const Linear& s) const { return LinearStage::load(s, loader); }
  Loaded operator()(const Activate& s) const { return Loaded(std::make_unique<ActivateStage>(s)); }
  Loaded operator()(const Gated& s) const { return GatedStage::load(s, loader); }
  Loaded operator()(const Bookends& s) const { return BookendsStage::load(s, loader); }
  Loaded operator()(const Resampler& s) const { return ResamplerStage::load(s, loader); }
};

}  // namespace

Result<std::unique_ptr<PlacedStage>> load_stage(const Stage& stage, WeightLoader& loader) {
  return std::visit(StageLoader{loader}, stage);
}

}  // namespace troupe::vision
