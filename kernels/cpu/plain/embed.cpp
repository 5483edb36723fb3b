#include "kernels/cpu/half.hpp"
#include "kernels/cpu/plain/plain.hpp"

namespace troupe::cpu::plain {

void embed(const Batch& batch, std::span<const SlotState> slots, const EmbedArgs& a) {
  for (const PlanSequence& s : batch.plan.sequences()) {
    for (int32_t row = s.row_begin; row < s.row_begin + s.row_count; ++row) {
      const int64_t local = int64_t{input_token(batch.plan, s, row, slots)} - a.first_token;
      const bool here = local >= 0 && local < a.table.rows;
      for (int64_t c = 0; c < a.output.cols; ++c) {
        put(a.output, row, c, here ? at(a.table, local, c) * a.scale : 0.0F);
      }
    }
  }
}

void inject(const Batch& batch, const InjectArgs& a) {
  const auto injects = batch.plan.injects();
  for (size_t i = 0; i < injects.size(); ++i) {
    const PlanInject& inject = injects[i];
    for (int32_t r = 0; r < inject.count; ++r) {
      for (int64_t c = 0; c < a.output.cols; ++c) {
        put(a.output, inject.row + r, c, at(a.sources[i], inject.source_row + r, c));
      }
    }
  }
}

void gather(const Batch& batch, const GatherArgs& a) {
  const auto logit_rows = batch.plan.logit_rows();
  for (size_t i = 0; i < logit_rows.size(); ++i) {
    for (int64_t c = 0; c < a.output.cols; ++c) {
      put(a.output, static_cast<int64_t>(i), c, at(a.input, logit_rows[i].row, c));
    }
  }
}

}  // namespace troupe::cpu::plain
