#include "engine/slot_tables.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace troupe::engine {
namespace {

// So many blocks that have left a window are forgotten at once.
constexpr int32_t kGoneMax = 256;
// Room behind a table of so many blocks.
constexpr size_t kRoomLeast = 16, kRoomPart = 4;

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
      tables_(static_cast<size_t>(slots) * static_cast<size_t>(groups)),
      sequence_of_(static_cast<size_t>(slots), 0) {}

Status SlotTables::take(std::span<const std::byte> bytes) {
  TR_ASSIGN(const PlanView plan, PlanView::parse(bytes));
  TR_TRY(follow(plan));
  if (!plan.only_repeats()) {
    last_.assign(bytes.begin(), bytes.end());
    rows_ = plan.at(last_);
    complete_ = false;
    behind_ = 0;
    return ok_status();
  }
  if (rows_.bytes().empty()) return internal_error("step plan: it repeats a step, and is the first");
  TR_TRY(advance_header(bytes_of_rows(), plan.header()));
  ++behind_;
  complete_ = complete_ && advance_tables(plan);
  return ok_status();
}

std::span<std::byte> SlotTables::bytes_of_rows() {
  return rows_.bytes().data() == last_.data() ? last_ : plans_[at_];
}

const PlanView& SlotTables::rows() {
  if (behind_ > 0) advance_rows(bytes_of_rows(), std::exchange(behind_, 0));
  return rows_;
}

// The same in the complete plan that moves on. False: it must be written anew.
bool SlotTables::advance_tables(const PlanView& plan) {
  const auto sequences = static_cast<int32_t>(plan.sequences().size());
  for (int32_t s = 0; s < sequences; ++s) {
    const int32_t index = sequence_of_[static_cast<size_t>(plan.sequences()[static_cast<size_t>(s)].slot)];
    for (int32_t g = 0; g < groups_; ++g) {
      const PlanTable& told = plan.table(s, g);
      if (told.kept == PlanTable::kUnchanged) continue;
      const auto fresh = plan.blocks().subspan(static_cast<size_t>(told.begin),
                                               static_cast<size_t>(told.count));
      if (!advance_table(plans_[at_], index, g, told, fresh, block_tokens_)) return false;
    }
  }
  return true;
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

const PlanView& SlotTables::complete() {
  const PlanView& plan = rows();
  if (complete_) return plan;
  whole_.clear();
  blocks_.clear();
  int32_t index = 0;
  for (const PlanSequence& s : rows_.sequences()) {
    sequence_of_[static_cast<size_t>(s.slot)] = index++;
    for (int32_t g = 0; g < groups_; ++g) {
      const SlotTable& t = table(s.slot, g);
      const auto blocks = t.blocks();
      whole_.push_back({.begin = static_cast<int32_t>(blocks_.size()),
                        .count = static_cast<int32_t>(blocks.size()),
                        .first_position = t.first_position});
      blocks_.insert(blocks_.end(), blocks.begin(), blocks.end());
      blocks_.resize(blocks_.size() + std::max(blocks.size() / kRoomPart, kRoomLeast));
    }
  }
  at_ = (at_ + 1) % kKept;
  seal_with_tables(rows_, whole_, blocks_, plans_[at_]);
  rows_ = rows_.at(plans_[at_]);  // take() has looked at all that came from elsewhere
  complete_ = true;
  return rows_;
}

}  // namespace troupe::engine
