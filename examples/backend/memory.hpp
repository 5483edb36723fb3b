// The memory of the device: a fixed amount of it, which allocations are taken from.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "kernels/backend.hpp"

namespace slate {

// Must live longer than the buffers it gave; it is shared with them for that.
class Memory : public std::enable_shared_from_this<Memory> {
 public:
  explicit Memory(uint64_t total) : total_(total) {}
  troupe::Result<std::unique_ptr<troupe::DeviceBuffer>> allocate(size_t bytes,
                                                                 std::string_view what);
  void give_back(size_t bytes) { used_ -= bytes; }
  [[nodiscard]] uint64_t total() const { return total_; }
  [[nodiscard]] uint64_t free() const { return total_ - used_; }

 private:
  const uint64_t total_;
  std::atomic<uint64_t> used_{0};
};

}  // namespace slate
