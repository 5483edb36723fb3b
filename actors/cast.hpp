// The cast: all actors of one engine, from their first message to their last. No CAF in this header.
//
// Nothing here is global: two casts live side by side in one process. submit() refuses in the
// caller's thread; everything else is a message.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/cast_parts.hpp"
#include "actors/shell.hpp"
#include "actors/ticket.hpp"
#include "base/request.hpp"
#include "base/status.hpp"

namespace troupe::actors {

class Cast {
 public:
  // Returns when the device is open, or with the reason why it is not. Simulated: at once.
  static Result<std::unique_ptr<Cast>> open(CastParts parts);
  ~Cast();  // close(0), if nobody did
  Cast(const Cast&) = delete;
  Cast& operator=(const Cast&) = delete;

  Result<RequestId> submit(Request request, std::shared_ptr<EventSink> sink);
  void cancel(RequestId id);
  // Behind whatever was taken before: a request on its way there runs.
  void session_free(uint64_t session);
  [[nodiscard]] bool session_expects(uint64_t session) const;  // a request is on its way there

  // Runs `visitor` where the scheduler's state lives; waits for it, but not for ever.
  Status visit(std::function<void(engine::Scheduler&)> visitor);
  // How many requests may wait from now on; those that wait already stay.
  void set_waiting_max(int32_t requests);
  // Refuses from now on; lets running requests end for `drain_ns`, cancels the rest. Every terminal
  // event has been pushed when it returns. The failure: an executor that does not come back from its
  // device; its thread is left behind. Another who closes meanwhile cuts the time short, or waits.
  Status close(int64_t drain_ns);

  [[nodiscard]] const Board& board() const;
  [[nodiscard]] uint32_t waiting() const;
  [[nodiscard]] uint32_t in_flight() const;
  [[nodiscard]] const ThreadPlan& threads() const;
  // How long handlers took, one per actor, and how the executor spent its time.
  [[nodiscard]] std::vector<HandlerClockPtr> handler_clocks() const;
  [[nodiscard]] int64_t executor_idle_ns() const;
  [[nodiscard]] uint64_t executor_gaps() const;
  [[nodiscard]] int64_t executor_host_ns() const;
  [[nodiscard]] int64_t executor_recording_ns() const;
  [[nodiscard]] uint64_t executor_moves() const;
  // As it was when the device last had nothing to do; empty: not told apart.
  [[nodiscard]] std::vector<MemoryShare> device_memory() const;

  // Simulations: one message, chosen among the actors that have one by `choice`; false: none has.
  bool simulate_one(uint64_t choice);
  void simulate_time(int64_t ns);

 private:
  struct State;
  explicit Cast(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace troupe::actors
