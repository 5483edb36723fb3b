// The gated product of many rows: tiles of up to 256 input rows by 224 weight rows (112 gates and
// their 112 ups), multiplied as tall_tile.cuh says.
//
// A tile is whole: nothing is cut along k, no sums are exchanged, and a multiprocessor idles only
// while a tile's sums are written. Llama's 28,672 weight rows are 128 such tiles, a round of nearly
// all multiprocessors. The next tile's first stages arrive while this one's sums are written, and
// the first of all are asked for before the kernels in front end.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/gated_gemm.hpp"
#include "kernels/cuda/tall_tile.cuh"

namespace troupe::cuda {
namespace {

using tall::kCluster;
using tall::kThreads;
using tall::Place;

constexpr int kN = 224;  // weight rows of a tile
constexpr int kPiece = kN / 2,
              kOutputs = kPiece / 2;  // weight rows whose sums are written at a time

struct Params {
  tall::Tiles tiles;
  int m, n;
  void* output;
  int64_t output_stride;
};

__device__ __forceinline__ float gated(float gate, float up) {
  float power, share;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(gate * -1.44269504F));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(share) : "f"(1.0F + power));
  return gate * up * share;
}

// A warp's 16 input rows by 112 weight rows on their way out. All of this is written out once for
// every sum and runs once a tile: what counts is how little code it is.
template <class T>
class Writer {
 public:
  static constexpr int kPitch = kOutputs * 2, kStaging = 16 * kPitch;  // rows meet no bank twice

  __device__ __forceinline__ Writer(const Params& p, int weight_row, uint8_t* staging)
      : p_(p), staging_(staging), first_(weight_row / 2) {}

  // v: blocks of 8 weight rows, gates and ups by turns; a thread holds two of each by two input
  // rows.
  __device__ __forceinline__ void write(int row, int piece, const float* v) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint32_t put = ptx::shared_address(staging_) + lane % 16 * kPitch + lane / 16 * 16;
#pragma unroll
    for (int j = 0; j < kOutputs / 8; j += 2) {
      uint32_t r[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* from = v + (j + i / 2) * 8 + i % 2 * 2;
        if (j + i / 2 < kOutputs / 8)
          r[i] = pack<T>(gated(from[0], from[4]), gated(from[1], from[5]));
      }
      if (j + 1 < kOutputs / 8) {
        asm volatile(
            "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(put + j * 16),
            "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
            : "memory");
      } else {
        asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(put + j * 16),
                     "r"(r[0]), "r"(r[1])
                     : "memory");
      }
    }
    __syncwarp();
    const int down = lane / 8, across = lane % 8 * 8, column = first_ + piece * kOutputs + across;
    auto* to = static_cast<T*>(p_.output) + (row + down) * p_.output_stride + column;
    const bool inside = across < kOutputs && column < p_.n / 2;
#pragma unroll
    for (int i = 0; i < 16; i += 4) {
      if (inside && row + down + i < p_.m)
        *reinterpret_cast<uint4*>(to + i * p_.output_stride) =
            *reinterpret_cast<const uint4*>(staging_ + (down + i) * kPitch + across * 2);
    }
    __syncwarp();
  }

 private:
  const Params& p_;
  uint8_t* staging_;
  const int first_;
};

// What becomes of a tile's sums.
template <class T, int kBlocks>
class ToGatedRows {
 public:
  static constexpr int kShared = kThreads / 32 * Writer<T>::kStaging;

  __device__ __forceinline__ ToGatedRows(const Params& p, uint8_t* staging)
      : p_(p), warp_(static_cast<int>(threadIdx.x) / 32), staging_(staging) {
    staging_ += warp_ * Writer<T>::kStaging;
  }
  __device__ __forceinline__ void begin(const Place&) const {}
  __device__ __forceinline__ void take(const Place& at, const float (&sum)[kBlocks][kN / 2]) const {
    const Writer<T> writer(p_, at.weight_row, staging_);
    const int row = at.input_row + warp_ * 16;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int piece = 0; piece < 2; ++piece)
        writer.write(row + b * 128, piece, sum[b] + piece * kPiece / 2);
    }
  }

 private:
  const Params& p_;
  const int warp_;
  uint8_t* staging_;
};

template <class T, int kBlocks>
__global__ void __launch_bounds__(kThreads, 1)
    gated_gemm_kernel(const __grid_constant__ CUtensorMap weight,
                      const __grid_constant__ CUtensorMap input, const __grid_constant__ Params p) {
#if __CUDA_ARCH__ >= 900
  tall::take_tiles<T, kBlocks, kN, ToGatedRows<T, kBlocks>>(weight, input, p);
#endif
}

// ---- the host ----

template <class T, int kBlocks>
cudaError_t run(const GatedGemm& a, int multiprocessors, cudaStream_t stream) {
  Params p = {};
  p.m = a.m;
  p.n = a.n;
  p.output = a.output;
  p.output_stride = a.output_stride;
  return tall::launch_tiles<T, kBlocks, kN, ToGatedRows<T, kBlocks>>(gated_gemm_kernel<T, kBlocks>,
                                                                     a, p, multiprocessors, stream);
}

template <class T>
cudaError_t choose(const GatedGemm& a, int multiprocessors, cudaStream_t stream) {
  return a.tile.rows <= 128 ? run<T, 1>(a, multiprocessors, stream)
                            : run<T, 2>(a, multiprocessors, stream);
}

}  // namespace

double gated_gemm_evenness(const GatedGemm& a, int multiprocessors) {
  const tall::Tiles t = tall::tiles_of(a.m, a.n, a.k, a.tile.rows, kN, multiprocessors);
  const int clusters = multiprocessors / kCluster, rounds = (t.count + clusters - 1) / clusters;
  return static_cast<double>(a.m) * a.n /
         (static_cast<double>(rounds) * clusters * kCluster * a.tile.rows * kN);
}

bool gated_gemm_fits(const GatedGemm& a) {
  return a.gated_silu && tall::fits(a, a.tile.rows) && a.n % 16 == 0 && a.output_stride % 8 == 0 &&
         reinterpret_cast<uintptr_t>(a.output) % 16 == 0 && !a.output_f32;
}

cudaError_t gated_gemm(const GatedGemm& a, int multiprocessors, cudaStream_t stream) {
  if (!gated_gemm_fits(a)) return cudaErrorInvalidValue;
  return a.dtype == DType::f16 ? choose<__half>(a, multiprocessors, stream)
                               : choose<__nv_bfloat16>(a, multiprocessors, stream);
}

}  // namespace troupe::cuda
