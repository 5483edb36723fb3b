#include "actors/output_desk.hpp"

#include <utility>

namespace troupe::actors {

OutputDesk::OutputDesk(std::shared_ptr<const engine::TextSource> text)
    : text_(std::move(text)), core_(*text_) {}

void OutputDesk::take(Delivery& delivery, std::vector<engine::Cut>& cuts) {
  for (Delivery::Opened& opened : delivery.opened) {
    const RequestId id = opened.spec.id;
    core_.open(std::move(opened.spec));
    tickets_.emplace(id, std::move(opened.ticket));
  }
  for (const RequestId id : delivery.outputs.started) {
    if (const auto it = tickets_.find(id); it != tickets_.end()) it->second->start();
  }
  core_.take(delivery.outputs, events_, cuts);
  for (Event& event : events_) {
    const auto it = tickets_.find(event.id);
    if (it == tickets_.end()) continue;
    const bool last = is_terminal(event.kind);
    const bool heard = it->second->push(std::move(event));
    if (!heard) core_.close(it->first);
    if (last || !heard) tickets_.erase(it);
  }
  events_.clear();
}

}  // namespace troupe::actors
