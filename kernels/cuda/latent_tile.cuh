// What a block of latent_attention does with one tile of tokens: brings it from the cache, scores it,
// and takes it into the sums, a quarter of the value's columns to each of its four warps.
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/ptx/mma.cuh"

namespace troupe::cuda::latent {

constexpr int kWarps = 4, kThreads = kWarps * 32;
constexpr int kTile = 32, kStages = 3;
constexpr int kHeads = kLatentHeads;
constexpr float kLog2e = 1.44269504F;
constexpr float kNone = -1e30F;  // stands for minus infinity without making NaNs

template <int kKey>
struct Layout {
  static constexpr int kPieces = kKey / 8;  // 16-byte pieces of a key
  static constexpr int kTileBytes = kTile * kKey * 2;
  static constexpr int kScores = kHeads * (kTile + 2);  // floats, twice
  static constexpr int kQueryRow = kKey * 2 + 16;  // rows begin on banks of their own
  static constexpr int kQuery = kStages * kTileBytes + 2 * kScores * 4;  // where the query lies
  static constexpr int kBytes = kQuery + kHeads * kQueryRow;
  static constexpr int kFetched = kTile * kPieces / kThreads;
  static_assert(kTile * kPieces % kThreads == 0 && kPieces % 8 == 0);
};

// Pieces are permuted within 128 bytes so that neither copies nor matrix loads collide on banks.
template <int kKey>
__device__ __forceinline__ uint32_t piece(int token, int chunk) {
  return static_cast<uint32_t>(token * kKey * 2 + ((chunk ^ (token & 7)) << 4));
}

// Which cache rows hold an item's tokens, tile after tile. Where a tile lies in one block (and
// items begin at whole tiles) the blocks of 32 tiles are looked up at once, one a lane.
struct Places {
  int32_t blocks;
  bool whole;
  __device__ __forceinline__ void look_up(const LatentAttention& p, const DecodeWork& w, int tile) {
    const int position = w.begin + (tile + static_cast<int>(threadIdx.x) % 32) * kTile;
    whole = p.cache.block_tokens % kTile == 0 && (w.begin - w.sequence.first_position) % kTile == 0;
    if (whole && position < w.end)
      blocks = p.blocks[w.sequence.table_begin +
                        (position - w.sequence.first_position) / p.cache.block_tokens];
  }
};

template <int kKey>
__device__ void fetch(const LatentAttention& p, const DecodeWork& w, Places& places, uint32_t ring,
                      int tile) {
  using L = Layout<kKey>;
  const int position = w.begin + tile * kTile, first = w.sequence.first_position;
  if (position < w.end) {
    if (tile > 0 && tile % 32 == 0) places.look_up(p, w, tile);
    const int64_t one = __shfl_sync(0xffffffff, places.blocks, tile % 32);
    const int64_t row_begin =
        one * p.cache.block_tokens + (position - first) % p.cache.block_tokens;
    const uint32_t to = ring + static_cast<uint32_t>(tile % kStages * L::kTileBytes);
#pragma unroll 6
    for (int i = 0; i < L::kFetched; ++i) {
      const int at = i * kThreads + static_cast<int>(threadIdx.x);
      const int token = at / L::kPieces, chunk = at % L::kPieces;
      const bool there = position + token < w.end;
      int64_t row = row_begin + (there ? token : 0);
      if (!places.whole) {
        const int relative = position + (there ? token : 0) - first;
        const int64_t block = p.blocks[w.sequence.table_begin + relative / p.cache.block_tokens];
        row = block * p.cache.block_tokens + relative % p.cache.block_tokens;
      }
      const auto* key = static_cast<const uint16_t*>(p.cache.keys) + row * kKey + chunk * 8;
      ptx::copy16_async(to + piece<kKey>(token, chunk), key, there);
    }
  }
  ptx::commit_copies();
}

// Rows of heads that are not there may be any: nobody asks for what becomes of them.
template <class T, int kKey>
__device__ __forceinline__ void load_query(const LatentAttention& p, const DecodeWork& w, int head,
                                           uint32_t to, uint32_t (&query)[kKey / 16][4]) {
  using L = Layout<kKey>;
  const T* from = static_cast<const T*>(p.query) + w.sequence.row_begin * p.query_stride;
  for (int i = static_cast<int>(threadIdx.x); i < kHeads * L::kPieces; i += kThreads) {
    const int row = i / L::kPieces, chunk = i % L::kPieces;
    const bool there = head + row < p.shape.heads;
    ptx::copy16_async(to + static_cast<uint32_t>(row * L::kQueryRow + chunk * 16),
                      from + static_cast<int64_t>(there ? head + row : 0) * kKey + chunk * 8,
                      there);
  }
  ptx::commit_copies();
  ptx::wait_copies<0>();
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t at = to + static_cast<uint32_t>(lane % 16 * L::kQueryRow + lane / 16 * 16);
#pragma unroll
  for (int k = 0; k < kKey / 16; ++k)
    ptx::load_matrix(query[k], at + static_cast<uint32_t>(k * 32));
}

// Scores of this warp's eight tokens, in powers of two, into shared memory.
template <class T, int kKey>
__device__ void score_tile(const LatentAttention& p, const DecodeWork& w, uint32_t tile,
                           int position, const uint32_t (&query)[kKey / 16][4], float* scores) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float chains[4][4] = {};  // one sum would make every instruction wait for the one before
#pragma unroll
  for (int k = 0; k < kKey / 32; ++k) {
    uint32_t b[4];
    ptx::load_matrix(b, tile + piece<kKey>(warp * 8 + lane % 8, k * 4 + lane / 8));
    ptx::mma_16x8x16<T>(chains[k % 2 * 2], query[k * 2], b[0], b[1]);
    ptx::mma_16x8x16<T>(chains[k % 2 * 2 + 1], query[k * 2 + 1], b[2], b[3]);
  }
  const int g = lane / 4, column = warp * 8 + lane % 4 * 2;
  const float scale = p.shape.scale * kLog2e;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const bool seen = position + column + c % 2 < w.end;
    const float score = (chains[0][c] + chains[1][c]) + (chains[2][c] + chains[3][c]);
    scores[(g + c / 2 * 8) * (kTile + 2) + column + c % 2] = seen ? score * scale : kNone;
  }
}

