// Payloads that come back: what one actor drops, another fills again, so that a step allocates no
// large vectors (whose freeing makes the allocator tidy up all its small ones).
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace troupe::actors {

// T has clear(), which keeps its capacity. Thread-safe; payloads may outlive it.
template <class T>
class Recycler {
 public:
  std::shared_ptr<T> take() {
    std::unique_ptr<T> item;
    {
      const std::scoped_lock lock(shelf_->mutex);
      if (!shelf_->items.empty()) {
        item = std::move(shelf_->items.back());
        shelf_->items.pop_back();
      }
    }
    if (item == nullptr) item = std::make_unique<T>();
    return {item.release(), [shelf = shelf_](T* dropped) {
              std::unique_ptr<T> back(dropped);
              back->clear();
              const std::scoped_lock lock(shelf->mutex);
              if (shelf->items.size() < kKept) shelf->items.push_back(std::move(back));
            }};
  }
  // Those on the shelf go.
  void clear() {
    const std::scoped_lock lock(shelf_->mutex);
    shelf_->items.clear();
  }

 private:
  static constexpr size_t kKept = 8;
  struct Shelf {
    std::mutex mutex;
    std::vector<std::unique_ptr<T>> items;
  };
  const std::shared_ptr<Shelf> shelf_ = std::make_shared<Shelf>();
};

}  // namespace troupe::actors
