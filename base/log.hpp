// Logging: nothing is written anywhere unless a sink was set (troupe_log_set, or the command).
//
// Each of our shared libraries has its own copy of base/; libtroupe.so owns the sink and the others
// forward to it. log() never waits for a sink, neither its own nor another thread's: what is logged
// while the sink runs is handed to the thread that runs it (at most kLogBacklog messages, then
// dropped), so a sink that calls back into the engine cannot stall it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

namespace troupe {

enum class LogLevel : int32_t { trace = 0, debug = 1, info = 2, warn = 3, error = 4, off = 5 };
using LogSink = std::function<void(LogLevel, std::string_view)>;
using LogForward = void (*)(LogLevel, std::string_view);

inline constexpr size_t kLogBacklog = 1024;

// Process-wide; the sink may be called from any thread, one call at a time, and may itself log
// (such nested messages are dropped). A sink that throws is disabled. On return the sink before it
// is not running and never will be, unless this is called from inside it.
void set_log_sink(LogLevel level, LogSink sink);
// Sends what this copy of base/ logs to another copy's log(). Null: back to the sink.
void set_log_forward(LogLevel level, LogForward forward);
// What of it is logged from now on, of what the sink or the other copy wants at all.
void set_log_level(LogLevel level);
[[nodiscard]] bool log_wanted(LogLevel level);
void log(LogLevel level, std::string_view message);

}  // namespace troupe
