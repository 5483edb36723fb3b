// A picture as every processor takes it: 8-bit RGB, rows dense, top row first, upright (what EXIF
// says was applied), without alpha (laid over white).
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "vision/pixel_memory.hpp"

namespace troupe::vision {

// Leaves what resize() adds as it is: pixels are written once, by whoever makes them.
template <class T>
struct Uninitialised {
  using value_type = T;
  Uninitialised() = default;
  template <class U>
  explicit Uninitialised(const Uninitialised<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(allocate_pixels(count * sizeof(T))); }
  void deallocate(T* at, size_t count) { free_pixels(at, count * sizeof(T)); }
  template <class U>
  void construct(U* at) {
    ::new (static_cast<void*>(at)) U;
  }
  template <class U, class... Args>
  void construct(U* at, Args&&... args) {
    ::new (static_cast<void*>(at)) U(std::forward<Args>(args)...);
  }
  bool operator==(const Uninitialised&) const { return true; }
};
template <class T>
using Buffer = std::vector<T, Uninitialised<T>>;

struct Image {
  int32_t width = 0, height = 0;
  Buffer<uint8_t> rgb;  // height x width x 3
};

}  // namespace troupe::vision
