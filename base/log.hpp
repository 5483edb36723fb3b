// Logging: nothing is written anywhere unless a sink was set (troupe_log_set, or the command).
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace troupe {

enum class LogLevel : int32_t { trace = 0, debug = 1, info = 2, warn = 3, error = 4, off = 5 };
using LogSink = std::function<void(LogLevel, std::string_view)>;

// Process-wide; the sink may be called from any thread, one call at a time, and may itself log
// (such nested messages are dropped). A sink that throws is disabled.
void set_log_sink(LogLevel level, LogSink sink);
[[nodiscard]] bool log_wanted(LogLevel level);
void log(LogLevel level, std::string_view message);

}  // namespace troupe
