// EngineOptions for a remote engine, read into what its port and its socket need.
#pragma once

#include <string>

#include "base/port.hpp"
#include "wire/client_core.hpp"

namespace troupe::wire {

// With the public half of a client's secret key filled in; keys that are none, are no pair, or lack
// the server's are refused.
Result<RemoteOptions> remote_options(const EngineOptions& options);

// Unknown settings and numbers out of bounds are refused; the message names the known ones.
Result<ClientConfig> client_config(const std::string& endpoint, const EngineOptions& options);

}  // namespace troupe::wire
