// A refusal by the engine, which speaks of troupe.h, in the words of the request that it refuses.
#pragma once

#include "capi/troupe.h"
#include "openai/call.hpp"
#include "openai/error.hpp"

namespace troupe::openai {

// With the request's field as param, where the message says which it is. Does not take ownership.
ApiError refusal_of(const troupe_error* error, Endpoint endpoint);

}  // namespace troupe::openai
