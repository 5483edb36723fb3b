// Which sessions are open, where callers' threads can look: a request in one that is not there is
// refused at the door. Written by the scheduler's actor alone; free of CAF.
#pragma once

#include <algorithm>
#include <cstdint>
#include <shared_mutex>
#include <utility>
#include <vector>

namespace troupe::actors {

class SessionList {
 public:
  [[nodiscard]] bool has(uint64_t id) const {
    const std::shared_lock lock(mutex_);
    return std::binary_search(ids_.begin(), ids_.end(), id);
  }
  // `ids` ascending.
  void replace(std::vector<uint64_t> ids) {
    const std::scoped_lock lock(mutex_);
    ids_ = std::move(ids);
  }

 private:
  mutable std::shared_mutex mutex_;
  std::vector<uint64_t> ids_;
};

}  // namespace troupe::actors
