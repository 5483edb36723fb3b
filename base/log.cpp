#include "base/log.hpp"

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>

namespace troupe {
namespace {

struct Sinks {
  std::atomic<int32_t> level{static_cast<int32_t>(LogLevel::off)};
  std::mutex changing;  // guards `sink`, never held while it runs
  std::mutex running;   // one call at a time
  std::shared_ptr<LogSink> sink;
};

// Leaked on purpose: threads may log while the process ends.
Sinks& sinks() {
  static Sinks* const s = new Sinks;
  return *s;
}

thread_local bool inside_sink = false;

}  // namespace

void set_log_sink(LogLevel level, LogSink sink) {
  Sinks& s = sinks();
  const std::scoped_lock lock(s.changing);
  s.sink = sink ? std::make_shared<LogSink>(std::move(sink)) : nullptr;
  s.level.store(static_cast<int32_t>(s.sink ? level : LogLevel::off));
}

bool log_wanted(LogLevel level) {
  return level != LogLevel::off && static_cast<int32_t>(level) >= sinks().level.load();
}

void log(LogLevel level, std::string_view message) {
  if (!log_wanted(level) || inside_sink) return;
  Sinks& s = sinks();
  std::shared_ptr<LogSink> sink;
  {
    const std::scoped_lock lock(s.changing);
    sink = s.sink;
  }
  if (!sink) return;
  const std::scoped_lock lock(s.running);
  inside_sink = true;
  try {
    (*sink)(level, message);
  } catch (...) {
    const std::scoped_lock change(s.changing);
    if (s.sink == sink) {
      s.sink = nullptr;
      s.level.store(static_cast<int32_t>(LogLevel::off));
    }
  }
  inside_sink = false;
}

}  // namespace troupe
