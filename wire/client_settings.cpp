#include "wire/client_settings.hpp"

#include <algorithm>
#include <charconv>

#include "base/build_id.hpp"
#include "wire/endpoint.hpp"

namespace troupe::wire {
namespace {

constexpr int64_t kMs = 1'000'000;

Status apply(ClientConfig& config, const std::string& key, const std::string& value) {
  int64_t number = 0;
  const char* const end = value.data() + value.size();
  const auto [rest, wrong] = std::from_chars(value.data(), end, number);
  const bool good =
      wrong == std::errc() && rest == end && number >= 1 && number <= int64_t{7} * 24 * 3600 * 1000;
  const bool known = key == "call_timeout_ms" || key == "resume_ms" || key == "credit";
  if (!known) {
    return unsupported("setting \"" + key +
                       "\" of a remote engine: there are call_timeout_ms, resume_ms and "
                       "credit; the engine's own are set where it is served");
  }
  if (!good)
    return invalid("setting " + key + " is \"" + value +
                   "\": it must be a whole number, 1 or more");
  if (key == "call_timeout_ms") config.call_ns = number * kMs;
  if (key == "resume_ms") config.resume_ns = number * kMs;
  if (key == "credit")
    config.credit = static_cast<uint32_t>(std::clamp<int64_t>(number, 2, 1 << 16));
  return {};
}

}  // namespace

Result<RemoteOptions> remote_options(const EngineOptions& options) {
  RemoteOptions remote = options.remote;
  if (!remote.server_key.empty()) TR_TRY(check_key("server_key", remote.server_key));
  if (!remote.client_secret_key.empty()) {
    TR_TRY(check_key("client_secret_key", remote.client_secret_key));
    TR_ASSIGN(const std::string derived, public_of(remote.client_secret_key));
    if (!remote.client_public_key.empty() && remote.client_public_key != derived) {
      return invalid(
          "client_public_key and client_secret_key are no pair: the secret one's public half is " +
          derived);
    }
    remote.client_public_key = derived;
  }
  if (remote.server_key.empty() &&
      !(remote.client_public_key.empty() && remote.client_secret_key.empty())) {
    return invalid("client keys are given without server_key: CURVE needs the server's public key");
  }
  if (remote.client_secret_key.empty() && !remote.client_public_key.empty()) {
    return invalid("client_public_key is given without client_secret_key");
  }
  return remote;
}

Result<ClientConfig> client_config(const std::string& endpoint, const EngineOptions& options) {
  ClientConfig config;
  config.endpoint = endpoint;
  config.name = std::string("libtroupe ") + build_id();
  for (const auto& [key, value] : options.extra) TR_TRY(apply(config, key, value));
  return config;
}

}  // namespace troupe::wire
