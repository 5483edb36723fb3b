// The fast versions of the ops, one file each. A Context is what every op of a device may use.
// Activations are f32; kernels/cpu/plain/ says what each op means.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cpu/linear_kernels.hpp"
#include "kernels/cpu/scratch.hpp"
#include "kernels/cpu/step_state.hpp"
#include "kernels/cpu/thread_pool.hpp"

namespace troupe::cpu {

// cos and sin of every row of a step, worked out by the first layer that asks.
class RopeTables {
 public:
  // rows x rotary_dim: the cosines of a row, then its sines.
  const float* of(const RopeSpec& spec, const Batch& batch, ThreadPool& pool);
  // A new step uses ring entry `ring`: what was worked out for the one before is stale.
  void forget(uint32_t ring);
  // No step has more rows.
  void reserve(int32_t rows_max) { rows_max_ = rows_max; }

 private:
  struct Entry {
    RopeSpec spec;
    uint32_t ring = 0;
    bool valid = false;
    std::vector<float> table;
  };
  Entry& next_entry();
  std::array<Entry, 8> entries_;
  size_t next_ = 0;
  int32_t rows_max_ = 0;
};

struct Context {
  ThreadPool& pool;
  Scratch& scratch;
  RopeTables& rope;
};

// A vector (1 x n) as f32: itself, or widened into scratch.
const float* as_f32(Context& context, Use use, const Matrix& vector);

// All parts of a weight on some rows; what linear and experts are made of.
void linear_rows(Context& context, const LinearRows& rows, const LinearWeight& weight);

void embed(Context& c, const Batch& batch, std::span<const SlotState> slots, const EmbedArgs& args);
void inject(Context& c, const Batch& batch, const InjectArgs& args);
void gather(Context& c, const Batch& batch, const GatherArgs& args);
void norm(Context& c, const NormArgs& args);
void add(Context& c, const AddArgs& args);
void scale_columns(Context& c, const ScaleColumnsArgs& args);
void mix_rows(Context& c, const MixRowsArgs& args);
void linear(Context& c, const Batch& batch, const LinearArgs& args);
void head_linear(Context& c, const HeadLinearArgs& args);
void head_linear_transposed(Context& c, const HeadLinearArgs& args);
void rope_write(Context& c, const Batch& batch, const RopeWriteArgs& args);
void attention(Context& c, const Batch& batch, const AttentionArgs& args);
void cross_write(Context& c, const Batch& batch, const CrossWriteArgs& args);
void packed_attention(Context& c, const PackedAttentionArgs& args);
void gated_activation(Context& c, const ActivationArgs& args);
void activation(Context& c, const ActivationArgs& args);
void experts(Context& c, const ExpertsArgs& args);
void sample(Context& c, const Batch& batch, std::span<SlotState> slots, const SampleArgs& args,
            StepResult& result);

}  // namespace troupe::cpu
