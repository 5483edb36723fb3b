#include "engine/slot_tables.hpp"

#include <string>

namespace troupe::engine {
namespace {

// So many blocks that have left a window are forgotten at once.
constexpr int32_t kGoneMax = 256;

Status wrong(int32_t slot, const char* what) {
  return internal_error("step plan: INV-PLAN-3: slot " + std::to_string(slot) + ": " + what);
}

}  // namespace

bool SlotTable::follow(const PlanTable& told, std::span<const int32_t> fresh, int32_t block_tokens) {
  if (told.kept == 0) {
    listed.clear();
    gone = 0;
  } else {
    const int32_t slid = (told.first_position - first_position) / block_tokens;
    if (slid < 0 || slid + told.kept > static_cast<int32_t>(blocks().size())) return false;
    gone += slid;
    listed.resize(static_cast<size_t>(gone + told.kept));
  }
  first_position = told.first_position;
  listed.insert(listed.end(), fresh.begin(), fresh.end());
  if (gone >= kGoneMax) {
    listed.erase(listed.begin(), listed.begin() + gone);
    gone = 0;
  }
  return true;
}

SlotTables::SlotTables(int32_t slots, int32_t groups, int32_t block_tokens)
    : slots_(slots), groups_(groups), block_tokens_(block_tokens),
      tables_(static_cast<size_t>(slots) * static_cast<size_t>(groups)) {}

Status SlotTables::take(std::span<const std::byte> bytes) {
  TR_ASSIGN(const PlanView plan, PlanView::parse(bytes));
  TR_TRY(follow(plan));
  if (!plan.repeats()) {
    last_.assign(bytes.begin(), bytes.end());
    rows_ = plan.at(last_);
    return ok_status();
  }
  if (last_.empty()) return internal_error("step plan: it repeats a step, and is the first");
  return advance_plan(last_, plan.header());
}

Status SlotTables::follow(const PlanView& plan) {
  if (plan.header().groups != groups_) return internal_error("step plan: another number of groups");
  const auto sequences = static_cast<int32_t>(plan.sequences().size());
  for (int32_t s = 0; s < sequences; ++s) {
    const int32_t slot = plan.sequences()[static_cast<size_t>(s)].slot;
    if (slot >= slots_) return wrong(slot, "there are fewer slots");
    for (int32_t g = 0; g < groups_; ++g) {
      const PlanTable& told = plan.table(s, g);
      if (told.kept == PlanTable::kUnchanged) continue;
      const auto fresh = plan.blocks().subspan(static_cast<size_t>(told.begin),
                                               static_cast<size_t>(told.count));
      SlotTable& table = tables_[static_cast<size_t>(slot * groups_ + g)];
      if (!table.follow(told, fresh, block_tokens_)) {
        return wrong(slot, "more blocks are kept than there were");
      }
    }
  }
  return ok_status();
}

PlanView SlotTables::complete(std::vector<std::byte>& out) {
  whole_.clear();
  blocks_.clear();
  for (const PlanSequence& s : rows_.sequences()) {
    for (int32_t g = 0; g < groups_; ++g) {
      const SlotTable& t = table(s.slot, g);
      const auto blocks = t.blocks();
      whole_.push_back({.begin = static_cast<int32_t>(blocks_.size()),
                        .count = static_cast<int32_t>(blocks.size()),
                        .first_position = t.first_position});
      blocks_.insert(blocks_.end(), blocks.begin(), blocks.end());
    }
  }
  seal_with_tables(rows_, whole_, blocks_, out);
  return rows_.at(out);  // take() has looked at all that came from elsewhere
}

}  // namespace troupe::engine
