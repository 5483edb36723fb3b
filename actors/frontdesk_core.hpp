// Who is in the house: every live request by id. Free of CAF; driven by the frontdesk alone.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "actors/ticket.hpp"

namespace troupe::actors {

class FrontdeskCore {
 public:
  // Whoever is still here when the frontdesk goes is told so.
  ~FrontdeskCore();

  void add(TicketPtr ticket);
  // Null when the id is unknown or has ended: cancelling such a request is not an error.
  [[nodiscard]] TicketPtr find(RequestId id) const;
  // Asks those past their deadline to stop and gives them back; forgets the ended ones now and then.
  std::vector<TicketPtr> tick(int64_t now_ns);
  // Asks everybody to stop, and gives back those who had not been asked yet.
  std::vector<TicketPtr> ask_all(const Status& why);
  // Ends everybody here and now: the actors behind are gone.
  void end_all(const Status& why);
  [[nodiscard]] size_t size() const { return tickets_.size(); }

  // So many ticks after the last request's end its ticket is forgotten, at the latest.
  static constexpr int32_t kTidyTicks = 4;

 private:
  static constexpr size_t kTidySize = 256;
  void tidy();

  std::unordered_map<RequestId, TicketPtr> tickets_;
  std::multimap<int64_t, RequestId> deadlines_;  // of those that have one
  int32_t ticks_ = 0;  // since it was last tidied
  size_t left_ = 0;  // tickets when it was last tidied
};

}  // namespace troupe::actors
