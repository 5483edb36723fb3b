// What the kernels' own tests share: device arrays, 16-bit numbers on the host, seeded values.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/tensor.hpp"

namespace troupe::cuda::testing {

#define TR_CUDA_OK(expr) ASSERT_EQ(cudaSuccess, (expr)) << cudaGetErrorString(cudaGetLastError())

// Tests of this folder begin with one of these: no GPU is a skip that says so.
#define TR_NEEDS_DEVICE()                                              \
  do {                                                                 \
    int devices_ = 0;                                                  \
    if (cudaGetDeviceCount(&devices_) != cudaSuccess || devices_ == 0) \
      GTEST_SKIP() << "no CUDA device on this machine";                \
  } while (false)
#define TR_NEEDS_SM90()                                                                     \
  do {                                                                                      \
    TR_NEEDS_DEVICE();                                                                      \
    if (!runs_hopper_code()) GTEST_SKIP() << "a kernel of sm_90a, which does not run here"; \
  } while (false)

inline uint16_t to_bits(float x, DType t) {
  if (t == DType::bf16) {
    const uint32_t u = std::bit_cast<uint32_t>(x);
    return static_cast<uint16_t>((u + 0x7FFF + ((u >> 16) & 1)) >> 16);
  }
  return std::bit_cast<uint16_t>(static_cast<_Float16>(x));
}
inline float from_bits(uint16_t b, DType t) {
  if (t == DType::bf16) return std::bit_cast<float>(static_cast<uint32_t>(b) << 16);
  return static_cast<float>(std::bit_cast<_Float16>(b));
}

template <class T>
class OnDevice {
 public:
  explicit OnDevice(size_t count) : count_(count) {
    if (cudaMalloc(&data_, std::max<size_t>(count, 1) * sizeof(T)) != cudaSuccess) data_ = nullptr;
    if (data_ != nullptr) cudaMemset(data_, 0xFF, count * sizeof(T));  // NaNs where nobody writes
  }
  explicit OnDevice(const std::vector<T>& from) : OnDevice(from.size()) {
    cudaMemcpy(data_, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice);
  }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  [[nodiscard]] T* get() const { return data_; }
  void zero() { cudaMemset(data_, 0, count_ * sizeof(T)); }
  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> out(count_);
    cudaMemcpy(out.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost);
    return out;
  }

 private:
  size_t count_;
  T* data_ = nullptr;
};

// Values that the 16-bit type holds exactly, so that the reference sees what the kernel sees.
inline std::vector<float> random_values(size_t count, float spread, DType t, std::mt19937& rng) {
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> out(count);
  for (float& x : out) x = from_bits(to_bits(normal(rng), t), t);
  return out;
}
inline std::vector<uint16_t> packed(const std::vector<float>& values, DType t) {
  std::vector<uint16_t> out(values.size());
  std::transform(values.begin(), values.end(), out.begin(), [t](float x) { return to_bits(x, t); });
  return out;
}

// ||a - b|| / ||b||; NaN when anything is.
inline double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    size += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(difference / std::max(size, 1e-30));
}

}  // namespace troupe::cuda::testing
