// The rules of sampling that touch few tokens: bias, bad words, grammar mask, penalties. They
// change a row of logits in place and are the same for the plain sampler and the fast one.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/backend.hpp"
#include "kernels/cpu/step_state.hpp"

namespace troupe::cpu {

inline bool has_penalties(const PlanSampling& s) {
  return s.repetition_penalty != 1.0F || s.presence_penalty != 0.0F || s.frequency_penalty != 0.0F;
}

// Logit bias, then bad words, then the grammar mask, then penalties (docs/sampling.md).
void apply_rules(const PlanView& plan, const PlanSampling& sampling, const SlotState& slot,
                 std::span<const uint32_t> mask_rows, std::span<float> logits);

}  // namespace troupe::cpu
