// Per-head products of few rows (latent attention's way into the latent space and out of it): bound
// by how fast a block gets its outputs' weights, so every thread has many loads under way.
#include <type_traits>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/portable_gemm.hpp"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"

namespace troupe::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kByRows = 16, kByColumns = 64;  // outputs of a block
constexpr int kInnerMax = 1024;

struct View {
  Matrix input, weight, output;
  int n = 0, k = 0;  // of one head
};

// weight[n, k]: a warp an output, then another; their weights are asked for before the kernels in
// front have ended.
template <class T>
struct RowWeights {
  static constexpr int kEach = kByRows / kWarps, kPieces = kInnerMax / 8 / 32;
  uint4 bits[kEach][kPieces];
  __device__ __forceinline__ static int output(int i) {
    return static_cast<int>(blockIdx.x) * kByRows + i * kWarps + static_cast<int>(threadIdx.x) / 32;
  }
  __device__ __forceinline__ void load(const View& v, const T* weight) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const auto* row = reinterpret_cast<const uint4*>(weight + output(i) * v.weight.stride);
#pragma unroll
      for (int j = 0; j < kPieces; ++j) {
        const int c = j * 32 + static_cast<int>(threadIdx.x) % 32;
        if (output(i) < v.n && c < v.k / 8) bits[i][j] = row[c];
      }
    }
  }
  __device__ __forceinline__ void multiply(const View& v, const T*, const float* x, T* to) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      float sum = 0.0F;
#pragma unroll
      for (int j = 0; j < kPieces; ++j) {
        const int c = j * 32 + lane;
        if (c >= v.k / 8) continue;
        const T* w = reinterpret_cast<const T*>(&bits[i][j]);
#pragma unroll
        for (int e = 0; e < 8; ++e) sum += to_float(w[e]) * x[c * 8 + e];
      }
      sum = ptx::warp_sum(sum);
      if (lane == 0 && output(i) < v.n) to[output(i)] = from_float<T>(sum);
    }
  }
};

// weight[k, n]: a lane two neighbouring outputs, a warp every eighth of k; the first of these are
// asked for before the kernels in front have ended.
template <class T>
struct ColumnWeights {
  static constexpr int kEarly = 16;
  uint32_t bits[kEarly];
  __device__ __forceinline__ static int output() {
    return static_cast<int>(blockIdx.x) * kByColumns + static_cast<int>(threadIdx.x) % 32 * 2;
  }
  __device__ __forceinline__ static uint32_t at(const View& v, const T* weight, int k) {
    return *reinterpret_cast<const uint32_t*>(weight + k * v.weight.stride + output());
  }
  __device__ __forceinline__ void load(const View& v, const T* weight) {
#pragma unroll
    for (int i = 0; i < kEarly; ++i) {
      const int k = i * kWarps + static_cast<int>(threadIdx.x) / 32;
      bits[i] = output() < v.n && k < v.k ? at(v, weight, k) : 0;
    }
  }
  __device__ __forceinline__ void multiply(const View& v, const T* weight, const float* x,
                                           T* to) const {
    __shared__ float parts[kWarps][kByColumns];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float sum[2] = {};
    const auto add = [&](uint32_t two, int k) {
      const T* w = reinterpret_cast<const T*>(&two);
      sum[0] += to_float(w[0]) * x[k];
      sum[1] += to_float(w[1]) * x[k];
    };
#pragma unroll
    for (int i = 0; i < kEarly; ++i) {
      if (i * kWarps + warp < v.k) add(bits[i], i * kWarps + warp);
    }
    if (output() < v.n) {
#pragma unroll 16
      for (int k = kEarly * kWarps + warp; k < v.k; k += kWarps) add(at(v, weight, k), k);
    }
    parts[warp][lane * 2] = sum[0];
    parts[warp][lane * 2 + 1] = sum[1];
    __syncthreads();
    const int mine = static_cast<int>(blockIdx.x) * kByColumns + static_cast<int>(threadIdx.x);
    if (threadIdx.x >= kByColumns || mine >= v.n) return;
    float all = 0.0F;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) all += parts[w][threadIdx.x];
    to[mine] = from_float<T>(all);
  }
};

template <class T, bool kTransposed>
__global__ void __launch_bounds__(kWarps * 32) head_rows_kernel(const __grid_constant__ View v) {
  __shared__ float x[kInnerMax];
  ptx::let_next_kernel_start();
  const int64_t head = blockIdx.y, row = blockIdx.z;
  const T* weight =
      static_cast<const T*>(v.weight.data) + head * (kTransposed ? v.k : v.n) * v.weight.stride;
  std::conditional_t<kTransposed, ColumnWeights<T>, RowWeights<T>> early;
  early.load(v, weight);
  ptx::wait_for_earlier_kernels();
  const T* input = static_cast<const T*>(v.input.data) + row * v.input.stride + head * v.k;
  for (int i = threadIdx.x; i < v.k; i += kWarps * 32) x[i] = to_float(input[i]);
  __syncthreads();
  T* to = static_cast<T*>(v.output.data) + row * v.output.stride + head * v.n;
  early.multiply(v, weight, x, to);
}

template <class T>
cudaError_t run(const HeadGemm& a, cudaStream_t stream) {
  const View v = {a.input, a.weight, a.output, static_cast<int>(a.output.cols / a.heads),
                  static_cast<int>(a.input.cols / a.heads)};
  const int outputs = a.transposed ? kByColumns : kByRows;
  const LaunchShape shape = {
      dim3(static_cast<unsigned>((v.n + outputs - 1) / outputs), static_cast<unsigned>(a.heads),
           static_cast<unsigned>(a.input.rows)),
      dim3(kWarps * 32)};
  return a.transposed ? launch(head_rows_kernel<T, true>, shape, stream, v)
                      : launch(head_rows_kernel<T, false>, shape, stream, v);
}

}  // namespace

bool head_rows_fits(const HeadGemm& a) {
  if (a.heads == 0 || a.input.rows == 0 || a.input.rows > kHeadRowsMax ||
      a.weight.dtype == DType::f32)
    return false;
  const int64_t n = a.output.cols / a.heads, k = a.input.cols / a.heads;
  return k <= kInnerMax && k % 8 == 0 && n % 2 == 0 && a.weight.stride % 8 == 0 &&
         a.input.dtype == a.weight.dtype && a.output.dtype == a.weight.dtype &&
         reinterpret_cast<uintptr_t>(a.weight.data) % 16 == 0;
}

cudaError_t head_rows(const HeadGemm& a, cudaStream_t stream) {
  return a.weight.dtype == DType::f16 ? run<__half>(a, stream) : run<__nv_bfloat16>(a, stream);
}

}  // namespace troupe::cuda
