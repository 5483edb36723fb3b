// The head's likeliest tokens for many rows: tiles of up to 256 input rows by 208 tokens,
// multiplied as tall_tile.cuh says. (208: tiles of Llama's 128,256 tokens are 4.7 rounds of all
// multiprocessors, those of 224 are 4.3.)
//
// A thread has sums of four input rows, or two. Once a tile is multiplied, the largest of each row
// is held against the largest that all blocks had made known when the tile began: hardly any is as
// large after the first tiles, and only then tokens are looked at. Keys are those of likeliest.cuh.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/likeliest.cuh"
#include "kernels/cuda/likeliest_gemm.hpp"
#include "kernels/cuda/tall_tile.cuh"

namespace troupe::cuda {
namespace {

using likeliest::Key;
using tall::kThreads;
using tall::Place;

constexpr int kN = 208;  // tokens of a tile

struct Params {
  tall::Tiles tiles;
  int m, n;
  GreedyRow* likeliest;
};

// What becomes of a tile's sums. Of every 16 input rows a thread has two, eight apart (`half`),
// each by two tokens of every eight.
template <int kBlocks>
class Search {
 public:
  static constexpr int kRows = kBlocks * 128, kEights = kN / 8;
  using Known = likeliest::Known<kRows>;
  static constexpr int kShared = Known::kBytes;
  using Sums = float[kBlocks][kN / 2];

  __device__ __forceinline__ Search(const Params& p, uint8_t* known) : p_(p), known_(known) {}

  // What is known of the tile's rows before it is multiplied: the answer is there long before the
  // sums are.
  __device__ __forceinline__ void begin(const Place& at) {
    const int row = at.input_row + static_cast<int>(threadIdx.x);
    asked_ = threadIdx.x < kRows && row < p_.m ? Known::ask(p_.likeliest[row]) : kLost;
  }

  __device__ __forceinline__ void take(const Place& at, Sums& sum) {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) ptx::wgmma_settled(sum[b]);
    if (threadIdx.x < kRows) known_.set(static_cast<int>(threadIdx.x), asked_);
    __syncthreads();
    const int first = at.weight_row + lane() % 4 * 2;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      if (at.weight_row + kN > p_.n) bar_tokens_behind(first, sum[b]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = b * 128 + static_cast<int>(threadIdx.x) / 32 * 16 + half * 8 + lane() / 4;
        const float top = top_of(sum[b] + half * 2);
        const bool reached = known_.is_reached(row, top);
        if (!__any_sync(0xffffffff, reached)) continue;
        const int32_t token = first_with(top, sum[b] + half * 2, first);
        const Key key = over_lanes(likeliest::key_of(top + 0.0F, ~static_cast<uint32_t>(token)));
        if (lane() % 4 == 0 && at.input_row + row < p_.m)
          atomicMax(&p_.likeliest[at.input_row + row].best, key);
      }
    }
    __syncthreads();  // what is known has been looked at
  }

 private:
  static __device__ __forceinline__ int lane() {
    return static_cast<int>(threadIdx.x) % 32;
  }

  // The last tile's: no token, none likelier.
  __device__ __forceinline__ void bar_tokens_behind(int first, float (&sum)[kN / 2]) const {
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) {
      if (first + i / 4 * 8 + i % 2 >= p_.n) sum[i] = -INFINITY;
    }
  }

  // NaN where one is.
  static __device__ __forceinline__ float top_of(const float* sums) {
    float top[2] = {-INFINITY, -INFINITY};  // two chains
#pragma unroll
    for (int i = 0; i < kEights; ++i) {
#pragma unroll
      for (int e = 0; e < 2; ++e) top[e] = likeliest::larger_or_nan(top[e], sums[i * 4 + e]);
    }
    return likeliest::larger_or_nan(top[0], top[1]);
  }

  // The lowest token whose logit is the top, or a NaN if that is one.
  static __device__ __forceinline__ int32_t first_with(float top, const float* sums, int first) {
    int32_t token = first;
#pragma unroll
    for (int i = kEights - 1; i >= 0; --i) {
#pragma unroll
      for (int e = 1; e >= 0; --e) {
        const float x = sums[i * 4 + e];
        if (x == top || x != x) token = first + i * 8 + e;
      }
    }
    return token;
  }

  static __device__ __forceinline__ Key over_lanes(Key key) {
#pragma unroll
    for (int apart = 1; apart < 4; apart *= 2)
      key = likeliest::larger(key, __shfl_xor_sync(0xffffffff, key, apart));
    return key;
  }

  static constexpr uint32_t kLost = UINT32_MAX;  // of a row that is not there: nothing reaches it
  const Params& p_;
  Known known_;
  uint32_t asked_ = kLost;
};

template <class T, int kBlocks>
__global__ void __launch_bounds__(kThreads, 1)
    likeliest_gemm_kernel(const __grid_constant__ CUtensorMap weight,
                          const __grid_constant__ CUtensorMap input,
                          const __grid_constant__ Params p) {
#if __CUDA_ARCH__ >= 900
  tall::take_tiles<T, kBlocks, kN, Search<kBlocks>>(weight, input, p);
#endif
}

// ---- the host ----

template <class T, int kBlocks>
cudaError_t run(const LikeliestGemm& a, int multiprocessors, cudaStream_t stream) {
  Params p = {};
  p.m = a.m;
  p.n = a.n;
  p.likeliest = a.likeliest;
  return tall::launch_tiles<T, kBlocks, kN, Search<kBlocks>>(likeliest_gemm_kernel<T, kBlocks>, a,
                                                             p, multiprocessors, stream);
}

template <class T>
cudaError_t choose(const LikeliestGemm& a, int multiprocessors, cudaStream_t stream) {
  return a.tile.rows <= 128 ? run<T, 1>(a, multiprocessors, stream)
                            : run<T, 2>(a, multiprocessors, stream);
}

}  // namespace

bool likeliest_gemm_fits(const LikeliestGemm& a) {
  return a.sums_to() == SumsTo::likeliest && tall::fits(a, a.tile.rows);
}

cudaError_t likeliest_gemm(const LikeliestGemm& a, int multiprocessors, cudaStream_t stream) {
  if (!likeliest_gemm_fits(a)) return cudaErrorInvalidValue;
  return a.dtype == DType::f16 ? choose<__half>(a, multiprocessors, stream)
                               : choose<__nv_bfloat16>(a, multiprocessors, stream);
}

}  // namespace troupe::cuda
