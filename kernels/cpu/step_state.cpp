#include "kernels/cpu/step_state.hpp"

#include <algorithm>

namespace troupe::cpu {

void TokenCounts::clear() {
  std::fill(entries_.begin(), entries_.end(), Entry{});
  used_ = 0;
}

void TokenCounts::add(int32_t token, bool output) {
  if (token < 0) return;
  if (2 * (used_ + 1) > entries_.size()) grow();
  const size_t mask = entries_.size() - 1;
  size_t i = (static_cast<uint32_t>(token) * 0x9E3779B1U) & mask;
  while (entries_[i].token >= 0 && entries_[i].token != token) i = (i + 1) & mask;
  if (entries_[i].token < 0) {
    entries_[i].token = token;
    ++used_;
  }
  if (output) ++entries_[i].output;
}

void TokenCounts::grow() {
  std::vector<Entry> old(std::max<size_t>(64, entries_.size() * 2));
  old.swap(entries_);
  const size_t mask = entries_.size() - 1;
  for (const Entry& e : old) {
    if (e.token < 0) continue;
    size_t i = (static_cast<uint32_t>(e.token) * 0x9E3779B1U) & mask;
    while (entries_[i].token >= 0) i = (i + 1) & mask;
    entries_[i] = e;
  }
}

void SlotState::reset() {
  last_token = -1;
  tail_count = 0;
  counts.clear();
}

void SlotState::append(int32_t token) {
  last_token = token;
  if (tail_count == kSlotTail) {
    std::copy(tail.begin() + 1, tail.end(), tail.begin());
    --tail_count;
  }
  tail[static_cast<size_t>(tail_count++)] = token;
}

bool SlotState::ends_with(std::span<const int32_t> tokens) const {
  const auto n = static_cast<int32_t>(tokens.size());
  if (n > tail_count) return false;
  return std::equal(tokens.begin(), tokens.end(), tail.begin() + (tail_count - n));
}

void take_histories(const PlanView& plan, std::span<SlotState> slots) {
  for (const PlanSampling& s : plan.sampling()) {
    SlotState& slot = slots[static_cast<size_t>(s.slot)];
    if (s.reset != 0) slot.reset();
    const auto history = plan.token_lists().subspan(static_cast<size_t>(s.history_begin),
                                                    static_cast<size_t>(s.history_count));
    for (size_t i = 0; i < history.size(); ++i) {
      slot.counts.add(history[i], static_cast<int32_t>(i) >= s.history_prompt);
      slot.append(history[i]);
    }
  }
}

int32_t input_token(const PlanView& plan, const PlanSequence& sequence, int32_t row,
                    std::span<const SlotState> slots) {
  const int32_t token = plan.token_ids()[static_cast<size_t>(row)];
  return token == kTokenFromSlot ? slots[static_cast<size_t>(sequence.slot)].last_token : token;
}

}  // namespace troupe::cpu
