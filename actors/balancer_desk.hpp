// What the balancer actor does, free of CAF: keeps the payloads (bytes, tiles, rows) that the
// engine's VisionBalancer thinks about as numbers, carries out its orders, and lets requests go on
// to the scheduler when the first of their pictures has rows.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "actors/order.hpp"
#include "actors/sight.hpp"
#include "base/clock.hpp"
#include "engine/vision_balancer.hpp"

namespace troupe::actors {

struct BalancerLinks {
  std::function<void(PictureJobPtr)> prepare;  // decode and cut it: prepared() comes back
  std::function<void(int32_t device, std::shared_ptr<VisionCall>)> call;
  std::function<void(std::shared_ptr<Developed>)> developed;  // on to the scheduler
  std::function<void(TicketPtr)> stop;         // end it there
  // Rows are the answer: give them to the caller, on a thread that may take its time.
  std::function<void(TicketPtr, std::vector<engine::EmbeddingPtr>)> answer;
  std::function<LeasePtr(RequestId)> lease;
};

class BalancerDesk {
 public:
  BalancerDesk(const engine::VisionConfig& config, int32_t context_limit,
               std::shared_ptr<const Clock> clock, std::shared_ptr<Board> board, BalancerLinks links);

  void see(const OrderPtr& order);
  void prepared(Prepared& piece);
  void called(VisionCall& call);
  void cancel(const Ticket& ticket);
  void left(RequestId request);
  void device_lost(int32_t device, const Status& why, bool comes_back);
  void device_gained(int32_t device);

  [[nodiscard]] const engine::VisionBalancer& core() const { return core_; }

 private:
  struct Guest {  // a request, until all its pictures have rows
    TicketPtr ticket;
    OrderPtr order;  // until it goes on
    std::vector<engine::PictureId> pictures;  // by index of its Sight
    size_t missing = 0;
    LeasePtr lease;                 // until the order goes on: then whoever has rows keeps it
    std::weak_ptr<Lease> handed;
    int64_t came_ns = 0, prepare_ns = 0, encode_ns = 0;
  };
  struct Kept {  // what is in hand of a picture
    PictureJobPtr job;
    std::vector<vision::Tile> cut;
    std::vector<engine::EmbeddingPtr> tiles;
    bool joins = true;
    engine::EmbeddingPtr rows;
    int64_t prepare_ns = 0, encode_ns = 0, ready_ns = 0;
  };

  [[nodiscard]] Status refuse(const Order& order) const;
  void act();
  void send(const engine::DeviceCall& call);
  void ready(RequestId request, engine::PictureId picture);
  void go_on(Guest& guest);
  void tell_developed();
  void fail(RequestId request, const Status& why);
  void count();

  engine::VisionBalancer core_;
  const int32_t context_limit_;
  const std::shared_ptr<const Clock> clock_;
  const std::shared_ptr<Board> board_;
  const BalancerLinks links_;
  std::unordered_map<RequestId, Guest> guests_;
  std::unordered_map<engine::PictureId, Kept> kept_;
  std::unordered_map<uint64_t, std::shared_ptr<VisionCall>> calls_;
  engine::VisionOrders orders_;
  Developed developed_;  // of this act()
};

}  // namespace troupe::actors
