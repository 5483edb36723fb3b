// One plain function per op, each reading like its definition: what every faster version, on any
// device, is held against. Sums are in double; any floating dtype goes in and out.
#pragma once

#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cpu/step_state.hpp"

namespace troupe::cpu::plain {

void embed(const Batch& batch, std::span<const SlotState> slots, const EmbedArgs& args);
void inject(const Batch& batch, const InjectArgs& args);
void gather(const Batch& batch, const GatherArgs& args);
void norm(const NormArgs& args);
void add(const AddArgs& args);
void scale_columns(const ScaleColumnsArgs& args);
void mix_rows(const MixRowsArgs& args);
void linear(const Batch& batch, const LinearArgs& args);
void head_linear(const HeadLinearArgs& args);
void rope_write(const Batch& batch, const RopeWriteArgs& args);
void attention(const Batch& batch, const AttentionArgs& args);
void cross_write(const Batch& batch, const CrossWriteArgs& args);
void packed_attention(const PackedAttentionArgs& args);
void gated_activation(const ActivationArgs& args);
void activation(const ActivationArgs& args);
void experts(const Batch& batch, const ExpertsArgs& args);
void sample(const Batch& batch, std::span<SlotState> slots, const SampleArgs& args,
            StepResult& result);

double activate(Activation kind, double x);

// The choice of experts for one row: ids and weights, top_k of each, the best first.
struct Routed {
  std::vector<int32_t> experts;
  std::vector<double> weights;
};
Routed route(const RoutingSpec& spec, std::span<const float> logits,
             std::span<const int32_t> forced);

// cos and sin of one rotary pair of a row.
struct Rotation {
  double cos = 1.0;
  double sin = 0.0;
};
Rotation rotation(const RopeSpec& spec, const Batch& batch, int32_t row, int32_t prompt_len,
                  int32_t pair);

}  // namespace troupe::cpu::plain
