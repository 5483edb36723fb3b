// Who is in the house: every live request by id. Free of CAF; driven by the frontdesk alone.
#pragma once

#include <cstdint>
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
  // Forgets the ended ones; asks those past their deadline to stop and gives them back.
  std::vector<TicketPtr> tick(int64_t now_ns);
  // Asks everybody to stop, and gives back those who had not been asked yet.
  std::vector<TicketPtr> ask_all(const Status& why);
  // Ends everybody here and now: the actors behind are gone.
  void end_all(const Status& why);
  [[nodiscard]] size_t size() const { return tickets_.size(); }

 private:
  std::unordered_map<RequestId, TicketPtr> tickets_;
};

}  // namespace troupe::actors
