// A remote engine as a port: one I/O thread that owns the DEALER socket and drives a ClientCore.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/port.hpp"

namespace troupe::wire {

// False: whoever connects has lost interest. Asked while there is no answer yet.
using StillWanted = std::function<bool()>;

// Returns when the server has said WELCOME, or with the reason why not: nobody answered within
// options.remote.connect_timeout_ns, the keys are not good, or it is not wanted any more (closed).
Result<std::unique_ptr<EnginePort>> connect(
    const std::string& endpoint, const EngineOptions& options,
    const StillWanted& wanted = [] { return true; });

}  // namespace troupe::wire
