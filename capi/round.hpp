// Queues that take turns: the threads that sleep on them are woken one after the other, each when
// the one before has come back to wait. Threads that share a lock (an interpreter's) would
// otherwise all be woken to meet at it.
//
// A thread has a turn from the moment it is called until it waits again on any queue of the round,
// or its queue is freed. One that takes longer than kPatience loses it, and from then on twice as
// many have one at once; without such a delay their number goes down again. So turns order threads
// and never stop them:
//
// Who wakes another is often preempted by it before it could sleep itself, and two that run on one
// core drive the next to another, asleep, where waking costs ten times as much. So while a thread
// is inside its wake, others leave to it whom they call: they sleep, it goes on, and wakes these.
//
// INV-ROUND-1: while a place stands in line, as many turns are out as may be, and the watch counts
// their time. INV-ROUND-2: a place stands in line only while somebody sleeps on its queue and
// events are in it. INV-ROUND-3: while a place is left to be woken, a thread or the watch will.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "capi/bell.hpp"

namespace troupe::capi {

// Where the threads that wait on one queue sleep.
struct Place : std::enable_shared_from_this<Place> {
  Bell bell;
  size_t calls = 0;  // who was called and has not awoken yet
  bool in_line = false;
  std::list<Place*> node{this};  // moves into the line and back: standing in line allocates nothing
};

class Round {
 public:
  using Clock = Bell::Clock;
  static constexpr std::chrono::milliseconds kPatience{2};
  // For a thread that was called and has not awoken: more of them would not make a processor free.
  static constexpr std::chrono::milliseconds kPatienceAsleep{10};
  static constexpr size_t kMostAtOnce = 64;
  static constexpr size_t kCalm =
      64;  // so many calls without a delay, and one thread less runs at once
  static constexpr size_t kMostWakes = 32;  // for others, before a thread sees to itself

  Round();  // starts the watch: throws std::system_error when no thread can be made
  ~Round();
  Round(const Round&) = delete;
  Round& operator=(const Round&) = delete;

  std::mutex mutex;  // of the round and of all its queues; held by whoever calls what follows

  // Events came for somebody who sleeps: true, they are called now (the caller notifies); or they
  // stand in line.
  [[nodiscard]] bool arrived(Place& place);
  // Whether a thread that finds events need not stand in line for them.
  [[nodiscard]] bool free() const { return line_.empty() && turns_.size() < at_once_; }
  // This thread awoke by a call; it took events without one; it is back.
  void awake(Place& place);
  void begin(Place& place);
  void end();
  // Nobody needs the call for which this place stands in line; nobody comes back from it.
  void leave_line(Place& place);
  void gone(Place& place);

  // Who is next, if it is anybody's turn: called, and to be woken at its bell, best without the
  // mutex. call_next does that for all whose turn it is.
  [[nodiscard]] std::shared_ptr<Place> next();
  void call_next(std::unique_lock<std::mutex>& lock);

  // The same for a thread that comes back to wait: it wakes them, or leaves them to one that wakes.
  void pass_on(std::unique_lock<std::mutex>& lock);
  // Its steps. Calls all whose turn it is; whether this thread is to wake them: until next_due,
  // asked after each wake, says that there is nobody. `last`: it will not ask again.
  [[nodiscard]] bool call_due();
  [[nodiscard]] std::shared_ptr<Place> next_due(bool last = false);

  [[nodiscard]] size_t at_once() const { return at_once_; }

 private:
  struct Turn {
    const Place* place;
    pthread_t thread;  // once it is awake
    bool awake;
    Clock::time_point since;
  };
  void call(Place& place);
  void take_turn(const Place& place, bool awake);
  void wake_due(std::unique_lock<std::mutex>& lock);
  void watch();
  // Takes their turns from those who are late; when the next one will be.
  Clock::time_point expire(Clock::time_point now);

  std::list<Place*> line_;
  std::vector<Turn> turns_;
  std::vector<std::shared_ptr<Place>> due_;  // called, and to be woken; never more than kMostAtOnce
  size_t at_once_ = 1, calm_ = 0;
  bool watching_ = false, stopping_ = false;
  bool waking_ = false;  // a thread wakes those that are due, and will ask for more
  Bell alarm_;
  std::thread watch_;
};

}  // namespace troupe::capi
