#include "actors/frontdesk_core.hpp"

#include <string>
#include <utility>

namespace troupe::actors {

FrontdeskCore::~FrontdeskCore() { end_all({Code::closed, "the engine was closed"}); }

void FrontdeskCore::add(TicketPtr ticket) {
  const RequestId id = ticket->id();
  tickets_.emplace(id, std::move(ticket));
}

TicketPtr FrontdeskCore::find(RequestId id) const {
  const auto it = tickets_.find(id);
  return it == tickets_.end() || it->second->ended() ? nullptr : it->second;
}

std::vector<TicketPtr> FrontdeskCore::tick(int64_t now_ns) {
  std::vector<TicketPtr> late;
  for (auto it = tickets_.begin(); it != tickets_.end();) {
    const TicketPtr& ticket = it->second;
    if (ticket->ended()) {
      it = tickets_.erase(it);
      continue;
    }
    const auto& stub = ticket->stub();
    if (stub.deadline_ns != 0 && now_ns >= stub.deadline_ns && !ticket->asked_to_stop()) {
      const int64_t given_ms = (stub.deadline_ns - stub.submitted_ns) / 1'000'000;
      ticket->ask_to_stop({Code::deadline, "the request did not end within its deadline_ms of " +
                                               std::to_string(given_ms)});
      late.push_back(ticket);
    }
    ++it;
  }
  return late;
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
}

}  // namespace troupe::actors
