// ServerOptions::settings ("requests=100"), read into a ServerConfig.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/port.hpp"
#include "wire/server_core.hpp"

namespace troupe::wire {

// Unknown names and numbers out of bounds are refused; the message names the known ones.
Result<ServerConfig> server_config(const ServerOptions& options, const EngineInfo& info);

}  // namespace troupe::wire
