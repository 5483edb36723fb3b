// The server's entry points, and the keys that it and its clients need.
#include <cstring>
#include <memory>
#include <string>

#include "capi/engine_core.hpp"
#include "capi/error.hpp"
#include "capi/options.hpp"
#include "capi/patience.hpp"
#include "capi/signals.hpp"
#include "wire/endpoint.hpp"

// The server goes before the engine it serves.
struct troupe_server {
  std::shared_ptr<troupe::capi::EngineCore> core;
  std::unique_ptr<troupe::ServerPort> port;
  std::string endpoint;
};

using troupe::Status;
using troupe::capi::guard;
using troupe::capi::guard_out;
using troupe::capi::guard_void;

extern "C" {

troupe_error* troupe_server_open(troupe_engine* engine, const char* bind,
                                 const troupe_server_options* options, troupe_server** out) {
  return guard_out(out, [&]() -> Status {
    TR_NEED(engine);
    TR_NEED(bind);
    TR_ASSIGN(const troupe::ServerOptions read, troupe::capi::server_options(options));
    TR_ASSIGN(std::shared_ptr<troupe::EnginePort> port, engine->core->port());
    const troupe::EnginePlugin* const plugin = engine->core->plugin();
    if (plugin == nullptr || plugin->serve == nullptr) {
      return troupe::unsupported("engine " + engine->core->endpoint() + " cannot serve " + bind +
                                 ": only an engine in this process can, in a build with the wire "
                                 "server (TROUPE_CAN_SERVE)");
    }
    const troupe::capi::SignalsBlocked blocked;  // its threads take none
    auto server = std::make_unique<troupe_server>();
    server->core = engine->core;
    TR_ASSIGN(server->port, plugin->serve(std::move(port), bind, read));
    server->endpoint = server->port->endpoint();
    *out = server.release();
    return {};
  });
}

const char* troupe_server_endpoint(const troupe_server* server) {
  return server == nullptr ? "" : server->endpoint.c_str();
}

troupe_error* troupe_server_close(troupe_server* server, int64_t drain_ns) {
  return guard([&]() -> Status {
    TR_NEED(server);
    return server->port->close(troupe::capi::patience_ns(drain_ns));
  });
}

troupe_error* troupe_keygen(char* public_key, char* secret_key) {
  return guard([&]() -> Status {
    TR_NEED(public_key);
    TR_NEED(secret_key);
    TR_ASSIGN(const auto pair, troupe::wire::make_keys());
    std::memcpy(public_key, pair.first.c_str(), TROUPE_KEY_SIZE);
    std::memcpy(secret_key, pair.second.c_str(), TROUPE_KEY_SIZE);
    return {};
  });
}

void troupe_server_free(troupe_server* server) {
  guard_void([&] { delete server; });
}
}
