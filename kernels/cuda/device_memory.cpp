#include "kernels/cuda/device_memory.hpp"

#include <algorithm>

namespace troupe::cuda {
namespace {

class Buffer final : public DeviceBuffer {
 public:
  Buffer(void* data, size_t bytes) : data_(data), bytes_(bytes) { cudaGetDevice(&device_); }
  ~Buffer() override { cudaFree(data_); }
  [[nodiscard]] void* data() const override { return data_; }
  [[nodiscard]] size_t bytes() const override { return bytes_; }
  Status read(void* host, size_t begin, size_t count) const override {
    cudaSetDevice(device_);
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
  cudaFree(data_);
}

Result<bool> DeviceArea::grow(size_t bytes, std::string_view what, bool zeroed) {
  if (bytes <= bytes_) return false;
  // Kernels in flight may still use the old memory: cudaFree waits for them.
  cudaFree(data_);
  data_ = nullptr;
  bytes_ = 0;
  const size_t size = std::max(bytes, kLeast);
  if (const cudaError_t e = cudaMalloc(&data_, size); e != cudaSuccess) {
    cudaGetLastError();
    data_ = nullptr;
    return status_of(e,
                     "allocating " + std::to_string(size >> 10) + " KiB for " + std::string(what));
  }
  bytes_ = size;
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
