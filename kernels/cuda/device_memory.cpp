#include "kernels/cuda/device_memory.hpp"

#include <algorithm>
#include <array>
#include <atomic>

namespace troupe::cuda {
namespace {

constexpr size_t kDevicesMax = 64;
std::array<std::atomic<int64_t>, kDevicesMax> held = {};

void note_held(int device, int64_t bytes) {
  if (device >= 0 && static_cast<size_t>(device) < kDevicesMax)
    held[static_cast<size_t>(device)].fetch_add(bytes, std::memory_order_relaxed);
}

class Buffer final : public DeviceBuffer {
 public:
  Buffer(void* data, size_t bytes) : data_(data), bytes_(bytes) {
    cudaGetDevice(&device_);
    note_held(device_, static_cast<int64_t>(bytes_));
  }
  ~Buffer() override {
    cudaFree(data_);
    note_held(device_, -static_cast<int64_t>(bytes_));
  }
  [[nodiscard]] void* data() const override { return data_; }
  [[nodiscard]] size_t bytes() const override { return bytes_; }
  Status read(void* host, size_t begin, size_t count) const override {
    use_device(device_);
    return status_of(cudaMemcpy(host, static_cast<const std::byte*>(data_) + begin, count,
                                cudaMemcpyDeviceToHost),
                     "reading device memory");
  }

 private:
  void* data_;
  size_t bytes_;
  int device_ = 0;
};

constexpr size_t kLeast = 256;

}  // namespace

Status status_of(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return ok_status();
  const std::string message =
      std::string(what) + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")";
  return {error == cudaErrorMemoryAllocation ? Code::out_of_memory : Code::device_failed, message};
}

cudaError_t use_device(int device) {
  static thread_local int used = -1;
  if (used == device) return cudaSuccess;
  const cudaError_t status = cudaSetDevice(device);
  used = status == cudaSuccess ? device : -1;
  return status;
}

int64_t device_bytes_used() {
  size_t free = 0, total = 0;
  return cudaMemGetInfo(&free, &total) == cudaSuccess ? static_cast<int64_t>(total - free) : 0;
}

int64_t device_bytes_held(int device) {
  return device >= 0 && static_cast<size_t>(device) < kDevicesMax
             ? held[static_cast<size_t>(device)].load(std::memory_order_relaxed)
             : 0;
}

Result<std::unique_ptr<DeviceBuffer>> allocate_device(size_t bytes, std::string_view what) {
  void* data = nullptr;
  const size_t size = std::max(bytes, kLeast);
  if (const cudaError_t e = cudaMalloc(&data, size); e != cudaSuccess) {
    cudaGetLastError();  // an allocation that failed is not sticky
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    return status_of(e, "allocating " + std::to_string(bytes >> 20) + " MiB for " +
                            std::string(what) + " (" + std::to_string(free >> 20) +
                            " MiB are free)");
  }
  return std::unique_ptr<DeviceBuffer>(new Buffer(data, bytes));
}

DeviceArea::~DeviceArea() {
  release();
}

void DeviceArea::release() {
  cudaFree(data_);
  note_held(device_, -static_cast<int64_t>(bytes_));
  data_ = nullptr;
  bytes_ = 0;
}

Result<bool> DeviceArea::grow(size_t bytes, std::string_view what, bool zeroed) {
  if (bytes <= bytes_) return false;
  // Kernels in flight may still use the old memory: cudaFree waits for them.
  release();
  cudaGetDevice(&device_);
  const size_t size = std::max(bytes, kLeast);
  if (const cudaError_t e = cudaMalloc(&data_, size); e != cudaSuccess) {
    cudaGetLastError();
    data_ = nullptr;
    return status_of(e,
                     "allocating " + std::to_string(size >> 10) + " KiB for " + std::string(what));
  }
  bytes_ = size;
  note_held(device_, static_cast<int64_t>(size));
  if (zeroed) {
    TR_TRY(status_of(cudaMemset(data_, 0, size), what));
    TR_TRY(status_of(cudaStreamSynchronize(nullptr), what));
  }
  return true;
}

PinnedArea::~PinnedArea() {
  cudaFreeHost(data_);
}

Status PinnedArea::grow(size_t bytes, std::string_view what) {
  if (bytes <= bytes_) return ok_status();
  cudaFreeHost(data_);
  data_ = nullptr;
  bytes_ = 0;
  const size_t size = std::max(bytes * 3 / 2, kLeast);
  TR_TRY(status_of(cudaMallocHost(&data_, size), what));
  bytes_ = size;
  return ok_status();
}

}  // namespace troupe::cuda
