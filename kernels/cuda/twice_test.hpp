// A language model's ops on a device and by their plain definitions, side by side: what tests of
// whole layers share.
#pragma once

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/ops_suite/lab.hpp"
#include "kernels/ops_suite/plans.hpp"

namespace troupe::cuda::testing {

using ops_suite::BatchTwin;
using ops_suite::Lab;
using ops_suite::LinearTwin;
using ops_suite::Twin;

// A cache is what tells a language model from a tower.
inline void reserve_as_a_language_model(Lab& lab, int32_t slots, int32_t rows, int32_t vocab) {
  KvCacheSpec spec;
  spec.layers = spec.kv_heads = 1;
  spec.key_dim = spec.value_dim = 64;
  spec.dtype = lab.activations();
  spec.blocks = 2;
  const auto cache = lab.cache(spec);
  lab.reserve(slots, rows, slots, vocab);
}

// A step of so many sequences, a row each.
inline BatchTwin begin_decoding(Lab& lab, int32_t rows) {
  StepPlanDraft draft;
  for (int32_t i = 0; i < rows; ++i) ops_suite::add_sequence(draft, {.slot = i});
  return lab.begin(draft, {});
}

// Runs the same op on both sides.
class Twice {
 public:
  Twice(Lab& lab, const BatchTwin& batch) : lab_(lab), batch_(batch) {}
  void linear(const Twin& x, const LinearTwin& w, const Twin& y) {
    lab_.test.linear(batch_.test, {x.test, &w.test, RowSelect::all, y.test});
    lab_.plain().linear(batch_.plain, {x.plain, &w.plain, RowSelect::all, y.plain});
  }
  void gate(const Twin& x, const Twin& y) {
    lab_.test.gated_activation({Activation::silu, x.test, y.test});
    lab_.plain().gated_activation({Activation::silu, x.plain, y.plain});
  }
  void norm(const Twin& x, const Twin& residual, const Twin& weight, const Twin& y) {
    const auto args = [](Matrix in, Matrix to, Matrix w, Matrix out) {
      NormArgs a;
      a.input = in;
      a.residual = to;
      a.weight = w;
      a.output = out;
      return a;
    };
    lab_.test.norm(args(x.test, residual.test, weight.test, y.test));
    lab_.plain().norm(args(x.plain, residual.plain, weight.plain, y.plain));
  }

 private:
  Lab& lab_;
  const BatchTwin& batch_;
};

}  // namespace troupe::cuda::testing
