// What the chip gives right now, for benches that set their ops beside it: reading, copying, and
// products of bf16. Beside each stands its share of what a rested H200 gave.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/gpu/large_gemm.hpp"
#include "bench/gpu/measure.cuh"

namespace troupe::bench {

struct Ceilings {
  double read = 0, gemm = 0;  // bytes and operations a second
};

static __global__ void read_kernel(const uint4* in, size_t count, uint32_t* out) {
  uint32_t x = 0;
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
  for (; i + 3 * stride < count; i += 4 * stride) {
    const uint4 a = __ldcs(in + i), b = __ldcs(in + i + stride), c = __ldcs(in + i + 2 * stride),
                d = __ldcs(in + i + 3 * stride);
    x ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^
         d.w;
  }
  if (x == 0x12345678) *out = x;
}

inline Ceilings measure_ceilings(Report& report, cudaStream_t stream) {
  constexpr double kRead = 4.43e12, kCopy = 4.25e12, kGemm = 787e12;
  cudaDeviceProp device = {};
  BENCH_CUDA(cudaGetDeviceProperties(&device, 0));
  const size_t bytes = size_t{4} << 30;
  const Memory data = Memory::random(bytes / 2, 1.0F, 1), out = Memory::zeros(bytes / 2);
  Ceilings found;
  for (const int blocks : {8, 16, 32}) {
    const double us = microseconds(stream, 1, [&](int) {
      read_kernel<<<static_cast<unsigned>(device.multiProcessorCount * blocks), 256, 0, stream>>>(
          data.as<uint4>(), bytes / 16, out.as<uint32_t>());
    });
    found.read = std::max(found.read, static_cast<double>(bytes) / (us * 1e-6));
    report.add({"ceiling: read 4 GiB, " + std::to_string(blocks) + " blocks/SM", us,
                static_cast<double>(bytes), true, kRead});
  }
  const double copy = microseconds(stream, 1, [&](int) {
    cudaMemcpyAsync(out.as(), data.as(), bytes / 2, cudaMemcpyDeviceToDevice, stream);
  });
  report.add({"ceiling: copy 2 GiB", copy, static_cast<double>(bytes), true, kCopy});
  LargeGemm gemm;
  const int n = 8192;
  const double operations = 2.0 * n * n * n;
  const double us = microseconds(stream, 3, [&](int) {
    gemm.multiply(n, n, n, data.as(), data.as<char>() + (size_t{1} << 30), out.as(), stream);
  });
  found.gemm = operations / (us * 1e-6);
  report.add({"ceiling: bf16 GEMM 8192 (cuBLASLt)", us, operations, false, kGemm});
  return found;
}

// What a bench of single kernels has: a stream on the device, what the chip gives, and its report.
struct DeviceBench {
  cudaStream_t stream = nullptr;
  int sms = 0;
  Ceilings ceilings;
  Report report;

  void open() {
    cudaDeviceProp device = {};
    BENCH_CUDA(cudaGetDeviceProperties(&device, 0));
    sms = device.multiProcessorCount;
    std::printf("%s, %d multiprocessors\n", device.name, sms);
    BENCH_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    ceilings = measure_ceilings(report, stream);
  }
};

// The rows that a command line names behind the JSON file.
inline std::vector<int> rows_of(int argc, char** argv, std::vector<int> by_default) {
  std::vector<int> rows;
  for (int i = 2; i < argc; ++i) rows.push_back(std::atoi(argv[i]));
  return rows.empty() ? by_default : rows;
}

}  // namespace troupe::bench
