// troupe_engine_set_option: what may change while an engine is open. No CAF here.
#pragma once

#include <mutex>
#include <string>
#include <string_view>

#include "actors/cast.hpp"
#include "base/port.hpp"

namespace troupe::actors {

class LiveOptions {
 public:
  explicit LiveOptions(EngineOptions options) : options_(std::move(options)) {}

  // Takes effect for what comes later. A key that is fixed, or unknown, is refused as unsupported,
  // with the ones that are not; a bad value as invalid, with its bounds.
  Status set(Cast& cast, std::string_view key, std::string_view value);
  // The options in force, as one JSON object.
  [[nodiscard]] std::string json() const;
  [[nodiscard]] int32_t max_waiting() const;

 private:
  mutable std::mutex mutex_;
  EngineOptions options_;
};

// Settings that hold from the opening on go from `extra` to fields of their own: packed_weights.
Result<EngineOptions> take_opening_settings(EngineOptions options);

// Refuses what set() would refuse for its key, before there is an engine.
Status check_live_option(std::string_view key);

}  // namespace troupe::actors
