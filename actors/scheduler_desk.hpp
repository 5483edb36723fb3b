// What the scheduler actor does with the engine's scheduler, free of CAF: keeps steps in flight,
// gathers what came of them, counts. The shell only carries messages.
//
// A device that runs ahead gets: step 0, step 1, collect; and after each result the next step and
// then one more collect, so that it always has a step queued behind the one that it is waited for.
// A device that computes inside forward() gets a collect right behind each step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "actors/messages.hpp"
#include "actors/order.hpp"
#include "actors/recycler.hpp"
#include "actors/session_list.hpp"
#include "base/clock.hpp"
#include "engine/scheduler.hpp"

namespace troupe::actors {

struct SchedulerLinks {
  std::function<void(StepJobPtr)> step;
  std::function<void()> collect;
  std::function<void(DeliveryPtr)> deliver;
  // A tick, as soon as others have had their turn.
  std::function<void()> tick_soon;
  // The executor broke its contract: it must go, and a new one come.
  std::function<void(Status)> distrust;
  // Nobody has wanted anything for a while: called at two ticks. May be empty.
  std::function<void()> rest;
};

class SchedulerDesk {
 public:
  SchedulerDesk(engine::SchedulerConfig config, bool runs_ahead, std::shared_ptr<const Clock> clock,
                std::shared_ptr<Board> board, std::shared_ptr<SessionList> sessions,
                SchedulerLinks links);

  void encoded(const OrderPtr& order);
  void ready(const Developed& news);
  void cancel(const Ticket& ticket);
  void done(StepJobPtr job);
  void cut(const Cuts& cuts);
  void device(const Status& why);  // the old one's end; ok: this is the first
  void visit(const Visit& visit);
  void tick();

 private:
  bool enter(const OrderPtr& order);  // false: it has ended
  void advance();  // plans what may be planned, then tells what has happened
  void plan();
  void flush();
  void list_sessions();
  void tidy_up();
  StepJobPtr fresh_job();

  engine::Scheduler scheduler_;
  const bool runs_ahead_;
  const std::shared_ptr<const Clock> clock_;
  const std::shared_ptr<Board> board_;
  const std::shared_ptr<SessionList> sessions_;
  const SchedulerLinks links_;
  StepPlanDraft draft_;
  Recycler<Delivery> deliveries_;
  DeliveryPtr news_;
  uint64_t delivered_ = 0;
  std::vector<StepJobPtr> spare_;
  uint32_t generation_ = 0;
  int32_t flights_ = 0;     // steps sent and not yet back
  int32_t collecting_ = 0;  // collects sent and not yet answered
  int64_t last_done_ns_ = 0;
  uint64_t sessions_listed_ = 0;  // Scheduler::session_changes() when they were
  bool has_device_ = false;
  bool ticks_soon_ = false;
  bool worked_ = false;      // since it last had all its rest
  int32_t idle_ticks_ = 0;
};

}  // namespace troupe::actors
