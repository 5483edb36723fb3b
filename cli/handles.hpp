// Owners for the handles of troupe.h, and an error as text.
#pragma once

#include <memory>
#include <string>

#include "capi/troupe.h"

namespace troupe::cli {

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* handle) const {
    Free(handle);
  }
};

using Engine = std::unique_ptr<troupe_engine, Freer<troupe_engine_free>>;
using Queue = std::unique_ptr<troupe_queue, Freer<troupe_queue_free>>;
using Request = std::unique_ptr<troupe_request, Freer<troupe_request_free>>;
using Events = std::unique_ptr<troupe_events, Freer<troupe_events_free>>;
using Bytes = std::unique_ptr<troupe_bytes, Freer<troupe_bytes_free>>;
using Error = std::unique_ptr<troupe_error, Freer<troupe_error_free>>;

// "CORRUPT_MODEL: config.json: …"; fields of troupe.h by the flags that set them.
std::string text_of(const troupe_error* error);

}  // namespace troupe::cli
