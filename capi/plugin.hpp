// libtroupe_engine.so: found beside this library, opened when a local engine is first wanted.
#pragma once

#include <string>

#include "base/port.hpp"

namespace troupe::capi {

// Refuses a plugin that is missing, has no entry or comes from another build, each by name.
// Never unloaded. `directory` empty: where libtroupe.so lies.
Result<const EnginePlugin*> load_engine_plugin(const std::string& directory);

// Sets the log level of this library's sink and of every plugin loaded now or later.
void set_log(LogLevel level, LogSink sink);

}  // namespace troupe::capi
