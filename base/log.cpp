#include "base/log.hpp"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace troupe {
namespace {

struct Message {
  LogLevel level;
  std::string text;
};

struct State {
  std::atomic<int32_t> level{static_cast<int32_t>(LogLevel::off)};
  std::atomic<LogForward> forward{nullptr};
  std::mutex mutex;  // guards what follows, never held while a sink runs
  std::condition_variable idle;
  std::shared_ptr<LogSink> sink, running;
  std::deque<Message> backlog;
};

// Leaked on purpose: threads may log while the process ends.
State& state() {
  static State* const s = new State;
  return *s;
}

thread_local bool inside_sink = false;

void disable(State& s) {
  s.sink = nullptr;
  s.backlog.clear();
  s.level.store(static_cast<int32_t>(LogLevel::off));
}

// Runs the sink on everything in the backlog; the mutex is held on entry and on return.
void drain(State& s, std::unique_lock<std::mutex>& lock) {
  while (s.sink && !s.backlog.empty()) {
    const std::shared_ptr<LogSink> sink = s.sink;
    const Message message = std::move(s.backlog.front());
    s.backlog.pop_front();
    s.running = sink;
    lock.unlock();
    bool threw = false;
    inside_sink = true;
    try {
      (*sink)(message.level, message.text);
    } catch (...) {
      threw = true;
    }
    inside_sink = false;
    lock.lock();
    s.running = nullptr;
    if (threw && s.sink == sink) disable(s);
    s.idle.notify_all();
  }
}

}  // namespace

void set_log_sink(LogLevel level, LogSink sink) {
  State& s = state();
  auto fresh = sink ? std::make_shared<LogSink>(std::move(sink)) : nullptr;
  std::unique_lock lock(s.mutex);
  const std::shared_ptr<LogSink> old = std::exchange(s.sink, std::move(fresh));
  s.backlog.clear();
  s.level.store(static_cast<int32_t>(s.sink ? level : LogLevel::off));
  if (!inside_sink) s.idle.wait(lock, [&] { return !old || s.running != old; });
}

void set_log_forward(LogLevel level, LogForward forward) {
  State& s = state();
  s.forward.store(forward);
  s.level.store(static_cast<int32_t>(forward != nullptr ? level : LogLevel::off));
}

void set_log_level(LogLevel level) {
  state().level.store(static_cast<int32_t>(level));
}

bool log_wanted(LogLevel level) {
  return level != LogLevel::off && static_cast<int32_t>(level) >= state().level.load();
}

void log(LogLevel level, std::string_view message) {
  if (!log_wanted(level) || inside_sink) return;
  State& s = state();
  if (const LogForward forward = s.forward.load(); forward != nullptr) {
    forward(level, message);
    return;
  }
  std::unique_lock lock(s.mutex);
  if (!s.sink || s.backlog.size() >= kLogBacklog) return;
  s.backlog.push_back({level, std::string(message)});
  if (!s.running) drain(s, lock);
}

}  // namespace troupe
