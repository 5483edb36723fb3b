// Spike: can a product of few rows with 4-bit weights run at the speed at which memory gives them?
//
// Weights are u4 in groups of 128 along k with an f16 scale each (zero point 8), laid out so that a
// lane's 16-byte load is its part of a matrix instruction's operand over 64 of k: [strip of 16
// rows][64 of k][lane]. A block takes kStrips strips; its warps share k and meet in shared memory.
// four_bit prints time, bytes and share of the read ceiling for the shapes of an 8B model, and the
// error of one product against the host's.
#include <cuda_fp16.h>

#include <cmath>

#include "bench/gpu/measure.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/mma.cuh"

namespace troupe::bench {
namespace {

constexpr int kWarps = 8, kStrips = 4, kAhead = 2;

struct Product4 {
  const uint4* weights;
  const __half* scales;  // [n][k / 128]
  const __half* input;  // 8 x k
  __half* output;  // 8 x n
  int n, k, m;
};

// Two u4 of a word, 16 bits apart, as halves less 8: or-ing them into 1024 leaves 1024 + q.
__device__ __forceinline__ uint32_t two_halves(uint32_t word) {
  uint32_t bits;
  asm("lop3.b32 %0, %1, 0x000F000F, 0x64006400, 0xEA;" : "=r"(bits) : "r"(word));
  const __half2 eight = __float2half2_rn(1032.0F);
  const __half2 h = __hsub2(*reinterpret_cast<const __half2*>(&bits), eight);
  return *reinterpret_cast<const uint32_t*>(&h);
}

__global__ void __launch_bounds__(kWarps * 32) four_bit_kernel(const __grid_constant__ Product4 p) {
  __shared__ float sums[kWarps][kStrips][16][9];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int tiles = p.k / 64, groups = p.k / 128;
  const int first = groups * warp / kWarps * 2, last = groups * (warp + 1) / kWarps * 2;
  const int strip = static_cast<int>(blockIdx.x) * kStrips;
  const auto at = [&](int s, int tile) {
    return __ldcs(p.weights + (static_cast<int64_t>(strip + s) * tiles + tile) * 32 + lane);
  };
  uint4 w[kAhead][kStrips];
  cuda::ptx::let_next_kernel_start();
#pragma unroll
  for (int a = 0; a < kAhead; ++a) {
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
      if (first + a < last) w[a][s] = at(s, first + a);
    }
  }
  cuda::ptx::wait_for_earlier_kernels();
  float sum[kStrips][4] = {}, group[kStrips][4] = {};
  const auto* x = reinterpret_cast<const uint32_t*>(p.input + static_cast<int64_t>(g) * p.k);
  for (int tile = first; tile < last; tile += kAhead) {
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int now = tile + a;
      uint32_t b[4][2];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        b[k][0] = g < p.m ? x[(now * 64 + k * 16) / 2 + t] : 0;
        b[k][1] = g < p.m ? x[(now * 64 + k * 16) / 2 + t + 4] : 0;
      }
#pragma unroll
      for (int s = 0; s < kStrips; ++s) {
        const uint4 bits = w[a][s];
        if (now + kAhead < last) w[a][s] = at(s, now + kAhead);
        const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const uint32_t q[4] = {two_halves(words[k]), two_halves(words[k] >> 4),
                                 two_halves(words[k] >> 8), two_halves(words[k] >> 12)};
          cuda::ptx::mma_16x8x16<__half>(group[s], q, b[k][0], b[k][1]);
        }
        if (now % 2 == 0) continue;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = (strip + s) * 16 + g + half * 8;
          const float scale = __half2float(p.scales[static_cast<int64_t>(row) * groups + now / 2]);
          sum[s][half * 2] += scale * group[s][half * 2];
          sum[s][half * 2 + 1] += scale * group[s][half * 2 + 1];
          group[s][half * 2] = group[s][half * 2 + 1] = 0.0F;
        }
      }
    }
  }
#pragma unroll
  for (int s = 0; s < kStrips; ++s) {
#pragma unroll
    for (int c = 0; c < 4; ++c) sums[warp][s][g + c / 2 * 8][t * 2 + c % 2] = sum[s][c];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kStrips * 16 * 8; i += kWarps * 32) {
    const int row = i % (kStrips * 16), column = i / (kStrips * 16);
    if (column >= p.m) continue;
    float all = 0.0F;
    for (int v = 0; v < kWarps; ++v) all += sums[v][row / 16][row % 16][column];
    p.output[static_cast<int64_t>(column) * p.n + strip * 16 + row] = __float2half(all);
  }
}

cudaError_t four_bit(const Product4& p, cudaStream_t stream) {
  return cuda::launch(four_bit_kernel,
                      {dim3(static_cast<unsigned>(p.n / 16 / kStrips)), dim3(kWarps * 32)}, stream,
                      p);
}

