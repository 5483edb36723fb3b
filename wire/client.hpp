// A remote engine as a port: one I/O thread that owns the DEALER socket and drives a ClientCore.
#pragma once

#include <memory>
#include <string>

#include "base/port.hpp"

namespace troupe::wire {

// Returns when the server has said WELCOME, or with the reason why not: nobody answered within
// options.remote.connect_timeout_ns, or the keys are not good.
Result<std::unique_ptr<EnginePort>> connect(const std::string& endpoint,
                                            const EngineOptions& options);

}  // namespace troupe::wire
