#include "capi/queue.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <utility>

#include "capi/error.hpp"
#include "capi/event_view.hpp"

namespace troupe::capi {
namespace {

constexpr uint32_t kEventsPerWait = 65536;
constexpr int64_t kLongestWait_ns = int64_t{365} * 24 * 3600 * 1'000'000'000;

bool carries_tokens(const Event& event) {
  return !event.tokens.empty() || !event.text.empty();
}

// What `terminal` brought of choice 0, as the tokens event that troupe.h promises.
Event split_tokens(Event& terminal) {
  Event tokens;
  tokens.id = terminal.id;
  tokens.index = terminal.index;
  tokens.from = terminal.from;
  tokens.tokens = std::exchange(terminal.tokens, {});
  tokens.text = std::exchange(terminal.text, {});
  tokens.logprobs = std::exchange(terminal.logprobs, {});
  tokens.top_logprobs = std::exchange(terminal.top_logprobs, {});
  tokens.prompt_logprobs = std::exchange(terminal.prompt_logprobs, {});
  tokens.finish = terminal.finish;
  tokens.stop_token = terminal.stop_token;
  tokens.stop_text = terminal.stop_text;
  tokens.usage = terminal.usage;
  tokens.timings = terminal.timings;
  return tokens;
}

}  // namespace

// ---- Channel ------------------------------------------------------------------------------------

Channel::Channel(std::shared_ptr<EventQueue> queue, uint64_t user_data)
    : queue_(std::move(queue)), user_data_(user_data) {
  waiting_.reserve(2);
}

void Channel::push(Event&& event) {
  std::unique_lock lock(queue_->mutex_);
  if (finished_ || queue_->shut_) return;  // INV-QUEUE-3
  const bool terminal = is_terminal(event.kind);
  const RequestId id = event.id;
  try {
    admit(std::move(event));
  } catch (const std::bad_alloc&) {
    lose();
  }
  if (lost_ && terminal) {
    // The engine is done with it; the reader learns why there is a gap.
    waiting_.clear();
    Event& failed =
        waiting_.emplace_back();  // the constructor made room, and it is never given back
    failed.kind = EventKind::failed;
    failed.id = id;
    failed.finish = FinishReason::error;
    failed.status = Status(Code::out_of_memory, "out of memory");  // fits without allocating
  }
  finished_ = terminal || finished_;
  announce(std::move(lock));
}

// The reader is woken after the lock is let go: it would only wait again, for the lock.
void Channel::announce(std::unique_lock<std::mutex> lock) {
  const bool wakes = !waiting_.empty() && queue_->make_ready(*this);
  lock.unlock();
  if (wakes) queue_->place_->bell.wake_one();
}

// Most of what ever comes: while its reader lags, it asks the heap for nothing but room to grow.
void Channel::push_delta(const TokenDelta& delta) {
  std::unique_lock lock(queue_->mutex_);
  if (finished_ || lost_ || queue_->shut_) return;
  try {
    admit(delta);
  } catch (const std::bad_alloc&) {
    lose();
  }
  announce(std::move(lock));
}

void Channel::admit(const TokenDelta& delta) {
  if (Event* const earlier = waiting(EventKind::tokens, delta.index)) {
    merge_events(*earlier, delta);
  } else {
    waiting_.push_back(delta.event());
  }
}

Event* Channel::waiting(EventKind kind, int32_t index) {
  const auto same = std::find_if(waiting_.rbegin(), waiting_.rend(), [&](const Event& earlier) {
    return earlier.kind == kind && earlier.index == index;
  });
  return same == waiting_.rend() ? nullptr : &*same;
}

void Channel::admit(Event&& event) {
  if (lost_) return;
  if (is_terminal(event.kind) && carries_tokens(event)) append(split_tokens(event));
  if (event.kind == EventKind::tokens && event.index == 0 && event.finish != FinishReason::none) {
    last_of_first_.finish = event.finish;
    last_of_first_.stop_token = event.stop_token;
    last_of_first_.stop_text = event.stop_text;
  }
  if (event.kind == EventKind::done && event.finish == FinishReason::none) {
    event.finish = last_of_first_.finish;
    event.stop_token = last_of_first_.stop_token;
    event.stop_text = std::move(last_of_first_.stop_text);
  }
  append(std::move(event));
}

void Channel::append(Event&& event) {
  if (event.kind == EventKind::tokens || event.kind == EventKind::progress) {
    if (Event* const earlier = waiting(event.kind, event.index)) {
      if (event.kind == EventKind::tokens) {
        merge_events(*earlier, std::move(event));
      } else {
        *earlier = std::move(event);
      }
      return;
    }
  }
  waiting_.push_back(std::move(event));
}

void Channel::lose() noexcept {
  lost_ = true;
  waiting_.clear();
}

// ---- EventQueue ---------------------------------------------------------------------------------

EventQueue::EventQueue(std::shared_ptr<Round> round)
    : in_turn_(true), round_(std::move(round)), mutex_(round_->mutex) {}

EventQueue::~EventQueue() {
  if (fd_ >= 0) ::close(fd_);
}

bool EventQueue::make_ready(Channel& channel) {
  if (channel.ready_) return false;  // INV-QUEUE-1
  channel.ready_ = true;
  if (tail_ == nullptr) {
    head_ = channel.shared_from_this();
  } else {
    tail_->next_ = channel.shared_from_this();
  }
  tail_ = &channel;
  signal();
  return calls_reader();
}

bool EventQueue::calls_reader() {
  if (waiters_ == 0) return false;
  if (in_turn_) return round_->arrived(*place_);
  place_->bell.ring();
  return true;
}

std::shared_ptr<Round> EventQueue::round() {
  const std::scoped_lock lock(mutex_);
  if (!round_) round_ = std::make_shared<Round>();
  return round_;
}

int EventQueue::descriptor() {
  const std::scoped_lock lock(mutex_);
  if (fd_ < 0) {
    fd_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    signalled_ = false;
    if (head_ || wake_due_) signal();
  }
  return fd_;
}

void EventQueue::signal() {
  if (fd_ < 0 || signalled_) return;
  const uint64_t one = 1;
  signalled_ = ::write(fd_, &one, sizeof one) == sizeof one;
}

void EventQueue::unsignal() {
  if (!signalled_ || head_ || wake_due_) return;  // INV-QUEUE-2
  uint64_t count = 0;
  signalled_ = ::read(fd_, &count, sizeof count) != sizeof count;
}

struct EventQueue::Patience {
  const EventQueue& queue;
  const int64_t timeout_ns;
  const uint64_t wakes = queue.wakes_;
  const Bell::Clock::time_point until =
      timeout_ns <= 0
          ? Bell::for_ever()
          : Bell::Clock::now() + std::chrono::nanoseconds(std::min(timeout_ns, kLongestWait_ns));

