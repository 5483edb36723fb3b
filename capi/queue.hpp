// The completion queue: where events of many requests, of many engines, wait for their readers.
//
// INV-QUEUE-1: a request's channel is in the ready list at most once, and holds at most one tokens
//   event per choice: a reader that lags costs O(requests) of memory plus their text.
// INV-QUEUE-2: the descriptor is readable exactly while the ready list is not empty or a wake is
// due. INV-QUEUE-3: nothing leaves a channel after its terminal event.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/request.hpp"
#include "capi/round.hpp"
#include "capi/troupe.h"

namespace troupe::capi {

class EventQueue;

// One request's way into the queue.
class Channel final : public EventSink, public std::enable_shared_from_this<Channel> {
 public:
  Channel(std::shared_ptr<EventQueue> queue, uint64_t user_data);
  void push(Event&& event) override;
  void push_delta(const TokenDelta& delta) override;

 private:
  friend class EventQueue;
  // All with the queue's mutex held.
  void admit(Event&& event);
  void admit(const TokenDelta& delta);
  [[nodiscard]] Event* waiting(EventKind kind, int32_t index);
  void append(Event&& event);
  void announce(std::unique_lock<std::mutex> lock);
  void lose() noexcept;  // out of memory: what waits is dropped, and the last event will say so

  const std::shared_ptr<EventQueue> queue_;
  const uint64_t user_data_;
  std::vector<Event> waiting_;
  std::shared_ptr<Channel> next_;  // in the ready list
  Event last_of_first_;  // finish reason and stop of choice 0, for DONE
  bool ready_ = false, finished_ = false, lost_ = false;
};

class EventQueue {
 public:
  EventQueue() = default;
  // One that takes turns with the others of the round.
  explicit EventQueue(std::shared_ptr<Round> round);
  ~EventQueue();
  EventQueue(const EventQueue&) = delete;
  EventQueue& operator=(const EventQueue&) = delete;

  // Made on first use: who only waits pays no system calls for it. -1: none could be made.
  int descriptor();
  // The round of the queues made in turn from this one; its own, if it takes turns itself.
  std::shared_ptr<Round> round();
  // Null: none came within the time. timeout_ns < 0: for ever.
  troupe_events* wait(int64_t timeout_ns, uint32_t max);
  void wake();
  // The reader has gone: events are dropped from now on.
  void shut();

 private:
  friend class Channel;
  struct Patience;  // how long one call of wait() may last, and what else ends it
  // Whether a reader sleeps who is then to be woken.
  [[nodiscard]] bool make_ready(Channel& channel);
  void sleep(std::unique_lock<std::mutex>& lock, const Patience& patience);
  void sleep_in_turn(std::unique_lock<std::mutex>& lock, const Patience& patience);
  void back_in_round(std::unique_lock<std::mutex>& lock);
  [[nodiscard]] bool calls_reader();  // true: to be woken at the bell
  troupe_events* take(uint32_t max);
  void signal();
  void unsignal();

  std::mutex own_mutex_;
  const bool in_turn_ = false;
  std::shared_ptr<Round> round_;
  std::mutex& mutex_ = own_mutex_;  // or the round's
  const std::shared_ptr<Place> place_ = std::make_shared<Place>();
  std::shared_ptr<Channel> head_;
  Channel* tail_ = nullptr;
  int fd_ = -1;
  bool signalled_ = false, wake_due_ = false, shut_ = false;
  uint32_t waiters_ = 0;
  uint64_t wakes_ = 0;
};

}  // namespace troupe::capi

struct troupe_queue {
  std::shared_ptr<troupe::capi::EventQueue> queue;
};
