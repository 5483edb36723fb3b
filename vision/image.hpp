// A picture as every processor takes it: 8-bit RGB, rows dense, top row first, upright (what EXIF
// says was applied), without alpha (laid over white).
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace troupe::vision {

// Leaves what resize() adds as it is: pixels are written once, by whoever makes them.
template <class T>
struct Uninitialised : std::allocator<T> {
  template <class U>
  struct rebind {
    using other = Uninitialised<U>;
  };
  template <class U>
  void construct(U* at) {
    ::new (static_cast<void*>(at)) U;
  }
  template <class U, class... Args>
  void construct(U* at, Args&&... args) {
    ::new (static_cast<void*>(at)) U(std::forward<Args>(args)...);
  }
};
template <class T>
using Buffer = std::vector<T, Uninitialised<T>>;

struct Image {
  int32_t width = 0, height = 0;
  Buffer<uint8_t> rgb;  // height x width x 3
};

}  // namespace troupe::vision
