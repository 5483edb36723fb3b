// A tile of 32 x 32 outputs a block, 64 of k at a time through shared memory, plain multiply-adds:
// right everywhere, fast nowhere.
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/portable_gemm.hpp"
#include "kernels/cuda/ptx/grid.cuh"

namespace troupe::cuda {
namespace {

constexpr int kTile = 32, kDepth = 32;

// Operands of one product of a batch, which the block's z picks.
struct View {
  Matrix input, weight, bias, output;
  int64_t input_step = 0, weight_step = 0,
          output_step = 0;  // elements from one product to the next
  int64_t m = 0, n = 0, k = 0;
  bool weight_by_column = false;  // weight[k, n] instead of weight[n, k]
};

template <class T>
__device__ __forceinline__ void put(const Matrix& m, int64_t at, float x) {
  if (m.dtype == DType::f32) {
    static_cast<float*>(m.data)[at] = x;
  } else {
    static_cast<T*>(m.data)[at] = from_float<T>(x);
  }
}

template <class T>
__global__ void __launch_bounds__(256) gemm_kernel(const __grid_constant__ View v) {
  __shared__ float a[kTile][kDepth + 1], b[kTile][kDepth + 1];
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t m0 = static_cast<int64_t>(blockIdx.y) * kTile,
                n0 = static_cast<int64_t>(blockIdx.x) * kTile;
  const T* x = static_cast<const T*>(v.input.data) + blockIdx.z * v.input_step;
  const T* w = static_cast<const T*>(v.weight.data) + blockIdx.z * v.weight_step;
  const int column = threadIdx.x % 32, row = threadIdx.x / 32;  // rows row, row + 8, ...
  float sum[4] = {};
  for (int64_t k0 = 0; k0 < v.k; k0 += kDepth) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = row + i * 8;
      const int64_t k = k0 + column;
      a[r][column] = m0 + r < v.m && k < v.k ? to_float(x[(m0 + r) * v.input.stride + k]) : 0.0F;
      if (v.weight_by_column) {
        const int64_t kk = k0 + r, n = n0 + column;
        b[column][r] = n < v.n && kk < v.k ? to_float(w[kk * v.weight.stride + n]) : 0.0F;
      } else {
        b[r][column] = n0 + r < v.n && k < v.k ? to_float(w[(n0 + r) * v.weight.stride + k]) : 0.0F;
      }
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] += a[row + i * 8][k] * b[column][k];
    }
    __syncthreads();
  }
  if (n0 + column >= v.n) return;
  const float bias =
      present(v.bias) ? to_float(static_cast<const T*>(v.bias.data)[n0 + column]) : 0.0F;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t r = m0 + row + i * 8;
    if (r < v.m)
      put<T>(v.output, blockIdx.z * v.output_step + r * v.output.stride + n0 + column,
             sum[i] + bias);
  }
}

cudaError_t run(const View& v, int products, cudaStream_t stream) {
  if (v.m == 0 || v.n == 0 || products == 0) return cudaSuccess;
  const LaunchShape shape = {
      dim3(static_cast<unsigned>((v.n + kTile - 1) / kTile),
           static_cast<unsigned>((v.m + kTile - 1) / kTile), static_cast<unsigned>(products)),
      dim3(256)};
  TR_DISPATCH_FLOAT(v.weight.dtype, return launch(gemm_kernel<T>, shape, stream, v));
}

}  // namespace

cudaError_t portable_gemm(const PortableGemm& a, cudaStream_t stream) {
  View v;
  v.input = a.input;
  v.weight = a.weight;
  v.bias = a.bias;
  v.output = a.output;
  v.m = a.input.rows;
  v.n = a.output.cols;
  v.k = a.input.cols;
  return run(v, 1, stream);
}

cudaError_t head_gemm(const HeadGemm& a, cudaStream_t stream) {
  if (a.heads == 0) return cudaSuccess;
  View v;
  v.input = a.input;
  v.weight = a.weight;
  v.output = a.output;
  v.m = a.input.rows;
  v.n = a.output.cols / a.heads;
  v.k = a.input.cols / a.heads;
  v.input_step = v.k;
  v.output_step = v.n;
  v.weight_step = (a.transposed ? v.k : v.n) * a.weight.stride;
  v.weight_by_column = a.transposed;
  return run(v, a.heads, stream);
}

}  // namespace troupe::cuda
