// Events as troupe.h shows them: one block that owns the events of a wait and the flat views of
// them.
#pragma once

#include <cstddef>
#include <vector>

#include "base/request.hpp"
#include "capi/error.hpp"
#include "capi/troupe.h"

namespace troupe::capi {

class EventBlock {
 public:
  // What a set of events will need, counted before any of them is moved.
  struct Sizes {
    size_t events = 0, tables = 0, rows = 0, entries = 0, errors = 0;
    void add(const Event& event);
  };

  // Allocates everything; may throw. add() then cannot.
  explicit EventBlock(const Sizes& sizes);
  void add(Event&& event, uint64_t user_data) noexcept;

  [[nodiscard]] troupe_events* head() noexcept { return &head_; }
  // The block whose head() this is.
  static EventBlock* of(troupe_events* head) noexcept;

 private:
  const troupe_logprob_table* table(const LogprobTable& rows) noexcept;

  troupe_events head_{};  // first: head() and the block share their address
  std::vector<Event> events_;
  std::vector<troupe_event> views_;
  std::vector<troupe_logprob_table> tables_;
  std::vector<size_t> row_starts_;
  std::vector<troupe_logprob> entries_;
  std::vector<troupe_error> errors_;
};

}  // namespace troupe::capi
