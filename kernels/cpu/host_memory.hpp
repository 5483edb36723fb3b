// Host memory as a backend sees it: owned buffers, and how much this process may use.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/status.hpp"
#include "kernels/backend.hpp"

namespace troupe::cpu {

// Cache-line aligned. Zeroed, lazily where the system can: untouched pages cost nothing.
Result<std::unique_ptr<DeviceBuffer>> allocate_host(size_t bytes, std::string_view what);

struct HostMemory {
  uint64_t total = 0;
  uint64_t free = 0;
};
// The machine's memory, or the cgroup's where that is less.
HostMemory host_memory();

// "AMD EPYC 7B13, 2 threads": for people.
std::string processor_name();

}  // namespace troupe::cpu