template <int kValue>
struct Sums {
  float sum[kValue / kWarps / 8][4] = {};
  float top[2] = {kNone, kNone}, weight[2] = {};
};

template <class T, int kKey, int kValue>
__device__ void take_tile(uint32_t tile, const float* scores, Sums<kValue>& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  uint32_t a[kTile / 16][4];
  float grown[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float* row = scores + (g + half * 8) * (kTile + 2);
    float2 x[kTile / 8];
    float top = s.top[half];
#pragma unroll
    for (int i = 0; i < kTile / 8; ++i) {
      x[i] = *reinterpret_cast<const float2*>(row + i * 8 + t * 2);
      top = fmaxf(top, fmaxf(x[i].x, x[i].y));
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
    grown[half] = exp2f(s.top[half] - top);
    s.top[half] = top;
    float weight = 0.0F;
#pragma unroll
    for (int i = 0; i < kTile / 8; ++i) {
      const float u = x[i].x <= kNone ? 0.0F : exp2f(x[i].x - top);
      const float v = x[i].y <= kNone ? 0.0F : exp2f(x[i].y - top);
      weight += u + v;
      a[i / 2][i % 2 * 2 + half] = pack<T>(u, v);
    }
    s.weight[half] = s.weight[half] * grown[half] + weight;
  }
  constexpr int kPairs = kValue / kWarps / 16;
  const int i = lane / 8;
#pragma unroll
  for (int n = 0; n < kPairs; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float(&sum)[4] = s.sum[n * 2 + j];
      sum[0] *= grown[0];
      sum[1] *= grown[0];
      sum[2] *= grown[1];
      sum[3] *= grown[1];
    }
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k) {
      uint32_t b[4];
      ptx::load_matrix_transposed(b, tile + piece<kKey>(k * 16 + (i & 1) * 8 + lane % 8,
                                                        (warp * kPairs + n) * 2 + (i >> 1)));
      ptx::mma_16x8x16<T>(s.sum[n * 2], a[k], b[0], b[1]);
      ptx::mma_16x8x16<T>(s.sum[n * 2 + 1], a[k], b[2], b[3]);
    }
  }
}

// Calls put(row of 16, column, value pair) for all that this thread holds.
template <int kValue, class Put>
__device__ __forceinline__ void each_pair(const Sums<kValue>& s, const Put& put) {
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int n = 0; n < kValue / kWarps / 8; ++n) {
      put(g + half * 8, warp * (kValue / kWarps) + n * 8 + t * 2,
          make_float2(s.sum[n][half * 2], s.sum[n][half * 2 + 1]));
    }
  }
}

}  // namespace troupe::cuda::latent
