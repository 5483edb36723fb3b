// What the detokenizer actor does, free of CAF: outputs become events, events find their tickets.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "actors/order.hpp"
#include "engine/output_core.hpp"

namespace troupe::actors {

class OutputDesk {
 public:
  explicit OutputDesk(std::shared_ptr<const engine::TextSource> text);

  // Appends the choices that a stop string ended.
  void take(Delivery& delivery, std::vector<engine::Cut>& cuts);
  [[nodiscard]] size_t live() const { return tickets_.size(); }

 private:
  const std::shared_ptr<const engine::TextSource> text_;
  engine::OutputCore core_;
  std::unordered_map<RequestId, TicketPtr> tickets_;
  std::vector<Event> events_;
};

}  // namespace troupe::actors
