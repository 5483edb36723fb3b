// One block's product of a tile of rows, gathered from anywhere, and 128 rows of a weight: copied
// into stages of shared memory ahead of use, multiplied by the warps' tensor instructions of
// compute capability 7.5 and later. f16 or bf16, sums in f32, k in one order.
#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/mma.cuh"

namespace troupe::cuda::tiles {

constexpr int kThreads = 256, kWarps = kThreads / 32;
// Of k in a stage: rows of 128 bytes, since memory gives half lines at little more than half its
// speed.
constexpr int kDepth = 64, kRowBytes = kDepth * 2, kPieces = kRowBytes / 16;
constexpr int kRowsAtOnce = kThreads / kPieces;  // that a block's threads copy
constexpr int kColumns = 128;  // rows of the weight a block takes

// How a block's warps share a tile of kRows x kColumns.
template <int kRowsOf, int kStagesOf, int kBlocksOf>
struct Share {
  static constexpr int kRows = kRowsOf, kStages = kStagesOf;
  static constexpr int kBlocks = kBlocksOf;  // on a multiprocessor
  static constexpr int kDown = kRows >= 64 ? 2 : 1, kAcross = kWarps / kDown;
  static constexpr int kBands = kRows / kDown / 16;  // of 16 rows, a warp's
  static constexpr int kStrips = kColumns / kAcross / 8;  // of 8 columns, a warp's
  static constexpr int kStageBytes = (kRows + kColumns) * kRowBytes;
};
// Pieces of 16 bytes change places so that eight rows' pieces of one column lie in different banks.
__device__ __forceinline__ uint32_t place_in_stage(int row, int piece) {
  return static_cast<uint32_t>(row * kRowBytes + ((piece ^ row % kPieces) * 16));
}

// Rows that one thread copies: row thread / kPieces and every kRowsAtOnce-th after it; where each
// begins, in pieces of 16 bytes. A row that is not there (kNone) is zeros.
constexpr int32_t kNone = -1;
template <class T, int kCount>
struct Source {
  const T* base;
  int32_t rows[kCount];
};
__device__ __forceinline__ int32_t begin_of(int64_t row, int64_t stride) {
  return static_cast<int32_t>(row * stride / 8);
}

// What a thread copies of a tile, `own` being the first of its rows: begin(row) says where each is.
template <class T, int kCount, class Begin>
__device__ __forceinline__ void find_rows(Source<T, kCount>& s, int own, const Begin& begin) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) s.rows[i] = begin(own + i * kRowsAtOnce);
}

template <class T, class S>
class TileProduct {
 public:
  static constexpr int kInputs = S::kRows / kRowsAtOnce, kWeights = kColumns / kRowsAtOnce;
  using Inputs = Source<T, kInputs>;
  using Weights = Source<T, kWeights>;

  __device__ TileProduct(uint32_t shared, const Inputs& x, const Weights& w, int depth)
      : shared_(shared), x_(x), w_(w), depth_(depth) {}

  __device__ void run() {
    const int steps = (depth_ + kDepth - 1) / kDepth;
#pragma unroll
    for (int s = 0; s < S::kStages - 1; ++s) {
      if (s < steps) copy(s);
      ptx::commit_copies();
    }
    for (int s = 0; s < steps; ++s) {
      ptx::wait_copies<S::kStages - 2>();
      __syncthreads();
      if (s + S::kStages - 1 < steps) copy(s + S::kStages - 1);
      ptx::commit_copies();
      multiply(s);
    }
  }

  // visit(row, band, half) for the rows of the tile of which this thread has sums.
  template <class Visit>
  __device__ __forceinline__ void each(const Visit& visit) const {
#pragma unroll
    for (int band = 0; band < S::kBands; ++band) {
#pragma unroll
      for (int half = 0; half < 2; ++half) visit(row_of(band, half), band, half);
    }
  }
  [[nodiscard]] __device__ __forceinline__ float sum(int band, int strip, int half, int e) const {
    return sums_[band][strip][half * 2 + e];
  }
  // The first of this thread's two columns of a strip.
  [[nodiscard]] __device__ __forceinline__ int column_of(int strip) const {
    return warp() % S::kAcross * (S::kStrips * 8) + strip * 8 + lane() % 4 * 2;
  }

 private:
  static __device__ __forceinline__ int warp() {
    return static_cast<int>(threadIdx.x) / 32;
  }
  static __device__ __forceinline__ int lane() {
    return static_cast<int>(threadIdx.x) % 32;
  }
  [[nodiscard]] __device__ __forceinline__ int row_of(int band, int half) const {
    return warp() / S::kAcross * (S::kBands * 16) + band * 16 + half * 8 + lane() / 4;
  }

  __device__ __forceinline__ void copy(int step) const {
    const int row = static_cast<int>(threadIdx.x) / kPieces,
              piece = static_cast<int>(threadIdx.x) % kPieces;
    const int k = step * kPieces + piece;
    const uint32_t stage = shared_ + static_cast<uint32_t>(step % S::kStages * S::kStageBytes);
    const auto put = [&](const T* base, int32_t begin, uint32_t to, int row_of_stage) {
      const bool here = begin != kNone && k < depth_ / 8;
      const int64_t at = here ? begin + k : 0;
      ptx::copy16_async(to + place_in_stage(row_of_stage, piece), base + at * 8, here);
    };
#pragma unroll
    for (int i = 0; i < kInputs; ++i) put(x_.base, x_.rows[i], stage, row + i * kRowsAtOnce);
#pragma unroll
    for (int i = 0; i < kWeights; ++i)
      put(w_.base, w_.rows[i], stage + S::kRows * kRowBytes, row + i * kRowsAtOnce);
  }

  __device__ __forceinline__ void multiply(int step) {
    const uint32_t input = shared_ + static_cast<uint32_t>(step % S::kStages * S::kStageBytes),
                   weight = input + S::kRows * kRowBytes;
    const int down = warp() / S::kAcross * (S::kBands * 16),
              across = warp() % S::kAcross * (S::kStrips * 8);
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      uint32_t a[S::kBands][4], b[S::kStrips / 2][4];
#pragma unroll
      for (int i = 0; i < S::kBands; ++i)
        ptx::load_matrix(a[i],
                         input + place_in_stage(down + i * 16 + lane() % 16, k * 2 + lane() / 16));
#pragma unroll
      for (int j = 0; j < S::kStrips / 2; ++j)
        ptx::load_matrix(b[j],
                         weight + place_in_stage(across + j * 16 + lane() / 16 * 8 + lane() % 8,
                                                 k * 2 + lane() / 8 % 2));
#pragma unroll
      for (int i = 0; i < S::kBands; ++i) {
#pragma unroll
        for (int j = 0; j < S::kStrips; ++j)
          ptx::mma_16x8x16<T>(sums_[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }

  uint32_t shared_;
  const Inputs& x_;
  const Weights& w_;
  int depth_;
  float sums_[S::kBands][S::kStrips][4] = {};
};

}  // namespace troupe::cuda::tiles
