#include "actors/frontdesk_core.hpp"

#include <string>
#include <utility>

namespace troupe::actors {

FrontdeskCore::~FrontdeskCore() { end_all({Code::closed, "the engine was closed"}); }

void FrontdeskCore::add(TicketPtr ticket) {
  const RequestId id = ticket->id();
  if (const int64_t deadline = ticket->stub().deadline_ns; deadline != 0) deadlines_.emplace(deadline, id);
  tickets_.emplace(id, std::move(ticket));
  if (tickets_.size() > kTidySize + 2 * left_) tidy();
}

TicketPtr FrontdeskCore::find(RequestId id) const {
  const auto it = tickets_.find(id);
  return it == tickets_.end() || it->second->ended() ? nullptr : it->second;
}

std::vector<TicketPtr> FrontdeskCore::tick(int64_t now_ns) {
  std::vector<TicketPtr> late;
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_ns) {
    const TicketPtr ticket = find(deadlines_.begin()->second);
    deadlines_.erase(deadlines_.begin());
    if (ticket == nullptr || ticket->asked_to_stop()) continue;
    const int64_t given_ms = (ticket->stub().deadline_ns - ticket->stub().submitted_ns) / 1'000'000;
    ticket->ask_to_stop({Code::deadline, "the request did not end within its deadline_ms of " +
                                             std::to_string(given_ms)});
    late.push_back(ticket);
  }
  if (++ticks_ >= kTidyTicks) tidy();
  return late;
}

// Looks at every ticket: so not at every tick, and when there are twice as many as were left.
void FrontdeskCore::tidy() {
  std::erase_if(tickets_, [](const auto& entry) { return entry.second->ended(); });
  std::erase_if(deadlines_, [this](const auto& entry) { return !tickets_.contains(entry.second); });
  left_ = tickets_.size();
  ticks_ = 0;
}

std::vector<TicketPtr> FrontdeskCore::ask_all(const Status& why) {
  std::vector<TicketPtr> asked;
  for (const auto& [id, ticket] : tickets_) {
    if (!ticket->ended() && ticket->ask_to_stop(why)) asked.push_back(ticket);
  }
  return asked;
}

void FrontdeskCore::end_all(const Status& why) {
  for (const auto& [id, ticket] : tickets_) {
    if (!ticket->ended()) ticket->end(ticket->asked_to_stop() ? ticket->stop_reason() : why);
  }
  tickets_.clear();
  deadlines_.clear();
}

}  // namespace troupe::actors
