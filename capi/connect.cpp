#include "capi/connect.hpp"

#include "wire/client.hpp"

namespace troupe::capi {

bool is_remote(std::string_view endpoint) {
  return endpoint.starts_with("tcp://") || endpoint.starts_with("ipc://");
}

Status check_endpoint(std::string_view endpoint) {
  if (endpoint.empty()) {
    return invalid(
        "the endpoint is empty: give a model folder, echo:, tcp://host:port or ipc://path");
  }
  const size_t scheme = endpoint.find("://");
  if (scheme == std::string_view::npos || is_remote(endpoint)) return {};
  return invalid("endpoint " + std::string(endpoint) + ": the scheme \"" +
                 std::string(endpoint.substr(0, scheme)) +
                 "\" is unknown; give a model folder, echo:, tcp://host:port or ipc://path");
}

Result<std::unique_ptr<EnginePort>> connect_remote(const std::string& endpoint,
                                                   const EngineOptions& options,
                                                   const std::function<bool()>& wanted) {
  return wire::connect(endpoint, options, wanted);
}

}  // namespace troupe::capi
