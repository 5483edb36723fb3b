// Endpoints by their scheme: what is remote, and how to get there.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/port.hpp"

namespace troupe::capi {

[[nodiscard]] bool is_remote(std::string_view endpoint);  // tcp:// or ipc://
// A scheme that is none of ours is refused, by name.
[[nodiscard]] Status check_endpoint(std::string_view endpoint);
// Gives up with `closed` soon after `wanted` has said no.
Result<std::unique_ptr<EnginePort>> connect_remote(const std::string& endpoint,
                                                   const EngineOptions& options,
                                                   const std::function<bool()>& wanted);

}  // namespace troupe::capi
