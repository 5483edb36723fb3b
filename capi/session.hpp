// A session's handle: the id that the port gave, and the engine it belongs to.
#pragma once

#include <cstdint>
#include <memory>

#include "capi/engine_core.hpp"

struct troupe_session {
  std::shared_ptr<troupe::capi::EngineCore> core;
  uint64_t id = 0;
};
