#include "actors/ticket.hpp"

#include <string>
#include <utility>

#include "base/assert.hpp"
#include "base/clock.hpp"

namespace troupe::actors {

Status Admission::refuse(const char* what, uint64_t limit, const char* remedy) {
  board_->refused.fetch_add(1, std::memory_order_relaxed);
  return {Code::overloaded, "the engine is full: " + std::string(what) + " (limit " +
                                std::to_string(limit) + "); " + remedy};
}

Status Admission::enter(uint64_t image_bytes) {
  if (!open_.load(std::memory_order_acquire)) {
    const std::scoped_lock lock(why_mutex_);
    board_->refused.fetch_add(1, std::memory_order_relaxed);
    return why_;
  }
  const uint32_t waiting_max = waiting_max_.load(std::memory_order_relaxed);
  const uint32_t in_flight_max = in_flight_max_.load(std::memory_order_relaxed);
  if (waiting_.fetch_add(1, std::memory_order_relaxed) >= waiting_max) {
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    return refuse("waiting requests", waiting_max, "retry later or raise max_waiting");
  }
  if (in_flight_.fetch_add(1, std::memory_order_acq_rel) >= in_flight_max) {
    in_flight_.fetch_sub(1, std::memory_order_acq_rel);
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    return refuse("requests in flight", in_flight_max,
                  "retry later or raise max_waiting or max_sequences");
  }
  untold_.fetch_add(1, std::memory_order_seq_cst);
  if (image_bytes > 0 && image_bytes_.fetch_add(image_bytes) + image_bytes > bounds_.image_bytes) {
    withdraws(image_bytes);
    return refuse("bytes of waiting images", bounds_.image_bytes, "retry later");
  }
  // shut() may have come between the first look and the count: whoever drains waits for those who
  // are untold, so it either sees this request or this look sees that the door is shut.
  if (!open_.load(std::memory_order_seq_cst)) {
    withdraws(image_bytes);
    const std::scoped_lock lock(why_mutex_);
    board_->refused.fetch_add(1, std::memory_order_relaxed);
    return why_;
  }
  return {};
}

void Admission::set_waiting_max(uint32_t requests) {
  waiting_max_.store(requests, std::memory_order_relaxed);
  in_flight_max_.store(bounds_.in_flight - bounds_.waiting + requests, std::memory_order_relaxed);
}

void Admission::leaves(bool had_started, uint64_t image_bytes) {
  if (!had_started) waiting_.fetch_sub(1, std::memory_order_relaxed);
  if (image_bytes > 0) image_bytes_.fetch_sub(image_bytes);
  in_flight_.fetch_sub(1, std::memory_order_acq_rel);
}

void Admission::told() {
  if (untold_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const std::scoped_lock lock(idle_mutex_);
  idle_.notify_all();
}

bool Admission::wait_idle(std::chrono::steady_clock::time_point until) {
  std::unique_lock lock(idle_mutex_);
  return idle_.wait_until(lock, until,
                          [this] { return untold_.load(std::memory_order_seq_cst) == 0; });
}

void Admission::hurry(std::chrono::steady_clock::time_point until) {
  const std::scoped_lock lock(idle_mutex_);
  if (until >= drained_by_) return;
  drained_by_ = until;
  idle_.notify_all();
}

bool Admission::drain() {
  std::unique_lock lock(idle_mutex_);
  const auto idle = [this] { return untold_.load(std::memory_order_seq_cst) == 0; };
  while (!idle()) {
    const auto known = drained_by_;
    if (idle_.wait_until(lock, known) == std::cv_status::timeout && drained_by_ == known) {
      return idle();
    }
  }
  return true;
}

void Admission::shut(const Status& why) {
  TR_ASSERT(!why.ok());
  const std::scoped_lock lock(why_mutex_);
  if (!open_.load()) return;
  why_ = why;
  open_.store(false, std::memory_order_seq_cst);
}

Ticket::~Ticket() {
  if (ended()) return;
  end(asked_to_stop() ? stop_reason()
                      : internal_error("request " + std::to_string(stub_.id) +
                                       " was lost inside the engine; please report this"));
}

void Ticket::start() {
  const std::scoped_lock lock(mutex_);
  if (ended() || started_.exchange(true)) return;
  admission_->starts();
}

void Ticket::push_delta(const TokenDelta& delta) {
  const std::scoped_lock lock(mutex_);
  if (!ended()) sink_->push_delta(delta);
}

bool Ticket::deliver(Event&& event) {
  const bool last = is_terminal(event.kind);
  std::shared_ptr<EventSink> sink;
  {
    const std::scoped_lock lock(mutex_);
    if (ended()) return false;
    event.id = stub_.id;
    event.user_data = stub_.user_data;
    if (!last) {
      sink_->push(std::move(event));
      return true;
    }
    event.timings.images_ns = images_.images_ns;
    event.timings.image_prepare_ns = images_.image_prepare_ns;
    event.timings.image_encode_ns = images_.image_encode_ns;
    Board& board = admission_->board();
    (event.kind == EventKind::done        ? board.done
     : event.kind == EventKind::cancelled ? board.cancelled
                                          : board.failed)
        .fetch_add(1, std::memory_order_relaxed);
    admission_->leaves(started_.load(), stub_.image_bytes);
    way_ = {};
    sink = std::move(sink_);
    sink->push(std::move(event));
    ended_.store(true, std::memory_order_release);
  }
  // After the push: close() returns when everybody has been told.
  admission_->told();
  return true;
}

SessionList::Way Ticket::take_way() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(way_, {});
}

void Ticket::note_images(int64_t until_ready_ns, int64_t prepare_ns, int64_t encode_ns) {
  const std::scoped_lock lock(mutex_);
  images_.images_ns = until_ready_ns;
  images_.image_prepare_ns = prepare_ns;
  images_.image_encode_ns = encode_ns;
}

bool Ticket::end(const Status& status) {
  TR_ASSERT(!status.ok());
  Event event;
  const bool cancelled = status.code() == Code::cancelled;
  event.kind = cancelled ? EventKind::cancelled : EventKind::failed;
  event.finish = cancelled ? FinishReason::cancelled : FinishReason::error;
  event.status = status;
  event.timings.total_ns = steady_now_ns() - stub_.submitted_ns;
  return deliver(std::move(event));
}

bool Ticket::ask_to_stop(const Status& why) {
  TR_ASSERT(!why.ok());
  const std::scoped_lock lock(mutex_);
  if (asked_to_stop()) return false;
  stop_reason_ = why;
  stopping_.store(true, std::memory_order_release);
  return true;
}

Status Ticket::stop_reason() const {
  const std::scoped_lock lock(mutex_);
  return stop_reason_;
}

}  // namespace troupe::actors
