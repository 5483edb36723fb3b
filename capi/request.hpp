// The request builder behind troupe_request.
#pragma once

#include <memory>

#include "base/request.hpp"
#include "capi/engine_core.hpp"

struct troupe_request {
  troupe::Request request;
  std::shared_ptr<troupe::capi::EngineCore> session_engine;  // whose session it continues
};

namespace troupe::capi {

// The request as the port wants it, checked as a whole.
Result<Request> snapshot(const troupe_request& request, const EngineCore& engine);

}  // namespace troupe::capi
