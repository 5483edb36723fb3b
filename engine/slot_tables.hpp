// What whoever runs the steps remembers from plan to plan: block tables, one per slot and cache group,
// of which plans name only what a slot has not been told of yet; and the last plan's rows, which a
// plan may only repeat. take() applies that, in the order of the steps.
//
// A complete plan has room behind its tables: plans that repeat it move it on where it is, and cost
// what has changed: its rows are moved on when somebody looks at them. One that cannot is written anew,
// in another place.
//
// Wrong deltas are refused, not followed: a table that would lack blocks is a plan's mistake
// (INV-PLAN-3), and the executor dies of it rather than read another sequence's cache.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.hpp"
#include "kernels/batch.hpp"

namespace troupe::engine {

struct SlotTable {
  std::vector<int32_t> listed;  // blocks, of which the first `gone` have left the window
  int32_t gone = 0;
  int32_t first_position = 0;   // of the first block that is left

  [[nodiscard]] std::span<const int32_t> blocks() const {
    return std::span<const int32_t>(listed).subspan(static_cast<size_t>(gone));
  }
  // False: it asks for blocks to be kept that are not there.
  bool follow(const PlanTable& told, std::span<const int32_t> fresh, int32_t block_tokens);
};

class SlotTables {
 public:
  SlotTables(int32_t slots, int32_t groups, int32_t block_tokens);

  // The next step's plan. After a failure all this is of no further use.
  Status take(std::span<const std::byte> plan);
  // Its rows, all of them, until the next one is taken. Block tables are table()'s, not this plan's.
  [[nodiscard]] const PlanView& rows();
  [[nodiscard]] const SlotTable& table(int32_t slot, int32_t group) const {
    return tables_[static_cast<size_t>(slot * groups_ + group)];
  }
  // The plan that was taken last, written out: what a backend is given. Its bytes stay until two other
  // ones have been written, and change when it is repeated.
  const PlanView& complete();
  // The same if it but repeats the one before, for whoever needs no rows of it: those are as they were
  // when somebody last asked for them. Else null.
  [[nodiscard]] const PlanView* repeated() const { return complete_ && behind_ > 0 ? &rows_ : nullptr; }

 private:
  static constexpr size_t kKept = 3;
  Status follow(const PlanView& plan);
  [[nodiscard]] std::span<std::byte> bytes_of_rows();
  [[nodiscard]] bool advance_tables(const PlanView& plan);

  int32_t slots_, groups_, block_tokens_;
  std::vector<SlotTable> tables_;  // slot-major
  std::vector<std::byte> last_;    // as it came; rows_ looks at this until it is completed
  std::array<std::vector<std::byte>, kKept> plans_;  // complete ones
  size_t at_ = 0;                  // the newest of them
  bool complete_ = false;          // rows_ looks at that, and its tables are up to date
  int32_t behind_ = 0;             // so many steps its rows are to be moved on
  PlanView rows_;
  std::vector<int32_t> sequence_of_;  // by slot, in the newest complete plan
  std::vector<PlanTable> whole_;   // complete()'s, used again from step to step
  std::vector<int32_t> blocks_;
};

}  // namespace troupe::engine
