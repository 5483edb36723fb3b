// What the GPU benches share: seeded device memory, graph timing, and lines for people and JSON.
//
// A measurement captures `launches` calls into a graph (so that launches overlap as they do in a
// decode step), replays it, and gives the median time of one call. Weights rotate through more
// memory than L2 holds; data is random, since zeros run faster than life.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace troupe::bench {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
  std::exit(1);
}
#define BENCH_CUDA(expr) ::troupe::bench::check((expr), #expr)

// Roughly normal values of the given spread, from a counter hash.
static __global__ void fill_kernel(__nv_bfloat16* out, size_t count, float spread, uint32_t seed) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < count;
       i += stride) {
    uint64_t z = (i + 1) * 0x9E3779B97F4A7C15ULL + seed * 0xD1B54A32D192ED03ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    z ^= z >> 31;
    float sum = 0;  // four uniform values: variance 1/3
    for (int k = 0; k < 4; ++k) sum += static_cast<float>(z >> (16 * k) & 0xFFFF) / 65536.0F - 0.5F;
    out[i] = __float2bfloat16(sum * 1.7320508F * spread);
  }
}

class Memory {
 public:
  explicit Memory(size_t bytes) : bytes_(bytes) { BENCH_CUDA(cudaMalloc(&data_, bytes)); }
  static Memory random(size_t elements, float spread, uint32_t seed) {
    Memory m(elements * 2);
    fill_kernel<<<1056, 256>>>(m.as<__nv_bfloat16>(), elements, spread, seed);
    BENCH_CUDA(cudaGetLastError());
    return m;
  }
  static Memory zeros(size_t bytes) {
    Memory m(bytes);
    BENCH_CUDA(cudaMemset(m.data_, 0, bytes));
    return m;
  }
  template <class T>
  static Memory copy(const std::vector<T>& from) {
    Memory m(std::max<size_t>(from.size() * sizeof(T), 16));
    BENCH_CUDA(cudaMemcpy(m.data_, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
    return m;
  }
  ~Memory() { cudaFree(data_); }
  Memory(Memory&& other) noexcept : data_(other.data_), bytes_(other.bytes_) {
    other.data_ = nullptr;
  }
  Memory& operator=(Memory&&) = delete;
  template <class T = void>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

// Median microseconds of one call of `op(i)`, i counting the calls.
template <class Op>
double microseconds(cudaStream_t stream, int launches, const Op& op, int replays = 7) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  op(0);  // outside capture: modules load, algorithms are chosen
  BENCH_CUDA(cudaStreamSynchronize(stream));
  BENCH_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) op(i);
  BENCH_CUDA(cudaStreamEndCapture(stream, &graph));
  BENCH_CUDA(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t begin, end;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  std::vector<float> times;
  for (int r = 0; r < replays + 2; ++r) {
    BENCH_CUDA(cudaEventRecord(begin, stream));
    BENCH_CUDA(cudaGraphLaunch(exec, stream));
    BENCH_CUDA(cudaEventRecord(end, stream));
    BENCH_CUDA(cudaEventSynchronize(end));
    float ms = 0;
    cudaEventElapsedTime(&ms, begin, end);
    if (r >= 2) times.push_back(ms);
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(times.begin(), times.end());
  return 1000.0 * times[times.size() / 2] / launches;
}

// One line of the table and of the JSON block.
struct Line {
  std::string what;
  double us = 0, amount = 0;  // bytes or operations of one call
  bool bytes = true;
  double ceiling = 0;  // per second
};

class Report {
 public:
  void add(const Line& l) {
    const double rate = l.amount / (l.us * 1e-6);
    if (l.amount > 0) {
      std::printf("%-58s %10.2f us  %8.3f %s  %5.1f %%\n", l.what.c_str(), l.us, rate / 1e12,
                  l.bytes ? "TB/s   " : "TFLOP/s", l.ceiling > 0 ? 100.0 * rate / l.ceiling : 0.0);
    } else {
      std::printf("%-58s %10.2f us\n", l.what.c_str(), l.us);
    }
    std::fflush(stdout);
    char entry[512];
    std::snprintf(entry, sizeof entry,
                  "%s\n  {\"what\": \"%s\", \"us\": %.3f, \"%s\": %.4g, \"of_ceiling\": %.4f}",
                  json_.empty() ? "" : ",", l.what.c_str(), l.us,
                  l.bytes ? "bytes_per_s" : "flop_per_s", rate,
                  l.ceiling > 0 ? rate / l.ceiling : 0.0);
    json_ += entry;
  }
  void write(const char* path) const {
    if (path == nullptr) return;
    if (FILE* f = std::fopen(path, "w")) {
      std::fprintf(f, "[%s\n]\n", json_.c_str());
      std::fclose(f);
    }
  }

 private:
  std::string json_;
};

}  // namespace troupe::bench