  [[nodiscard]] bool over() const {
    return timeout_ns == 0 || (timeout_ns > 0 && Bell::Clock::now() >= until);
  }
  // Events came, or a wake.
  [[nodiscard]] bool due() const {
    return queue.head_ != nullptr || queue.wake_due_ || queue.wakes_ != wakes;
  }
};

troupe_events* EventQueue::wait(int64_t timeout_ns, uint32_t max) {
  std::unique_lock lock(mutex_);
  const Patience patience{*this, timeout_ns};
  if (in_turn_) {
    sleep_in_turn(lock, patience);
  } else {
    sleep(lock, patience);
  }
  wake_due_ = false;
  troupe_events* const taken =
      head_ ? take(max == 0 ? kEventsPerWait : std::min(max, kEventsPerWait)) : nullptr;
  unsignal();
  const bool calls = head_ && calls_reader();  // what is left is another waiter's
  lock.unlock();
  if (calls) place_->bell.wake_one();
  return taken;
}

void EventQueue::sleep(std::unique_lock<std::mutex>& lock, const Patience& patience) {
  ++waiters_;
  while (!patience.due() && !patience.over()) place_->bell.sleep(lock, patience.until);
  --waiters_;
}

// Returns when there is something to take, or nothing to wait for.
void EventQueue::sleep_in_turn(std::unique_lock<std::mutex>& lock, const Patience& patience) {
  back_in_round(lock);
  bool called = false;
  while (!called && !patience.over() && !(patience.due() && round_->free())) {
    ++waiters_;
    const bool at_once = patience.due() && round_->arrived(*place_);  // else it stands in line
    if (!at_once) place_->bell.sleep(lock, patience.until);
    --waiters_;
    if (place_->calls == 0) continue;
    round_->awake(*place_);
    called = patience.due();
    if (!called) back_in_round(lock);  // in vain: another thread has taken what there was
  }
  if (waiters_ == 0) round_->leave_line(*place_);
  if (patience.due() && !called) round_->begin(*place_);
  if (waiters_ > 0 && wakes_ != patience.wakes) {  // a wake is for all
    place_->bell.ring();
    place_->bell.wake_all();
  }
}

// This thread has done with what it took.
void EventQueue::back_in_round(std::unique_lock<std::mutex>& lock) {
  round_->end();
  round_->pass_on(lock);
}

troupe_events* EventQueue::take(uint32_t max) {
  EventBlock::Sizes sizes;
  for (const Channel* c = head_.get(); c != nullptr && sizes.events < max; c = c->next_.get()) {
    for (size_t i = 0; i < c->waiting_.size() && sizes.events < max; ++i) sizes.add(c->waiting_[i]);
  }
  auto block = std::make_unique<EventBlock>(sizes);  // the last thing that can fail
  for (size_t left = sizes.events; left > 0;) {
    Channel& channel = *head_;
    const size_t n = std::min(left, channel.waiting_.size());
    for (size_t i = 0; i < n; ++i) block->add(std::move(channel.waiting_[i]), channel.user_data_);
    left -= n;
    channel.waiting_.erase(channel.waiting_.begin(),
                           channel.waiting_.begin() + static_cast<std::ptrdiff_t>(n));
    if (!channel.waiting_.empty()) break;
    channel.ready_ = false;
    if (tail_ == &channel) tail_ = nullptr;
    head_ = std::shared_ptr<Channel>(std::move(channel.next_));
  }
  return block.release()->head();
}

void EventQueue::wake() {
  const std::scoped_lock lock(mutex_);
  ++wakes_;
  wake_due_ = waiters_ == 0;
  if (wake_due_) signal();
  if (in_turn_) {
    if (calls_reader()) place_->bell.wake_one();
    return;
  }
  place_->bell.ring();
  place_->bell.wake_all();
}

void EventQueue::shut() {
  std::shared_ptr<Channel> dropped;
  {
    std::unique_lock lock(mutex_);
    shut_ = true;
    if (in_turn_) {
      round_->gone(*place_);
      round_->call_next(lock);
    }
    dropped = std::move(head_);
    tail_ = nullptr;
  }
  while (dropped)
    dropped = std::shared_ptr<Channel>(std::move(dropped->next_));  // no deep recursion
}

}  // namespace troupe::capi

