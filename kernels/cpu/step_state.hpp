// What a backend in host memory remembers between steps: per slot the last token, the tail that
// multi-token bad words look at and the counts that penalties look at; and the steps in flight.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.hpp"

namespace troupe::cpu {

// How often each token occurred in a sequence: an open-addressed table that keeps its memory when
// cleared, so a slot stops allocating once it has seen a sequence of its usual length.
class TokenCounts {
 public:
  struct Entry {
    int32_t token = -1;  // -1: empty
    int32_t output = 0;  // occurrences in what was generated; the prompt's only make an entry
  };
  void clear();
  void add(int32_t token, bool output);
  // Empty entries included: callers skip token < 0.
  [[nodiscard]] std::span<const Entry> entries() const { return entries_; }

 private:
  void grow();
  std::vector<Entry> entries_;  // a power of two
  size_t used_ = 0;
};

struct SlotState {
  int32_t last_token = -1;
  int32_t tail_count = 0;
  std::array<int32_t, kSlotTail> tail{};  // oldest first
  TokenCounts counts;

  void reset();
  void append(int32_t token);
  // The slot's last n tokens are exactly these.
  [[nodiscard]] bool ends_with(std::span<const int32_t> tokens) const;
};

// Resets and histories of a plan's sampling entries, taken before anything is drawn.
void take_histories(const PlanView& plan, std::span<SlotState> slots);
// The input token of every row of a sequence, slot feedback resolved.
int32_t input_token(const PlanView& plan, const PlanSequence& sequence, int32_t row,
                    std::span<const SlotState> slots);

// Steps in flight: two by contract, one more so that a finished one can still be looked at.
inline constexpr uint32_t kStepRing = 3;

struct StepSlot {
  std::vector<std::byte> bytes;  // own copy of the plan
  StepResult result;
};

struct StepState {
  std::vector<SlotState> slots;
  std::array<StepSlot, kStepRing> ring;
  uint32_t next = 0;
  int32_t rows_max = 0;
  int32_t logit_rows_max = 0;
  int32_t vocab = 0;
};

}  // namespace troupe::cpu
