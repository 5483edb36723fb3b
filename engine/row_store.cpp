#include "engine/row_store.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace troupe::engine {
namespace {

constexpr size_t kIdleMost = size_t{256} << 20;
constexpr size_t kLeast = 4096;

// Sizes in eighths of a power of two: pictures of about the same size share memory.
size_t rounded(size_t bytes) {
  const size_t step = std::max(std::bit_floor(std::max(bytes, kLeast)) / 8, size_t{1});
  return (std::max(bytes, kLeast) + step - 1) / step * step;
}

}  // namespace

struct RowStore::Idle {
  std::shared_ptr<Backend> backend;  // goes last
  std::mutex mutex;
  std::multimap<size_t, std::unique_ptr<DeviceBuffer>> buffers;
  size_t bytes = 0;

  std::unique_ptr<DeviceBuffer> find(size_t size) {
    const std::lock_guard lock(mutex);
    const auto at = buffers.find(size);
    if (at == buffers.end()) return nullptr;
    bytes -= size;
    std::unique_ptr<DeviceBuffer> found = std::move(at->second);
    buffers.erase(at);
    return found;
  }
  void give_back(size_t size, std::unique_ptr<DeviceBuffer> buffer) {
    const std::lock_guard lock(mutex);
    bytes += size;
    buffers.emplace(size, std::move(buffer));
  }
  // Frees the largest until at most so many bytes are idle.
  void shrink(size_t most) {
    std::vector<std::unique_ptr<DeviceBuffer>> freed;  // behind the lock
    const std::lock_guard lock(mutex);
    while (bytes > most) {
      const auto last = std::prev(buffers.end());
      bytes -= last->first;
      freed.push_back(std::move(last->second));
      buffers.erase(last);
    }
  }
};

RowStore::RowStore(std::shared_ptr<Backend> backend)
    : backend_(std::move(backend)), idle_(std::make_shared<Idle>()) {
  idle_->backend = backend_;
}

Result<std::shared_ptr<DeviceBuffer>> RowStore::take(size_t bytes) {
  if (backend_->info().unified_memory) {
    TR_ASSIGN(auto buffer, backend_->allocate(bytes, "image rows"));
    return std::shared_ptr<DeviceBuffer>(std::move(buffer));
  }
  const size_t size = rounded(bytes);
  std::unique_ptr<DeviceBuffer> buffer = idle_->find(size);
  if (buffer == nullptr) {
    idle_->shrink(kIdleMost);
    auto made = backend_->allocate(size, "image rows");
    if (!made.ok()) {
      idle_->shrink(0);
      made = backend_->allocate(size, "image rows");
    }
    TR_TRY(made.status());
    buffer = std::move(made).value();
  }
  return std::shared_ptr<DeviceBuffer>(buffer.release(), [idle = idle_, size](DeviceBuffer* b) {
    idle->give_back(size, std::unique_ptr<DeviceBuffer>(b));
  });
}

}  // namespace troupe::engine
