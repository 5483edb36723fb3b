// The two ways to drive a scheduler and an executor in one thread, side by side: whatever differs
// between their answers is a bug of the overlap. The cast does the same by messages; tests,
// simulations and benches use these.
#pragma once

#include <vector>

#include "base/clock.hpp"
#include "engine/executor.hpp"
#include "engine/scheduler.hpp"

namespace troupe::engine {

class StepLoop {
 public:
  StepLoop(Scheduler& scheduler, StepExecutor& executor, const Clock& clock)
      : scheduler_(scheduler), executor_(&executor), clock_(clock) {}

  // One turn in the way that the scheduler is configured for. False: there was nothing to do.
  Result<bool> turn(Outputs& out) {
    return scheduler_.config().overlap ? overlapped_turn(out) : plain_turn(out);
  }

  // The executable specification: a step is over before the next one is thought of.
  Result<bool> plain_turn(Outputs& out) {
    TR_ASSIGN(const bool sent, send(out));
    if (sent) TR_TRY(receive(out));
    return sent || scheduler_.goes_on();
  }

  // The next step is on its way before the last one is looked at.
  Result<bool> overlapped_turn(Outputs& out) {
    TR_ASSIGN(const bool sent, send(out));
    const int32_t in_flight = scheduler_.steps_in_flight();
    if (in_flight == 0) return scheduler_.goes_on();
    if (in_flight == 2 || !sent) TR_TRY(receive(out));
    return true;
  }

  // After a lost device.
  void replace(StepExecutor& executor) { executor_ = &executor; }
  [[nodiscard]] const StepPlanDraft& draft() const { return draft_; }

 private:
  Result<bool> send(Outputs& out) {
    if (!scheduler_.plan(clock_.now_ns(), draft_, out)) return false;
    draft_.seal(bytes_);
    TR_TRY(executor_->forward(bytes_));
    TR_TRY(executor_->sample({}));
    return true;
  }
  Status receive(Outputs& out) {
    TR_ASSIGN(const StepResult result, executor_->collect());
    return scheduler_.commit(result, clock_.now_ns(), out);
  }

  Scheduler& scheduler_;
  StepExecutor* executor_;
  const Clock& clock_;
  StepPlanDraft draft_;
  std::vector<std::byte> bytes_;
};

}  // namespace troupe::engine
