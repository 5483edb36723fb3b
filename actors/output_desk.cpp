#include "actors/output_desk.hpp"

#include <algorithm>
#include <utility>

namespace troupe::actors {

OutputDesk::OutputDesk(std::shared_ptr<const engine::TextSource> text)
    : text_(std::move(text)), core_(*text_) {}

void OutputDesk::take(DeliveryPtr delivery, std::vector<engine::Cut>& cuts) {
  if (delivery->number != next_) {
    early_.push_back(std::move(delivery));
    return;
  }
  while (delivery != nullptr) {
    ++next_;
    tell(*delivery, cuts);
    delivery = nullptr;
    const auto it = std::find_if(early_.begin(), early_.end(),
                                 [this](const DeliveryPtr& d) { return d->number == next_; });
    if (it == early_.end()) return;
    delivery = std::move(*it);
    early_.erase(it);
  }
}

void OutputDesk::tell(Delivery& delivery, std::vector<engine::Cut>& cuts) {
  for (Delivery::Opened& opened : delivery.opened) {
    waiting_.emplace(opened.spec.id, opened.ticket);
    core_.open(std::move(opened.spec), std::move(opened.ticket));
  }
  for (const RequestId id : delivery.outputs.started) {
    if (const auto it = waiting_.find(id); it != waiting_.end()) {
      it->second->start();
      waiting_.erase(it);
    }
  }
  core_.take(delivery.outputs, cuts);
  for (const engine::RequestEnd& end : delivery.outputs.requests) waiting_.erase(end.request);
}

}  // namespace troupe::actors
