#include "capi/round.hpp"

#include <algorithm>
#include <utility>

#include "capi/signals.hpp"

namespace troupe::capi {

Round::Round() {
  turns_.reserve(kMostAtOnce);
  due_.reserve(kMostAtOnce);
  const SignalsBlocked blocked;
  watch_ = std::thread([this] { watch(); });
}

Round::~Round() {
  {
    const std::scoped_lock lock(mutex);
    stopping_ = true;
    alarm_.ring();
  }
  alarm_.wake_one();
  watch_.join();
}

bool Round::arrived(Place& place) {
  if (place.in_line || place.calls > 0) return false;
  if (turns_.size() < at_once_) {
    call(place);
    return true;
  }
  place.in_line = true;
  line_.splice(line_.end(), place.node);
  if (!std::exchange(watching_, true)) {
    alarm_.ring();
    alarm_.wake_one();
  }
  return false;
}

void Round::take_turn(const Place& place, bool awake) {
  if (turns_.size() < kMostAtOnce) turns_.push_back({&place, pthread_self(), awake, Clock::now()});
}

void Round::call(Place& place) {
  ++place.calls;
  place.bell.ring();
  take_turn(place, false);
  if (++calm_ < kCalm) return;
  calm_ = 0;
  if (at_once_ > 1) --at_once_;
}

void Round::awake(Place& place) {
  --place.calls;
  const auto mine = std::find_if(turns_.begin(), turns_.end(), [&](const Turn& turn) {
    return turn.place == &place && !turn.awake;
  });
  if (mine == turns_.end()) return;  // it took too long, and has none
  *mine = {&place, pthread_self(), true, Clock::now()};
}

void Round::begin(Place& place) {
  take_turn(place, true);
}

void Round::end() {
  std::erase_if(turns_, [self = pthread_self()](const Turn& turn) {
    return turn.awake && pthread_equal(turn.thread, self) != 0;
  });
}

void Round::leave_line(Place& place) {
  if (!std::exchange(place.in_line, false)) return;
  place.node.splice(place.node.end(), line_, std::find(line_.begin(), line_.end(), &place));
}

void Round::gone(Place& place) {
  leave_line(place);
  std::erase_if(turns_, [&](const Turn& turn) { return turn.place == &place; });
}

std::shared_ptr<Place> Round::next() {
  if (line_.empty() || turns_.size() >= at_once_) return nullptr;
  Place& first = *line_.front();
  first.node.splice(first.node.end(), line_, line_.begin());
  first.in_line = false;
  call(first);
  return first.shared_from_this();
}

// Without the mutex: who awakes would only wait again, for it.
void Round::call_next(std::unique_lock<std::mutex>& lock) {
  while (const std::shared_ptr<Place> place = next()) {
    lock.unlock();
    place->bell.wake_one();
    lock.lock();
  }
}

bool Round::call_due() {
  while (due_.size() < kMostAtOnce) {
    std::shared_ptr<Place> place = next();
    if (!place) break;
    due_.push_back(std::move(place));  // there is room: it allocates nothing
  }
  return !due_.empty() && !std::exchange(waking_, true);
}

std::shared_ptr<Place> Round::next_due(bool last) {
  if (last || due_.empty()) waking_ = false;
  if (due_.empty()) return nullptr;
  std::shared_ptr<Place> first = std::move(due_.front());
  due_.erase(due_.begin());
  return first;
}

void Round::pass_on(std::unique_lock<std::mutex>& lock) {
  if (!call_due()) return;
  for (size_t left = kMostWakes; left > 0; --left) {
    const std::shared_ptr<Place> place = next_due(left == 1);
    if (!place) return;
    lock.unlock();
    place->bell.wake_one();
    lock.lock();
  }
}

Round::Clock::time_point Round::expire(Clock::time_point now) {
  auto next_late = Clock::time_point::max();
  const size_t late = std::erase_if(turns_, [&](const Turn& turn) {
    const auto until = turn.since + (turn.awake ? kPatience : kPatienceAsleep);
    if (until > now) next_late = std::min(next_late, until);
    return until <= now;
  });
  if (late > 0) {
    at_once_ = std::min(at_once_ * 2, kMostAtOnce);
    calm_ = 0;
  }
  return next_late;
}

// Whoever was to wake these is late, or has seen to itself.
void Round::wake_due(std::unique_lock<std::mutex>& lock) {
  for (size_t left = due_.size(); left > 0 && !due_.empty(); --left) {
    const std::shared_ptr<Place> place = std::move(due_.front());
    due_.erase(due_.begin());
    lock.unlock();
    place->bell.wake_one();
    lock.lock();
  }
}

void Round::watch() {
  std::unique_lock lock(mutex);
  while (!stopping_) {
    if (line_.empty() && due_.empty()) {
      watching_ = false;
      alarm_.sleep(lock, Bell::for_ever());
      continue;
    }
    const auto next_late = expire(Clock::now());
    call_next(lock);
    wake_due(lock);
    if (line_.empty() && due_.empty()) continue;
    // Turns that end in between are others' by then: it looks again, at the latest after kPatience.
    alarm_.sleep(lock, std::min(next_late, Clock::now() + kPatience));
  }
}

}  // namespace troupe::capi