// u4 of (row, k) in the layout above: halves of a word are neighbours along k.
uint32_t nibble(const std::vector<uint32_t>& weights, int row, int k, int tiles) {
  const int g = row % 8, upper = row % 16 / 8, inside = k % 16, t = inside % 8 / 2;
  const size_t lane = static_cast<size_t>(g * 4 + t);
  const size_t word =
      ((static_cast<size_t>(row / 16) * static_cast<size_t>(tiles) + static_cast<size_t>(k / 64)) *
           32 +
       lane) *
          4 +
      static_cast<size_t>(k % 64 / 16);
  const int piece = upper + inside / 8 * 2;  // which of the operand's four registers
  return weights[word] >> (piece * 4 + inside % 2 * 16) & 15U;
}

double error_of(const Memory& weights, const Memory& scales, const Memory& input,
                const Memory& output, int n, int k) {
  std::vector<uint32_t> w(static_cast<size_t>(n) * static_cast<size_t>(k) / 8);
  std::vector<__half> s(static_cast<size_t>(n * (k / 128))), x(static_cast<size_t>(k)),
      y(static_cast<size_t>(n));
  BENCH_CUDA(cudaMemcpy(w.data(), weights.as(), w.size() * 4, cudaMemcpyDeviceToHost));
  BENCH_CUDA(cudaMemcpy(s.data(), scales.as(), s.size() * 2, cudaMemcpyDeviceToHost));
  BENCH_CUDA(cudaMemcpy(x.data(), input.as(), x.size() * 2, cudaMemcpyDeviceToHost));
  BENCH_CUDA(cudaMemcpy(y.data(), output.as(), y.size() * 2, cudaMemcpyDeviceToHost));
  double wrong = 0, size = 0;
  for (int row = 0; row < n; row += 37) {
    double want = 0;
    for (int c = 0; c < k; ++c) {
      want += (static_cast<double>(nibble(w, row, c, k / 64)) - 8.0) *
              static_cast<double>(__half2float(s[static_cast<size_t>(row * (k / 128) + c / 128)])) *
              static_cast<double>(__half2float(x[static_cast<size_t>(c)]));
    }
    const double got = static_cast<double>(__half2float(y[static_cast<size_t>(row)]));
    wrong += (got - want) * (got - want);
    size += want * want;
  }
  return std::sqrt(wrong / size);
}

__global__ void halves_kernel(__half* to, size_t count, float from, float spread) {
  for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < count;
       i += static_cast<size_t>(gridDim.x) * blockDim.x)
    to[i] =
        __float2half(from + spread * static_cast<float>((i * 2654435761U >> 7) % 1000U) / 1000.0F);
}
Memory halves(size_t count, float from, float spread) {
  Memory m(count * 2);
  halves_kernel<<<256, 256>>>(m.as<__half>(), count, from, spread);
  return m;
}

}  // namespace
}  // namespace troupe::bench

int main() {
  using namespace troupe::bench;
  cudaStream_t stream;
  BENCH_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const size_t pool_bytes = size_t{1} << 30;
  const Memory pool = Memory::random(pool_bytes / 2, 1.0F, 7);  // any bits are weights
  const Memory scales = halves(size_t{28672} * 112, 0.001F, 0.002F);
  const Memory input = halves(size_t{8} * 14336, -1.0F, 2.0F),
               output = halves(size_t{8} * 28672, 0, 0);
  Report report;
  const int shapes[][2] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};
  for (const auto& shape : shapes) {
    const int n = shape[0], k = shape[1];
    const size_t bytes = static_cast<size_t>(n) * static_cast<size_t>(k) / 2,
                 slots = pool_bytes / bytes;
    for (const int m : {1, 8}) {
      Product4 p = {
          pool.as<uint4>(), scales.as<__half>(), input.as<__half>(), output.as<__half>(), n, k, m};
      const double us = microseconds(stream, 16, [&](int i) {
        p.weights = reinterpret_cast<const uint4*>(pool.as<char>() +
                                                   static_cast<size_t>(i) % slots * bytes);
        check(four_bit(p, stream), "four_bit");
      });
      p.weights = pool.as<uint4>();
      check(four_bit(p, stream), "four_bit");
      BENCH_CUDA(cudaStreamSynchronize(stream));
      const double total = static_cast<double>(bytes) + 2.0 * n * (k / 128) + 2.0 * m * (n + k);
      char name[96];
      std::snprintf(name, sizeof name, "u4 %d x %d, m %d, error %.1e", n, k, m,
                    error_of(pool, scales, input, output, n, k));
      report.add({name, us, total, true, 4.55e12});
    }
  }
  return 0;
}
