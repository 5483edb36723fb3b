// The wire server: one I/O thread that owns the ROUTER socket and drives a ServerCore.
#pragma once

#include <memory>
#include <string>

#include "base/port.hpp"

namespace troupe::wire {

// Binds and serves until the port goes. EnginePlugin::serve.
Result<std::unique_ptr<ServerPort>> serve(std::shared_ptr<EnginePort> engine,
                                          const std::string& bind, const ServerOptions& options);

}  // namespace troupe::wire
