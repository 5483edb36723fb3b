// Cases of the ops that multiply by weights.
#include "kernels/ops_suite/cases.hpp"
#include "kernels/ops_suite/lab.hpp"
#include "kernels/ops_suite/plans.hpp"

namespace troupe::ops_suite {
namespace {

BatchTwin rows_batch(Lab& lab, int64_t rows, bool modalities) {
  lab.reserve(4, 4096, 8, 100);
  StepPlanDraft draft;
  add_sequence(draft, {.slot = 0, .rows = static_cast<int32_t>(rows)});
  for (int64_t i = 0; modalities && i < rows; ++i) {
    draft.modality.push_back(static_cast<uint8_t>(lab.between(0, 1)));
  }
  return lab.begin(draft, {});
}

struct LinearShape {
  int64_t rows = 1;
  int64_t in = 64;
  bool bias = false;
  bool shard = false;
};

void check_linear(Lab& lab, const LinearShape& shape, const std::vector<int64_t>& outs) {
  const BatchTwin batch = rows_batch(lab, std::max<int64_t>(shape.rows, 1), false);
  const LinearTwin w = lab.linear_weight(outs, shape.in, shape.bias, shape.shard);
  const Twin x = lab.activations(shape.rows, shape.in);
  const bool wide = lab.toss();  // logits and router ask for f32
  const Twin y = lab.poisoned(shape.rows, w.plain.out, wide ? DType::f32 : lab.activations());
  lab.test.linear(batch.test, {x.test, &w.test, RowSelect::all, y.test});
  lab.plain().linear(batch.plain, {x.plain, &w.plain, RowSelect::all, y.plain});
  lab.compare(y, std::to_string(shape.rows) + " rows, " + std::to_string(shape.in) + " to " +
                     std::to_string(w.plain.out));
  lab.finish(batch);
}

}  // namespace

void linear_few_rows_case(Lab& lab) {
  for (int64_t rows : {0, 1, 2, 3, 4, 5, 6, 7, 8}) {
    const int64_t in = lab.one_of<int64_t>({8, 64, 72, 256, 1000});
    check_linear(lab, {rows, in, lab.toss(), false}, {lab.one_of<int64_t>({8, 16, 40, 200, 1000})});
  }
}

void linear_many_rows_case(Lab& lab) {
  for (int64_t rows : {9, 12, 16, 17, 31, 32, 64, 100, 520}) {
    const int64_t in = lab.one_of<int64_t>({8, 64, 72, 264, 600});
    check_linear(lab, {rows, in, lab.toss(), lab.toss()},
                 {lab.one_of<int64_t>({8, 16, 40, 200, 328})});
  }
}

void linear_parts_case(Lab& lab) {
  for (int64_t rows : {1, 3, 20}) {
    check_linear(lab, {rows, 128, lab.toss(), lab.toss()}, {64, 16, 16});
    check_linear(lab, {rows, 72, lab.toss(), lab.toss()}, {104, 104});
    check_linear(lab, {rows, 64, true, true}, {8, 304, 24, 8});
  }
}

void linear_select_case(Lab& lab) {
  for (int64_t rows : {1, 6, 40}) {
    const BatchTwin batch = rows_batch(lab, rows, true);
    const LinearTwin text = lab.linear_weight({48}, 64, true, false);
    const LinearTwin vision = lab.linear_weight({48}, 64, true, false);
    const Twin x = lab.activations(rows, 64);
    const Twin y = lab.poisoned(rows, 48);
    lab.test.linear(batch.test, {x.test, &text.test, RowSelect::text, y.test});
    lab.plain().linear(batch.plain, {x.plain, &text.plain, RowSelect::text, y.plain});
    lab.compare(y, "text rows");  // the others stay poisoned
    lab.test.linear(batch.test, {x.test, &vision.test, RowSelect::vision, y.test});
    lab.plain().linear(batch.plain, {x.plain, &vision.plain, RowSelect::vision, y.plain});
    lab.compare(y, "all rows");
    lab.finish(batch);
  }
}

void head_linear_case(Lab& lab) {
  for (int64_t rows : {0, 1, 3, 7, 20}) {
    for (bool transposed : {false, true}) {
      const int64_t heads = lab.between(1, 6);
      const int64_t in = lab.one_of<int64_t>({8, 64, 128});
      const int64_t out = lab.one_of<int64_t>({8, 40, 64, 136});
      const Twin w = transposed ? lab.weight_matrix(heads * in, out, 0.1F)
                                : lab.weight_matrix(heads * out, in, 0.1F);
      const Twin x = lab.activations(rows, heads * in);
      const Twin y = lab.poisoned(rows, heads * out);
      const auto count = static_cast<int32_t>(heads);
      lab.test.head_linear({x.test, w.test, transposed, count, y.test});
      lab.plain().head_linear({x.plain, w.plain, transposed, count, y.plain});
      lab.compare(y, std::to_string(rows) + (transposed ? " rows, transposed" : " rows"));
    }
  }
}

namespace {

struct ExpertsShape {
  int64_t rows = 1;
  int32_t first = 0;  // the experts here are [first, first + local)
  int32_t local = 0;
  bool forced = false;
  int64_t hidden = 64;
  int64_t inner = 48;
  int64_t shared = 0;  // inner rows of an expert that all rows share, added to the others
  bool added = true;   // or left beside them
};

struct RoutingTwin {
  RoutingSpec test;
  RoutingSpec plain;
};

std::vector<int32_t> forced_choice(Lab& lab, const ExpertsShape& shape, const RoutingSpec& spec) {
  std::vector<int32_t> forced;
  for (int64_t r = 0; shape.forced && r < shape.rows; ++r) {
    const auto start = static_cast<int32_t>(lab.between(0, spec.experts - 1));
    for (int32_t k = 0; k < spec.top_k; ++k) forced.push_back((start + k) % spec.experts);
  }
  return forced;
}

// As a model's layer does it: the shared expert is a plain feed-forward, added to what the others gave.
void run_shared(Lab& lab, const BatchTwin& batch, const ExpertsShape& shape, const Twin& x, const Twin& y) {
  const LinearTwin up = lab.linear_weight({shape.shared, shape.shared}, shape.hidden, false, false);
  const LinearTwin down = lab.linear_weight({shape.hidden}, shape.shared, false, false);
  const Twin wide = lab.poisoned(shape.rows, 2 * shape.shared);
  const Twin active = lab.poisoned(shape.rows, shape.shared);
  const Twin own = lab.poisoned(shape.rows, shape.hidden);
  const auto run = [&](Backend& backend, const Batch& b, const auto& of) {
    const auto weight = [&](const LinearTwin& w) { return &of(w); };
    backend.linear(b, {.input = of(x), .weight = weight(up), .output = of(wide)});
    backend.gated_activation({.kind = Activation::silu, .input = of(wide), .output = of(active)});
    backend.linear(b, {.input = of(active), .weight = weight(down), .output = of(own)});
    if (shape.added) backend.add({.input = of(own), .addend = of(y), .scale = 1.0F, .output = of(y)});
  };
  run(lab.test, batch.test, [](const auto& twin) -> const auto& { return twin.test; });
  run(lab.plain(), batch.plain, [](const auto& twin) -> const auto& { return twin.plain; });
  if (!shape.added) lab.compare(own, "the shared expert");
}

void check_experts(Lab& lab, const ExpertsShape& shape, const RoutingTwin& routing) {
  const BatchTwin batch = rows_batch(lab, shape.rows, false);
  std::vector<LinearWeight> gate_up[2];
  std::vector<LinearWeight> down[2];
  for (int32_t e = 0; e < shape.local; ++e) {
    const LinearTwin g = lab.linear_weight({shape.inner, shape.inner}, shape.hidden, false, false);
    const LinearTwin d = lab.linear_weight({shape.hidden}, shape.inner, false, false);
    gate_up[0].push_back(g.test);
    gate_up[1].push_back(g.plain);
    down[0].push_back(d.test);
    down[1].push_back(d.plain);
  }
  std::vector<float> logits;
  for (int64_t i = 0; i < shape.rows * routing.plain.experts; ++i) {
    logits.push_back(lab.uniform(-3.0F, 3.0F));
  }
  const Twin router = lab.values(DType::f32, logits, shape.rows, routing.plain.experts);
  const auto forced = forced_choice(lab, shape, routing.plain);
  const Twin x = lab.activations(shape.rows, shape.hidden);
  const Twin y = lab.poisoned(shape.rows, shape.hidden);
  lab.test.experts(batch.test, {x.test, router.test, &routing.test, gate_up[0], down[0],
                                shape.first, Activation::silu, forced, y.test});
  lab.plain().experts(batch.plain, {x.plain, router.plain, &routing.plain, gate_up[1], down[1],
                                    shape.first, Activation::silu, forced, y.plain});
  if (shape.shared > 0) run_shared(lab, batch, shape, x, y);
  lab.compare(y, std::to_string(shape.rows) + " rows");
  lab.finish(batch);
}

}  // namespace

void experts_case(Lab& lab) {
  for (int64_t rows : {1, 2, 13, 70}) {
    RoutingSpec routing;
    routing.experts = static_cast<int32_t>(lab.between(4, 9));
    routing.top_k = static_cast<int32_t>(lab.between(1, 3));
    routing.renormalise = lab.toss();
    routing.scale = lab.one_of({1.0F, 2.5F});
    const bool shard = lab.toss();
    check_experts(lab, {rows, shard ? 2 : 0, shard ? 2 : routing.experts, lab.toss()},
                  {routing, routing});
  }
}

// So many rows that a backend may gather them by expert: experts that no row chose, one that all
// chose, and sizes that fill no tile.
void experts_many_case(Lab& lab) {
  for (int64_t rows : {5, 31, 128, 130, 300}) {
    RoutingSpec routing;
    routing.experts = static_cast<int32_t>(lab.one_of({2, 8, 40, 130}));
    routing.top_k = static_cast<int32_t>(lab.between(1, 2));
    routing.renormalise = lab.toss();
    const bool shard = routing.experts > 8 && lab.toss();
    const int32_t local = shard ? 5 : routing.experts;
    check_experts(lab, {rows, shard ? 3 : 0, local, lab.toss(), lab.one_of<int64_t>({8, 72, 160}), lab.one_of<int64_t>({8, 56, 136})},
                  {routing, routing});
  }
}

// Decoding: few rows, of widths that end anywhere, with an expert that all share here and there, as wide
// as some of the others together or not.
void experts_few_case(Lab& lab) {
  for (int64_t rows : {1, 1, 2, 3, 7}) {
    RoutingSpec routing;
    routing.experts = static_cast<int32_t>(lab.one_of({3, 9, 33}));
    routing.top_k = static_cast<int32_t>(lab.between(1, 3));
    routing.score = lab.one_of({RouterScore::sigmoid, RouterScore::softmax});
    routing.renormalise = lab.toss();
    ExpertsShape shape{rows, 0, routing.experts, lab.toss()};
    shape.hidden = lab.one_of<int64_t>({8, 264, 1096, 2080});
    shape.inner = lab.one_of<int64_t>({8, 40, 344});
    shape.shared = lab.one_of<int64_t>({0, 1, 2}) * shape.inner + (lab.between(0, 3) == 0 ? 8 : 0);
    shape.added = lab.between(0, 3) > 0;
    check_experts(lab, shape, {routing, routing});
  }
}

void experts_groups_case(Lab& lab) {
  for (int64_t rows : {1, 9, 33}) {
    RoutingTwin routing;
    RoutingSpec& spec = routing.plain;
    spec.experts = 12;
    spec.top_k = 3;
    spec.groups = 4;
    spec.top_groups = 2;
    spec.group_score_top = lab.one_of({1, 2});
    spec.score = lab.one_of({RouterScore::sigmoid, RouterScore::softmax});
    spec.renormalise = lab.toss();
    routing.test = spec;
    const Twin correction = lab.f32_vector(12, 0.0F, 0.5F);
    if (lab.toss()) {
      routing.test.correction = correction.test;
      routing.plain.correction = correction.plain;
    }
    check_experts(lab, {rows, 0, 12, false}, routing);
  }
}

}  // namespace troupe::ops_suite
