// Slab: places of one size, side by side. What steady decoding touches of hundreds of requests is a
// line here and a line there; in pages of their own each of them costs a look-up of its page too.
//
// Thread-safe. A place knows its slab, so give() needs nothing else. When nobody is left, the room of
// a crowd goes back to the heap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "base/assert.hpp"

namespace troupe::engine {

class Slab {
 public:
  Slab() = default;
  ~Slab() {
    for (Chunk* chunk : chunks_) std::free(chunk);
  }
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  // A place for `bytes`, aligned to a line; every call asks for as many.
  void* take(size_t bytes) {
    const std::scoped_lock lock(mutex_);
    if (free_.empty()) grow(bytes);
    ++taken_;
    void* const place = free_.back();
    free_.pop_back();
    return place;
  }
  static void give(void* place) {
    const auto chunk = reinterpret_cast<uintptr_t>(place) & ~uintptr_t{kChunkBytes - 1};
    reinterpret_cast<Chunk*>(chunk)->slab->take_back(place);
  }

 private:
  static constexpr size_t kChunkBytes = 16384, kLine = 64;
  struct Chunk {
    Slab* slab;
  };

  void grow(size_t bytes) {
    const size_t size = (bytes + kLine - 1) / kLine * kLine;
    TR_ASSERT(place_bytes_ == 0 || place_bytes_ == size);
    TR_ASSERT(size <= kChunkBytes - kLine);
    place_bytes_ = size;
    auto* const room = static_cast<std::byte*>(std::aligned_alloc(kChunkBytes, kChunkBytes));
    if (room == nullptr) throw std::bad_alloc();
    chunks_.push_back(new (room) Chunk{this});
    for (size_t place = (kChunkBytes - kLine) / size; place-- > 0;) free_.push_back(room + kLine + place * size);
  }
  void take_back(void* place) {
    const std::scoped_lock lock(mutex_);
    free_.push_back(place);
    if (--taken_ > 0 || chunks_.size() <= 1) return;
    for (Chunk* chunk : chunks_) std::free(chunk);
    chunks_ = {};
    free_ = {};
  }

  std::mutex mutex_;
  std::vector<Chunk*> chunks_;
  std::vector<void*> free_;
  size_t place_bytes_ = 0, taken_ = 0;
};

// For std::allocate_shared.
template <class T>
class SlabAllocator {
 public:
  using value_type = T;
  explicit SlabAllocator(std::shared_ptr<Slab> slab) : slab_(std::move(slab)) {}
  template <class U>
  SlabAllocator(const SlabAllocator<U>& other) : slab_(other.slab()) {}  // NOLINT: as allocators convert

  T* allocate(size_t count) {
    static_assert(alignof(T) <= 64);
    TR_ASSERT(count == 1);
    return static_cast<T*>(slab_->take(sizeof(T)));
  }
  void deallocate(T* place, size_t) { Slab::give(place); }
  [[nodiscard]] const std::shared_ptr<Slab>& slab() const { return slab_; }
  friend bool operator==(const SlabAllocator& a, const SlabAllocator& b) { return a.slab_ == b.slab_; }

 private:
  std::shared_ptr<Slab> slab_;
};

}  // namespace troupe::engine
