// The one symbol of libtroupe_engine.so.
#include "actors/local_port.hpp"
#include "base/build_id.hpp"
#include "base/log.hpp"
#include "base/port.hpp"

extern "C" __attribute__((visibility("default"))) const troupe::EnginePlugin* troupe_engine_plugin();

const troupe::EnginePlugin* troupe_engine_plugin() {
  static const troupe::EnginePlugin plugin{
      .build_id = troupe::build_id(),
      .open = &troupe::actors::open_local_port,
      .inspect = &troupe::actors::inspect_folder,
      .set_log = &troupe::set_log_forward,
  };
  return &plugin;
}
