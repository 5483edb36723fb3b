// The likeliest token of rows that nothing else is asked of. One multiprocessor reads a row of
// logits slower than the rest of a small step takes, so several blocks share it: each offers its
// best token under a key that orders tokens as sampling does, and the last to come takes the
// largest. Where the head's product has found them (likeliest.cuh) they only have to be given out.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace troupe::cuda {
namespace {

constexpr int kThreads = 512, kAhead = 4, kPartsMax = 16;
constexpr int kRowsOfBlock = 32;  // in give_kernel

// A row's best token, to whoever waits for it.
__device__ __forceinline__ void give(const Sampling& p, int64_t row, unsigned long long best) {
  const bool poisoned = isnan(logit_of(best));
  Drawn out = {-1, 0, poisoned ? NAN : 0.0F, 0};
  if (!poisoned && logit_of(best) > -INFINITY) {
    out.token = token_of(best);
    append(p.slots, p.draws[p.rows[row].sampling].slot, out.token);
  }
  tell(*p.target, row, out);
}

__global__ void __launch_bounds__(kThreads) greedy_kernel(const __grid_constant__ Sampling p) {
  __shared__ unsigned long long of_warp[kThreads / 32];
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const auto n = static_cast<int32_t>(p.logits.cols);
  const int64_t row = blockIdx.y;
  const float* logits = static_cast<const float*>(p.logits.data) + row * p.logits.stride;
  const int32_t pieces = (n + 3) / 4, stride = static_cast<int32_t>(gridDim.x) * kThreads;
  unsigned long long best = 0;
  for (int32_t first =
           static_cast<int32_t>(blockIdx.x) * kThreads + static_cast<int32_t>(threadIdx.x);
       first < pieces; first += kAhead * stride) {
    float4 x[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (first + a * stride < pieces) x[a] = load_piece(logits, first + a * stride, n);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int32_t i = (first + a * stride) * 4;
      const float each[4] = {x[a].x, x[a].y, x[a].z, x[a].w};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (i + e >= n) continue;
        const unsigned long long key = checked_key_of(each[e], i + e);
        best = key > best ? key : best;
      }
    }
  }
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const unsigned long long other = __shfl_xor_sync(0xffffffff, best, d);
    best = other > best ? other : best;
  }
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (const unsigned long long x : of_warp) best = x > best ? x : best;
  GreedyRow& shared = p.greedy[row];
  atomicMax(&shared.best, best);
  __threadfence();
  if (atomicAdd(&shared.arrived, 1U) + 1 < gridDim.x) return;
  __threadfence();
  best = atomicExch(&shared.best, 0ULL);
  shared.arrived = 0;
  give(p, row, best);
}

__global__ void __launch_bounds__(kRowsOfBlock) give_kernel(const __grid_constant__ Sampling p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRowsOfBlock + threadIdx.x;
  if (row >= p.logits.rows) return;
  const unsigned long long best = p.greedy[row].best;
  p.greedy[row].best = 0;
  give(p, row, best);
}

}  // namespace

cudaError_t sample_greedy(const Sampling& p, int multiprocessors, cudaStream_t stream) {
  if (p.logits.rows == 0) return cudaSuccess;
  const auto rows = static_cast<int>(p.logits.rows);
  const int parts = multiprocessors * 2 / rows;
  const int bounded = parts < 1 ? 1 : parts > kPartsMax ? kPartsMax : parts;
  return launch(greedy_kernel,
                {dim3(static_cast<unsigned>(bounded), static_cast<unsigned>(rows)), dim3(kThreads)},
                stream, p);
}

cudaError_t give_likeliest(const Sampling& p, cudaStream_t stream) {
  if (p.logits.rows == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((p.logits.rows + kRowsOfBlock - 1) / kRowsOfBlock);
  return launch(give_kernel, {dim3(blocks), dim3(kRowsOfBlock)}, stream, p);
}

}  // namespace troupe::cuda
