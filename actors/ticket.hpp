// The two promises of the door, kept by plain counting and by object lifetime, free of CAF.
//
// Admission refuses in the caller's thread, before any message exists: a flood costs a refused
// caller two atomic additions and the actors nothing.
// A Ticket is the only way to a request's event sink. It lets through exactly one terminal event,
// nothing after it, and gives one itself when it is dropped unfinished (a message lost with its
// actor): INV-EVENT-1 holds whatever dies. Both outlive the port when a caller still holds a sink.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "actors/session_list.hpp"
#include "base/request.hpp"
#include "base/status.hpp"

namespace troupe::actors {

// Counters of one engine, written by whoever knows, read by stats() without a message.
struct Board {
  std::atomic<uint64_t> submitted{0}, refused{0}, done{0}, cancelled{0}, failed{0};
  std::atomic<uint64_t> prompt_tokens{0}, cached_tokens{0}, completion_tokens{0}, images{0};
  std::atomic<uint64_t> images_encoded{0}, images_reused{0}, tiles_encoded{0};
  std::atomic<int64_t> image_prepare_ns{0}, image_encode_ns{0}, image_row_bytes{0};
  std::atomic<uint64_t> steps{0}, preemptions{0}, replacements{0}, slow_handlers{0};
  std::atomic<uint32_t> running{0}, sessions{0};
  std::atomic<uint64_t> kv_blocks_total{0}, kv_blocks_used{0};
  std::atomic<int64_t> step_last_ns{0};
};

class Admission {
 public:
  struct Bounds {
    uint32_t waiting = 0;      // requests admitted and not yet running
    uint32_t in_flight = 0;    // admitted and not yet finished
    uint64_t image_bytes = 0;  // of waiting and running requests together
  };
  Admission(Bounds bounds, std::shared_ptr<Board> board)
      : bounds_(bounds),
        waiting_max_(bounds.waiting),
        in_flight_max_(bounds.in_flight),
        board_(std::move(board)) {}

  // Takes a place, or says which bound is in the way.
  Status enter(uint64_t image_bytes);
  void starts() { waiting_.fetch_sub(1, std::memory_order_relaxed); }
  // Gives the place back: whoever hears of its end may come again at once.
  void leaves(bool had_started, uint64_t image_bytes);
  // The caller, who has left, has been told.
  void told();
  // Undoes enter() for one that is refused after all: there is no end to tell of.
  void withdraws(uint64_t image_bytes) {
    leaves(false, image_bytes);
    told();
  }
  // Waits until all who came have left and been told; false when `until` came first.
  bool wait_idle(std::chrono::steady_clock::time_point until);
  // Whoever drains waits no longer than this: of several who close, the least patient counts.
  void hurry(std::chrono::steady_clock::time_point until);
  // wait_idle() until the time that hurry() set, and may still bring forward.
  bool drain();
  // The engine takes nothing more: `why` is what callers are told from now on. The first one stays.
  void shut(const Status& why);

  // So many may wait from now on, and so many more or fewer be in flight; nobody is sent away.
  void set_waiting_max(uint32_t requests);

  [[nodiscard]] uint32_t waiting() const { return waiting_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint32_t in_flight() const { return in_flight_.load(std::memory_order_acquire); }
  [[nodiscard]] Board& board() { return *board_; }

 private:
  Status refuse(const char* what, uint64_t limit, const char* remedy);

  const Bounds bounds_;  // as they were at first
  std::atomic<uint32_t> waiting_max_, in_flight_max_;
  const std::shared_ptr<Board> board_;
  std::atomic<uint32_t> waiting_{0}, in_flight_{0};
  std::atomic<uint32_t> untold_{0};  // in flight, or their end is on its way
  std::atomic<uint64_t> image_bytes_{0};
  std::atomic<bool> open_{true};
  std::mutex why_mutex_;
  Status why_;
  std::mutex idle_mutex_;  // orders the last one told before the look of who waits for it
  std::condition_variable idle_;
  std::chrono::steady_clock::time_point drained_by_ =
      std::chrono::steady_clock::time_point::max();  // with idle_mutex_
};

// Held for the length of a push, and taken twice at once only when a request is ended from outside:
// one locked operation where a mutex has two.
class BriefLock {
 public:
  void lock() {
    while (held_.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
  }
  void unlock() { held_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> held_{false};
};

// A token touches its first line only.
class alignas(64) Ticket final : public EventSink {
 public:
  struct Stub {
    RequestId id = 0;
    uint64_t user_data = 0;
    uint64_t image_bytes = 0;
    int64_t submitted_ns = 0;
    int64_t deadline_ns = 0;  // absolute; 0: none
  };
  Ticket(Stub stub, std::shared_ptr<EventSink> sink, std::shared_ptr<Admission> admission)
      : sink_(std::move(sink)), stub_(stub), admission_(std::move(admission)) {}
  ~Ticket() override;
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

  [[nodiscard]] RequestId id() const { return stub_.id; }
  [[nodiscard]] const Stub& stub() const { return stub_; }

  // Leaves the waiting ones. Counted once.
  void start();
  // Gives the event to the caller; nothing when the request has ended already.
  void push(Event&& event) override { (void)deliver(std::move(event)); }
  void push_delta(const TokenDelta& delta) override;
  // The same, and says whether the caller was given it.
  bool deliver(Event&& event);
  // A terminal event made from a status: cancelled for Code::cancelled, else failed.
  bool end(const Status& status);
  [[nodiscard]] bool ended() const { return ended_.load(std::memory_order_acquire); }

  // Its way to its session ends here, or with the request, before anybody is told of that.
  void sets_out(SessionList::Way way) { way_ = std::move(way); }  // before anybody else knows it
  [[nodiscard]] SessionList::Way take_way();

  // What its pictures took, for the terminal event. Before it, by whoever has them made.
  void note_images(int64_t until_ready_ns, int64_t prepare_ns, int64_t encode_ns);

  // Asks for the request's end from any thread. Set before the message that tells the scheduler,
  // so that a request still on its way to it is stopped on arrival. The first reason stays.
  bool ask_to_stop(const Status& why);
  [[nodiscard]] bool asked_to_stop() const { return stopping_.load(std::memory_order_acquire); }
  [[nodiscard]] Status stop_reason() const;

 private:
  std::atomic<bool> started_{false}, ended_{false}, stopping_{false};
  mutable BriefLock mutex_;  // orders pushes; uncontended but for ends
  std::shared_ptr<EventSink> sink_;
  const Stub stub_;
  const std::shared_ptr<Admission> admission_;
  Status stop_reason_;
  Timings images_;  // guarded by mutex_
  SessionList::Way way_;  // guarded by mutex_
};
using TicketPtr = std::shared_ptr<Ticket>;

}  // namespace troupe::actors
