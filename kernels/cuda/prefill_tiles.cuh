// What prefill_attention's blocks work on, round after round, and how the producer's warp brings it
// into shared memory: a tile of query rows, then the tiles of keys and values that they see.
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/ptx/tma.cuh"

namespace troupe::cuda::prefill {

constexpr int kRowTile = 128;
constexpr int kTokens = 128;
constexpr int kStages = 2;
constexpr int kThreads = 384;

struct Params {
  AttentionShape shape;
  PagedLayer layer;
  void* output;
  int64_t output_stride;
  const AttentionSequence* sequences;
  const PrefillWork* work;
  const int32_t* blocks;
  bool in_rows;
  int items;  // query tiles of a head
};

template <int kDim>
struct Shared {
  static constexpr int kHalves = kDim / 64;
  static constexpr int kTileBytes = kTokens * kDim * 2;
  static constexpr int kQueryBytes = kRowTile * kDim * 2;
  static constexpr int kBytes = 2 * kQueryBytes + 2 * kStages * kTileBytes + 1024;
};

struct Barriers {
  uint64_t query_full[2], query_empty[2];
  uint64_t key_full[kStages], key_empty[kStages], value_full[kStages], value_empty[kStages];
};

// What one block works on at a time, the same for all its threads.
struct Span {
  AttentionSequence sequence;
  int first_row;  // of the tile, within the sequence
  int offset;  // position of the sequence's first query row
  int head, kv_head;
  int tile_begin, tile_end;  // key tiles, walked from tile_end - 1 down
};

// The block's item of a round; false: there is none. The list is longest first, so every other
// round goes to the blocks in reverse.
__device__ __forceinline__ bool find_span(const Params& p, int round, Span& s) {
  const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  const int item = round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
  if (item >= p.items) return false;
  const PrefillWork work = p.work[item / p.shape.heads];
  s.sequence = p.sequences[work.sequence];
  s.head = item % p.shape.heads;
  s.kv_head = s.head / (p.shape.heads / p.layer.kv_heads);
  s.first_row = work.tile * kRowTile;
  s.offset = s.sequence.kv_len - s.sequence.row_count;
  int seen = s.sequence.kv_len, hidden = 0;
  if (s.sequence.causal != 0) {
    seen = min(seen, s.offset + s.first_row + kRowTile);
    if (p.shape.window > 0) hidden = max(0, s.offset + s.first_row - p.shape.window + 1);
  }
  s.tile_begin = hidden / kTokens;
  s.tile_end = (seen + kTokens - 1) / kTokens;
  return true;
}

// One warp: each lane brings some of the boxes of a tile, and looks up the next tile's blocks while
// this one's slot is still in use. `brought`: tiles of earlier rounds.
template <int kDim>
__device__ void produce(const CUtensorMap& query, const CUtensorMap& keys,
                        const CUtensorMap& values, const Params& p, const Span& s, int round,
                        int brought, uint8_t* shared, Barriers& bar) {
  using S = Shared<kDim>;
  const auto lane = static_cast<int>(threadIdx.x);
  if (lane == 0) {
    const auto row = static_cast<int32_t>(s.sequence.row_begin + s.first_row);
    uint64_t* full = &bar.query_full[round % 2];
    ptx::mbarrier_wait(&bar.query_empty[round % 2], (round / 2 + 1) & 1);
    ptx::mbarrier_expect_bytes(full, S::kQueryBytes);
#pragma unroll
    for (int h = 0; h < S::kHalves; ++h) {
      ptx::load_box(shared + round % 2 * S::kQueryBytes + h * kRowTile * 128, &query, full,
                    ptx::kEvictFirst, h * 64, row, s.head);
    }
  }
  const int32_t* table = p.blocks + s.sequence.table_begin;
  const int block_tokens = p.in_rows ? kTokens : p.layer.block_tokens;
  const int box = min(block_tokens, kTokens);
  const int boxes = kTokens / box * S::kHalves;  // at most 32
  const int last = (s.sequence.kv_len - 1 - s.sequence.first_position) / block_tokens;
  const int token = lane / S::kHalves * box, half = lane % S::kHalves;
  const auto place = [&](int tile) {
    return max(0, tile * kTokens + token - s.sequence.first_position);
  };
  const auto look_up = [&](int tile) {
    return lane < boxes && tile >= s.tile_begin && !p.in_rows
               ? table[min(place(tile) / block_tokens, last)]
               : 0;
  };
  const auto bring = [&](const CUtensorMap& map, uint64_t* full, uint64_t* empty, uint32_t parity,
                         uint8_t* to, int tile, int block) {
    if (lane == 0) {
      ptx::mbarrier_wait(empty, parity);
      ptx::mbarrier_expect_bytes(full, S::kTileBytes);
    }
    __syncwarp();
    if (lane < boxes) {
      ptx::load_box(to + half * kTokens * 128 + token * 128, &map, full, ptx::kEvictLast, half * 64,
                    p.in_rows ? s.sequence.row_begin + tile * kTokens : place(tile) % block_tokens,
                    s.kv_head, block);
    }
  };
  uint8_t* key_ring = shared + 2 * S::kQueryBytes;
  uint8_t* value_ring = key_ring + kStages * S::kTileBytes;
  const int count = s.tile_end - s.tile_begin;
  int block = look_up(s.tile_end - 1);
  for (int i = 0; i < count; ++i) {
    const int stage = (brought + i) % kStages, tile = s.tile_end - 1 - i;
    const uint32_t parity = ((brought + i) / kStages + 1) & 1;
    const int next = look_up(tile - 1);
    bring(keys, &bar.key_full[stage], &bar.key_empty[stage], parity,
          key_ring + stage * S::kTileBytes, tile, block);
    bring(values, &bar.value_full[stage], &bar.value_empty[stage], parity,
          value_ring + stage * S::kTileBytes, tile, block);
    block = next;
  }
}

}  // namespace troupe::cuda::prefill
