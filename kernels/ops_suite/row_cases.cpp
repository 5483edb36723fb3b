// Cases of the ops that treat each row by itself.
#include "kernels/ops_suite/cases.hpp"
#include "kernels/ops_suite/lab.hpp"
#include "kernels/ops_suite/plans.hpp"

namespace troupe::ops_suite {
namespace {

// Rows and columns worth trying: none, one, odd, just below and above vector widths.
struct Shape {
  int64_t rows;
  int64_t cols;
};
constexpr Shape kShapes[] = {{0, 64}, {1, 8}, {1, 64}, {3, 40}, {7, 136}, {33, 96}, {2, 2056}};

constexpr Activation kActivations[] = {Activation::silu,      Activation::gelu,
                                       Activation::gelu_tanh, Activation::gelu_quick,
                                       Activation::relu,      Activation::relu2};

std::string named(const char* what, const Shape& shape) {
  return std::string(what) + " " + std::to_string(shape.rows) + "x" + std::to_string(shape.cols);
}

}  // namespace

void embed_case(Lab& lab) {
  lab.reserve(8, 64, 8, 100);
  const int64_t hidden = lab.one_of<int64_t>({8, 40, 64, 136});
  const Twin table = lab.weight_matrix(50, hidden);
  StepPlanDraft draft;
  add_sequence(draft, {.slot = 0, .rows = static_cast<int32_t>(lab.between(1, 20))});
  add_sequence(draft, {.slot = 1, .rows = 1});
  for (int32_t& t : draft.token_ids) t = static_cast<int32_t>(lab.between(0, 99));
  draft.token_ids[0] = kTokenInjected;
  const auto rows = static_cast<int64_t>(draft.token_ids.size());
  const BatchTwin batch = lab.begin(draft, {});
  for (int32_t first : {0, 50, 30}) {  // a shard sees its own tokens only
    const Twin out = lab.poisoned(rows, hidden);
    const float scale = lab.one_of({1.0F, 11.3F});
    lab.test.embed(batch.test, {table.test, first, scale, out.test});
    lab.plain().embed(batch.plain, {table.plain, first, scale, out.plain});
    lab.compare(out, "embed from " + std::to_string(first));
  }
  lab.finish(batch);
}

void inject_gather_case(Lab& lab) {
  lab.reserve(8, 64, 16, 100);
  const int64_t cols = lab.one_of<int64_t>({8, 72, 200});
  StepPlanDraft draft;
  add_sequence(draft, {.slot = 0, .rows = 13});
  add_sequence(draft, {.slot = 1, .rows = 5});
  draft.injects.push_back({.id = 1, .row = 2, .count = 4, .source_row = 3, .sequence = 0});
  draft.injects.push_back({.id = 2, .row = 14, .count = 1, .source_row = 0, .sequence = 1});
  draft.injects.push_back({.id = 3, .row = 17, .count = 0, .source_row = 0, .sequence = 1});
  for (int32_t row : {12, 17, 0, 12}) {
    draft.logit_rows.push_back({.row = row, .sequence = row < 13 ? 0 : 1});
  }
  const BatchTwin batch = lab.begin(draft, {});
  const Twin a = lab.activations(8, cols);
  const Twin b = lab.activations(1, cols);
  const Twin rows = lab.activations(18, cols);
  const std::vector<Matrix> test = {a.test, b.test, b.test};
  const std::vector<Matrix> plain = {a.plain, b.plain, b.plain};
  lab.test.inject(batch.test, {test, rows.test});
  lab.plain().inject(batch.plain, {plain, rows.plain});
  lab.compare(rows, "inject");
  const Twin gathered = lab.poisoned(4, cols);
  lab.test.gather(batch.test, {rows.test, gathered.test});
  lab.plain().gather(batch.plain, {rows.plain, gathered.plain});
  lab.compare(gathered, "gather");
  lab.finish(batch);
}

void norm_case(Lab& lab) {
  for (const Shape& shape : kShapes) {
    for (NormKind kind : {NormKind::rms, NormKind::layer}) {
      const bool residual = lab.toss();
      const bool bias = lab.toss();
      const bool weight = lab.between(0, 3) != 0;
      const Twin x = lab.activations(shape.rows, shape.cols, 2.0F);
      const Twin r = residual ? lab.activations(shape.rows, shape.cols) : Twin{};
      const Twin w = weight ? lab.weight_matrix(1, shape.cols) : Twin{};
      const Twin b = bias ? lab.weight_matrix(1, shape.cols) : Twin{};
      const Twin out = lab.poisoned(shape.rows, shape.cols);
      const float offset = lab.one_of({0.0F, 1.0F});
      lab.test.norm({kind, x.test, r.test, w.test, b.test, offset, 1e-5F, 0, out.test});
      lab.plain().norm({kind, x.plain, r.plain, w.plain, b.plain, offset, 1e-5F, 0, out.plain});
      lab.compare(out, named(kind == NormKind::rms ? "rms" : "layer", shape));
      if (residual) lab.compare(r, named("residual", shape));
    }
  }
}

void norm_group_case(Lab& lab) {
  for (int32_t head_dim : {8, 64, 80, 128}) {
    const int64_t rows = lab.between(0, 9);
    const int64_t heads = lab.between(1, 5);
    const bool wide = lab.toss();  // a weight of its own for each head
    const Twin x = lab.activations(rows, heads * head_dim);
    const Twin w = lab.weight_matrix(1, wide ? heads * head_dim : head_dim);
    lab.test.norm({NormKind::rms, x.test, {}, w.test, {}, 0.0F, 1e-6F, head_dim, x.test});
    lab.plain().norm({NormKind::rms, x.plain, {}, w.plain, {}, 0.0F, 1e-6F, head_dim, x.plain});
    lab.compare(x, "in place by groups of " + std::to_string(head_dim));
  }
}

void add_case(Lab& lab) {
  for (const Shape& shape : kShapes) {
    const bool addend = lab.toss();
    const Twin x = lab.activations(shape.rows, shape.cols);
    const Twin y = addend ? lab.activations(shape.rows, shape.cols) : Twin{};
    const Twin out = lab.toss() ? x : lab.poisoned(shape.rows, shape.cols);
    const float scale = lab.one_of({1.0F, 0.22F});
    lab.test.add({x.test, y.test, scale, out.test});
    lab.plain().add({x.plain, y.plain, scale, out.plain});
    lab.compare(out, named("add", shape));
  }
}

void scale_columns_case(Lab& lab) {
  for (const Shape& shape : kShapes) {
    const Twin x = lab.activations(shape.rows, shape.cols);
    const Twin w = lab.weight_matrix(1, shape.cols);
    const Twin out = lab.toss() ? x : lab.poisoned(shape.rows, shape.cols);
    lab.test.scale_columns({x.test, w.test, out.test});
    lab.plain().scale_columns({x.plain, w.plain, out.plain});
    lab.compare(out, named("scale_columns", shape));
  }
}

// Rows of activations and of a weight table, in any order, some left out, one or several taps.
void mix_rows_case(Lab& lab) {
  for (const Shape& shape : kShapes) {
    const auto taps = static_cast<int32_t>(lab.one_of({1, 1, 2, 4, 16}));
    const bool accumulate = lab.toss();
    const Twin a = lab.activations(lab.between(1, 9), shape.cols);
    const Twin table = lab.weight_matrix(lab.between(2, 7), shape.cols);
    const Twin b = lab.activations(lab.between(1, 5), shape.cols);
    const Twin out = accumulate ? lab.activations(shape.rows, shape.cols)
                                : lab.poisoned(shape.rows, shape.cols);
    std::vector<int32_t> rows;
    std::vector<float> weights;
    const int64_t last = a.plain.rows + table.plain.rows + b.plain.rows - 1;
    for (int64_t i = 0; i < shape.rows * taps; ++i) {
      rows.push_back(static_cast<int32_t>(lab.between(-1, last)));
      weights.push_back(lab.uniform(-1.0F, 1.0F));
    }
    if (lab.toss()) weights.clear();
    const std::vector<Matrix> test = {a.test, table.test, b.test};
    const std::vector<Matrix> plain = {a.plain, table.plain, b.plain};
    lab.test.mix_rows({test, rows, weights, taps, accumulate, out.test});
    lab.plain().mix_rows({plain, rows, weights, taps, accumulate, out.plain});
    lab.compare(out, named("mix_rows", shape));
  }
}

void activation_case(Lab& lab) {
  for (Activation kind : kActivations) {
    for (const Shape& shape : kShapes) {
      const Twin x = lab.activations(shape.rows, shape.cols, 3.0F);
      const Twin out = lab.toss() ? x : lab.poisoned(shape.rows, shape.cols);
      lab.test.activation({kind, x.test, out.test});
      lab.plain().activation({kind, x.plain, out.plain});
      lab.compare(out, named(("kind " + std::to_string(static_cast<int>(kind))).c_str(), shape));
    }
  }
}

void gated_activation_case(Lab& lab) {
  for (Activation kind : kActivations) {
    for (const Shape& shape : kShapes) {
      const Twin x = lab.activations(shape.rows, 2 * shape.cols, 3.0F);
      const Twin out = lab.poisoned(shape.rows, shape.cols);
      lab.test.gated_activation({kind, x.test, out.test});
      lab.plain().gated_activation({kind, x.plain, out.plain});
      lab.compare(out, named(("kind " + std::to_string(static_cast<int>(kind))).c_str(), shape));
    }
  }
}

}  // namespace troupe::ops_suite