// ---- troupe.h -----------------------------------------------------------------------------------

using troupe::Status;
using troupe::capi::guard_out;
using troupe::capi::guard_void;

extern "C" {

troupe_error* troupe_queue_new(troupe_queue** out) {
  return guard_out(out, [&]() -> Status {
    troupe::capi::adopt_process();
    *out = new troupe_queue{std::make_shared<troupe::capi::EventQueue>()};
    return {};
  });
}

troupe_error* troupe_queue_new_in_turn(troupe_queue* other, troupe_queue** out) {
  return guard_out(out, [&]() -> Status {
    TR_NEED(other);
    try {
      *out = new troupe_queue{std::make_shared<troupe::capi::EventQueue>(other->queue->round())};
    } catch (const std::system_error& e) {
      return Status(troupe::Code::overloaded,
                    std::string("no thread for the turns of these queues: ") + e.what() +
                        ". Raise the limit of threads, or use troupe_queue_new");
    }
    return {};
  });
}

void troupe_queue_free(troupe_queue* queue) {
  guard_void([&] {
    if (queue == nullptr) return;
    queue->queue->shut();
    delete queue;
  });
}

int troupe_queue_fd(const troupe_queue* queue) {
  int fd = -1;
  guard_void([&] {
    if (queue != nullptr) fd = queue->queue->descriptor();
  });
  return fd;
}

troupe_error* troupe_queue_wait(troupe_queue* queue, int64_t timeout_ns, uint32_t max,
                                troupe_events** out) {
  return guard_out(out, [&]() -> Status {
    TR_NEED(queue);
    *out = queue->queue->wait(timeout_ns, max);
    return {};
  });
}

void troupe_queue_wake(troupe_queue* queue) {
  guard_void([&] {
    if (queue != nullptr) queue->queue->wake();
  });
}

void troupe_events_free(troupe_events* events) {
  guard_void([&] {
    if (events != nullptr) delete troupe::capi::EventBlock::of(events);
  });
}
}
