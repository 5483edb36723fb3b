// What a step drew: pinned memory that kernels write to and the host reads. Each row bears the number
// of its step, so that the host sees by itself when all have come: no event is recorded, and no
// driver asked. A number never meets an old one: rows and alternatives lie apart, memory that is new
// is cleared, and each step counts on.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/batch.hpp"
#include "kernels/cuda/device_memory.hpp"
#include "kernels/cuda/sampling.hpp"

namespace troupe::cuda {

class StepResults {
 public:
  // Room for steps of so many rows; what was there is forgotten.
  Status prepare(int32_t rows_max);
  // The next step's, none of which is there yet: rows, each with room for so many alternatives.
  Status begin(int32_t rows, int32_t tops_stride);
  [[nodiscard]] DrawTarget target() const { return {drawn(), tops(), step_}; }
  // Whether all rows are there.
  [[nodiscard]] bool complete();
  // Once they are.
  void read(std::span<const LogitRow> wanted, int32_t vocab, StepResult& result) const;

 private:
  [[nodiscard]] Drawn* drawn() const { return reinterpret_cast<Drawn*>(area_.data()); }
  [[nodiscard]] TopToken* tops() const { return reinterpret_cast<TopToken*>(drawn() + rows_max_); }

  PinnedArea area_;
  int32_t rows_max_ = 0, rows_ = 0, tops_stride_ = 0;
  int32_t come_ = 0;  // rows that complete() has found
  uint32_t step_ = 0;
};

}  // namespace troupe::cuda
