// Device memory with an owner, pinned host memory, and CUDA's errors as Status.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/status.hpp"
#include "kernels/backend.hpp"

namespace troupe::cuda {

// A failed call as a Status that names it; out of memory and lost devices have codes of their own.
Status status_of(cudaError_t error, std::string_view what);

// Makes a device the thread's. Nobody here does it in another way.
cudaError_t use_device(int device);

// What is in use on the thread's device, by anybody.
int64_t device_bytes_used();
// What this process has allocated on a device through this file.
int64_t device_bytes_held(int device);

Result<std::unique_ptr<DeviceBuffer>> allocate_device(size_t bytes, std::string_view what);

// Grows and never shrinks. `grow` says whether the memory moved: who holds addresses must look.
class DeviceArea {
 public:
  ~DeviceArea();
  DeviceArea() = default;
  DeviceArea(const DeviceArea&) = delete;
  DeviceArea& operator=(const DeviceArea&) = delete;
  Result<bool> grow(size_t bytes, std::string_view what, bool zeroed = false);
  template <class T = void>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(data_);
  }
  [[nodiscard]] size_t bytes() const { return bytes_; }

 private:
  void release();
  void* data_ = nullptr;
  size_t bytes_ = 0;
  int device_ = 0;
};

class PinnedArea {
 public:
  ~PinnedArea();
  PinnedArea() = default;
  PinnedArea(const PinnedArea&) = delete;
  PinnedArea& operator=(const PinnedArea&) = delete;
  Status grow(size_t bytes, std::string_view what);
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(data_); }
  [[nodiscard]] size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace troupe::cuda
