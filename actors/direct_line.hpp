// A short way to an actor's core for what every step says, past the mailbox: a message costs its two
// actors some 7 us of cold code, which is most of what they do. Whoever wants to say something and finds
// nobody speaking for the actor speaks for it, on its own thread; otherwise it sends the message. So the
// core is in one thread's hands at a time, as ever, and what it hears is what the messages say.
//
// A word said directly may overtake a message that was sent before: who needs an order numbers what it
// says (Delivery::number). Free of CAF.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "actors/shell.hpp"

namespace troupe::actors {

template <class Core>
class DirectLine {
 public:
  // ---- the actor's side ----
  // `failed`: an exception left the core while somebody else spoke; the actor must end of it.
  void open(Core& core, HandlerClockPtr clock, std::function<void(const std::exception_ptr&)> failed) {
    const std::scoped_lock lock(turn_);
    core_ = &core;
    clock_ = std::move(clock);
    failed_ = std::move(failed);
  }
  // Before the core goes. Waits for whoever is speaking.
  void close() {
    const std::scoped_lock lock(turn_);
    core_ = nullptr;
    failed_ = nullptr;
  }
  // What a handler of the actor does; nothing when the core has failed and only the end is awaited.
  template <class F>
  void speak(const F& handler) {
    const std::scoped_lock lock(turn_);
    if (core_ == nullptr) return;
    const HandlerTimer timer(*clock_);
    handler();
  }

  // ---- the other side ----
  // False: nothing was said, since somebody speaks for the actor just now, or nobody ever will.
  template <class F>
  bool try_speak(const F& word) {
    const std::unique_lock lock(turn_, std::try_to_lock);
    if (!lock.owns_lock() || core_ == nullptr) return false;
    try {
      const HandlerTimer timer(*clock_);
      word(*core_);
    } catch (...) {
      core_ = nullptr;
      failed_(std::current_exception());
    }
    return true;
  }

 private:
  std::mutex turn_;
  Core* core_ = nullptr;  // guarded, like all that follows
  HandlerClockPtr clock_;
  std::function<void(const std::exception_ptr&)> failed_;
};

namespace detail {
template <class Core, class F, class... Args>
auto in_turn(std::shared_ptr<DirectLine<Core>> line, F handler, void (F::*)(Args...) const) {
  return [line = std::move(line), handler = std::move(handler)](Args... args) {
    line->speak([&] { handler(std::forward<Args>(args)...); });
  };
}
}  // namespace detail

// A handler (a lambda that is not mutable) of an actor that others may speak for; it is timed.
template <class Core, class F>
auto in_turn(const std::shared_ptr<DirectLine<Core>>& line, F handler) {
  return detail::in_turn(line, std::move(handler), &F::operator());
}

}  // namespace troupe::actors
