#include <memory>
#include <string>

#include "capi/engine_core.hpp"
#include "capi/error.hpp"
#include "capi/options.hpp"

// The server goes before the engine it serves.
struct troupe_server {
  std::shared_ptr<troupe::capi::EngineCore> core;
  std::unique_ptr<troupe::ServerPort> port;
  std::string endpoint;
};

using troupe::Status;
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

void troupe_server_free(troupe_server* server) {
  guard_void([&] { delete server; });
}
}
