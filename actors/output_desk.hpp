// What the detokenizer actor does, free of CAF: outputs become events, which go out through the
// requests' tickets.
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

  // Appends the choices that a stop string ended. One that has overtaken another waits here for it.
  void take(DeliveryPtr delivery, std::vector<engine::Cut>& cuts);
  [[nodiscard]] size_t live() const { return core_.live(); }

 private:
  void tell(Delivery& delivery, std::vector<engine::Cut>& cuts);

  const std::shared_ptr<const engine::TextSource> text_;
  engine::OutputCore core_;
  std::unordered_map<RequestId, TicketPtr> waiting_;  // tickets of those that have not started
  uint64_t next_ = 0;                // the delivery that comes next
  std::vector<DeliveryPtr> early_;   // those that came before their time
};

}  // namespace troupe::actors
