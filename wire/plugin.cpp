// The one symbol of libtroupe_engine.so: the cast, and the wire server in front of it.
#include "actors/local_port.hpp"
#include "base/build_id.hpp"
#include "base/log.hpp"
#include "base/port.hpp"
#include "wire/server.hpp"

extern "C" __attribute__((visibility("default"))) const troupe::EnginePlugin*
troupe_engine_plugin();

const troupe::EnginePlugin* troupe_engine_plugin() {
  static const troupe::EnginePlugin plugin{
      .build_id = troupe::build_id(),
      .open = &troupe::actors::open_local_port,
      .inspect = &troupe::actors::inspect_folder,
      .set_log = &troupe::set_log_forward,
      .serve = &troupe::wire::serve,
  };
  return &plugin;
}
