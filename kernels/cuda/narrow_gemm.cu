// A weight so small that warps hold its rows in registers: asked for before the kernels in front
// have ended, so that behind them nothing is left but the input and one sum.
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/narrow_gemm.hpp"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"

namespace troupe::cuda {
namespace {

constexpr int kWarps = 4, kRowsMost = 8;
constexpr int kPieces = 8;  // of 16 bytes of a row of the weight, a lane's
constexpr int kWarpDepth = kPieces * 32 * 8;  // elements
// More are worth kernels that read them in turns.
constexpr int64_t kOutputsMost = 1024, kElementsMost = int64_t{2} << 20;

// kWays warps share a row of the weight.
template <class T, int kWays>
__global__ void __launch_bounds__(kWarps * 32, 4)
    narrow_kernel(const __grid_constant__ GemmOperands p) {
  __shared__ float parts[kRowsMost][kWarps];
  ptx::let_next_kernel_start();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int output = (static_cast<int>(blockIdx.x) * kWarps + warp) / kWays;
  const bool there = output < p.n;
  const int first = warp % kWays * (kWarpDepth / 8) + lane, pieces = p.k / 8;
  const auto* row = reinterpret_cast<const uint4*>(static_cast<const T*>(p.weight) +
                                                   int64_t{there ? output : 0} * p.k);
  uint4 weight[kPieces];
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int at = first + i * 32;
    weight[i] = at < pieces ? row[at] : uint4{};
  }
  const T* biases = static_cast<const T*>(p.bias);
  const float bias = biases != nullptr && there ? to_float(biases[output]) : 0.0F;
  ptx::wait_for_earlier_kernels();
  for (int m = 0; m < p.m; ++m) {
    const auto* x =
        reinterpret_cast<const uint4*>(static_cast<const T*>(p.input) + m * p.input_stride);
    float sum[2] = {};
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int at = first + i * 32;
      if (at >= pieces) continue;
      const uint4 y = x[at];
      const uint32_t u[4] = {weight[i].x, weight[i].y, weight[i].z, weight[i].w},
                     v[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float2 a = unpack<T>(u[e]), b = unpack<T>(v[e]);
        sum[0] += a.x * b.x;
        sum[1] += a.y * b.y;
      }
    }
    const float all = ptx::warp_sum(sum[0] + sum[1]);
    if (lane == 0) parts[m][warp] = all;
  }
  if (kWays > 1) __syncthreads();
  __syncwarp();
  if (warp % kWays != 0 || !there || lane >= p.m) return;
  float all = bias;
#pragma unroll
  for (int i = 0; i < kWays; ++i) all += parts[lane][warp + i];
  const int64_t to = lane * p.output_stride + output;
  if (p.output_f32) {
    static_cast<float*>(p.output)[to] = all;
  } else {
    static_cast<T*>(p.output)[to] = from_float<T>(all);
  }
}

template <class T>
cudaError_t run(const GemmOperands& a, cudaStream_t stream) {
  const int ways = a.k <= kWarpDepth ? 1 : a.k <= 2 * kWarpDepth ? 2 : 4;
  const LaunchShape shape = {dim3(static_cast<unsigned>((a.n * ways + kWarps - 1) / kWarps)),
                             dim3(kWarps * 32)};
  const auto kernel = ways == 1   ? narrow_kernel<T, 1>
                      : ways == 2 ? narrow_kernel<T, 2>
                                  : narrow_kernel<T, 4>;
  return launch(kernel, shape, stream, a);
}

}  // namespace

bool narrow_gemm_fits(const GemmOperands& a) {
  return a.m >= 1 && a.m <= kRowsMost && a.n >= 1 && a.n <= kOutputsMost && a.k >= 8 &&
         a.k % 8 == 0 && a.k <= kWarps * kWarpDepth && int64_t{a.n} * a.k <= kElementsMost &&
         !a.gated_silu && a.input_stride % 8 == 0 &&
         reinterpret_cast<uintptr_t>(a.input) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(a.weight) % 16 == 0 &&
         (a.dtype == DType::f16 || a.dtype == DType::bf16);
}

cudaError_t narrow_gemm(const GemmOperands& a, cudaStream_t stream) {
  if (!narrow_gemm_fits(a)) return cudaErrorInvalidValue;
  return a.dtype == DType::f16 ? run<__half>(a, stream) : run<__nv_bfloat16>(a, stream);
}

}  // namespace troupe::cuda
