// Cases of rope: rotations only; what is written into the cache shows in the attention cases.
#include <cmath>

#include "kernels/ops_suite/cases.hpp"
#include "kernels/ops_suite/lab.hpp"
#include "kernels/ops_suite/plans.hpp"

namespace troupe::ops_suite {
namespace {

struct RopeTwin {
  RopeSpec test;
  RopeSpec plain;
  void both(void (*change)(RopeSpec&)) {
    change(test);
    change(plain);
  }
};

RopeTwin rope_twin(Lab& lab, RopeStyle style, int32_t rotary_dim, int64_t tables) {
  std::vector<float> frequencies;
  for (int64_t t = 0; t < tables; ++t) {
    for (int32_t i = 0; i < rotary_dim / 2; ++i) {
      const float power = -2.0F * static_cast<float>(i) / static_cast<float>(rotary_dim);
      frequencies.push_back(std::pow(10000.0F, power) / static_cast<float>(t + 1));
    }
  }
  const Twin table = lab.values(DType::f32, frequencies, tables, rotary_dim / 2);
  RopeTwin twin;
  for (RopeSpec* spec : {&twin.test, &twin.plain}) {
    spec->style = style;
    spec->rotary_dim = rotary_dim;
  }
  twin.test.frequencies = table.test;
  twin.plain.frequencies = table.plain;
  return twin;
}

struct Heads {
  int32_t heads = 4;
  int32_t kv_heads = 2;
  int32_t head_dim = 64;
  int32_t rotary_begin = 0;
};

void check_rotation(Lab& lab, const BatchTwin& batch, const RopeTwin& rope, const Heads& h) {
  const int64_t rows = batch.test.rows;
  const Twin q = lab.activations(rows, int64_t{h.heads} * h.head_dim);
  const Twin k = lab.activations(rows, int64_t{h.kv_heads} * h.head_dim);
  lab.test.rope_write(batch.test, {q.test, k.test, {}, h.heads, h.head_dim, h.rotary_begin,
                                   &rope.test, nullptr, 0, 0});
  lab.plain().rope_write(batch.plain, {q.plain, k.plain, {}, h.heads, h.head_dim, h.rotary_begin,
                                       &rope.plain, nullptr, 0, 0});
  // Angles reach thousands of radians, where an f32 angle is good to about 1e-4.
  const double tolerance = std::max(Lab::tolerance_of(lab.activations()), 3e-4);
  lab.compare(q, "rotated query", tolerance);
  lab.compare(k, "rotated key", tolerance);
}

}  // namespace

void rope_case(Lab& lab) {
  lab.reserve(8, 64, 8, 100);
  for (RopeStyle style : {RopeStyle::half, RopeStyle::interleaved}) {
    for (int32_t rotary : {64, 32, 48, 16}) {
      StepPlanDraft draft;
      add_sequence(draft, {.slot = 0, .rows = static_cast<int32_t>(lab.between(1, 20)), .past = 0});
      add_sequence(draft, {.slot = 1, .rows = 1, .past = static_cast<int32_t>(lab.between(0, 3000))});
      const BatchTwin batch = lab.begin(draft, {});
      Heads heads;
      heads.kv_heads = static_cast<int32_t>(lab.between(1, 4));
      heads.rotary_begin = rotary < 64 && lab.toss() ? 64 - rotary : 0;
      RopeTwin rope = rope_twin(lab, style, rotary, 1);
      rope.both([](RopeSpec& s) { s.attention_scale = 1.2F; });
      check_rotation(lab, batch, rope, heads);
      lab.finish(batch);
    }
  }
}

void rope_long_case(Lab& lab) {
  lab.reserve(8, 64, 8, 100);
  for (bool dynamic : {false, true}) {
    StepPlanDraft draft;  // one within the original length, one across it, one by its prompt beyond
    add_sequence(draft, {.slot = 0, .rows = 4, .past = 10, .prompt_len = 12});
    add_sequence(draft, {.slot = 1, .rows = 9, .past = 60});
    add_sequence(draft, {.slot = 2, .rows = 3, .past = 5, .prompt_len = 200});
    const BatchTwin batch = lab.begin(draft, {});
    RopeTwin rope = rope_twin(lab, RopeStyle::half, 64, dynamic ? 1 : 2);
    if (dynamic) {
      rope.both([](RopeSpec& s) {
        s.dynamic_base = 10000.0F;
        s.dynamic_factor = 4.0F;
        s.dynamic_length = 64;
      });
    } else {
      rope.both([](RopeSpec& s) {
        s.short_length = 64;
        s.attention_scale_long = 1.19F;
      });
    }
    check_rotation(lab, batch, rope, {});
    lab.finish(batch);
  }
}

void rope_sections_case(Lab& lab) {
  lab.reserve(8, 64, 8, 100);
  for (bool interleaved : {false, true}) {
    StepPlanDraft draft;
    add_sequence(draft, {.slot = 0, .rows = 12});
    add_sequence(draft, {.slot = 1, .rows = 1, .past = 33});
    for (size_t i = 0; i < 3 * draft.token_ids.size(); ++i) {
      draft.rope_positions.push_back(static_cast<int32_t>(lab.between(0, 500)));
    }
    const BatchTwin batch = lab.begin(draft, {});
    RopeTwin rope = rope_twin(lab, RopeStyle::half, 64, 1);
    rope.both([](RopeSpec& s) {
      s.sections[0] = 12;
      s.sections[1] = 10;
      s.sections[2] = 10;
    });
    rope.test.sections_interleaved = rope.plain.sections_interleaved = interleaved;
    check_rotation(lab, batch, rope, {});
    lab.finish(batch);
  }
}

}  // namespace troupe::ops_suite
