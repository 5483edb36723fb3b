// What a backend may tell of itself beside its ops: where the device's memory went, and how long
// the host stood still for it. Asked for by dynamic_cast; a backend without it is as good.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace troupe {

// Device memory by what took it: "context", "modules", "graphs", "packed_weights" (copies beside the
// plain ones, packed_weights.hpp), "allocated" (all else).
struct MemoryShare {
  std::string what;
  int64_t bytes = 0;
};

class DeviceAccount {
 public:
  virtual ~DeviceAccount() = default;
  [[nodiscard]] virtual std::vector<MemoryShare> memory_shares() const = 0;  // now
  [[nodiscard]] virtual int64_t waited_ns() const = 0;  // so far
  // Host's time so far for recording passes, which is spent once for a shape.
  [[nodiscard]] virtual int64_t recorded_ns() const { return 0; }
};

}  // namespace troupe
