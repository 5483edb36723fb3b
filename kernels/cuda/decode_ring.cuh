// The ring through which decode_stream's producer warp brings keys, values and queries to those who
// compute.
//
// The producer goes from item to item by itself: it knows the next item's place and blocks while
// this one's tiles are under way, so the ring stays full while the others finish an item. Items
// begin in a ring of their own: what the item is, and its query. Cached tokens of earlier steps do
// not depend on the kernels in front, so the first item's tiles are asked for before those have
// ended; queries do, and follow.
#pragma once

#include "kernels/cuda/decode_sums.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/ring.cuh"
#include "kernels/cuda/ptx/tma.cuh"

namespace troupe::cuda::decode {

constexpr int kTokens = 64;  // of a slot
constexpr int kSlotsMax = 12;
constexpr int kItems = 3;  // that can have begun at once
constexpr int kHanded = 2;  // shares that wait to be counted in

// A slot holds keys or values of 64 tokens: panels of 64 elements, a token's 128 bytes in a row.
template <int kDim>
struct Layout {
  static constexpr int kPanels = kDim / 64;
  static constexpr int kPanel = kTokens * 128;
  static constexpr int kSlot = kPanels * kPanel;
  static constexpr int kQueryRow = kDim * 2 + 16;  // rows begin on banks of their own
  __host__ __device__ static constexpr int sets_bytes(int rows) {
    return kWarps * set_floats<kDim>(rows) * 4;
  }
  static constexpr int bytes(int slots, int rows) {
    return 1024 + slots * kSlot + sets_bytes(rows) + kItems * rows * kQueryRow;
  }
  __device__ static uint32_t at(int token, int chunk) {
    return static_cast<uint32_t>(chunk / 8 * kPanel + token * 128 +
                                 (((chunk & 7) ^ (token & 7)) << 4));
  }
};

struct Copies {
  CUtensorMap keys, values;  // boxes of 64 tokens, when cache blocks have as many
  CUtensorMap few_keys, few_values;  // boxes of `few`: a share's end, and small cache blocks
  int few;
  int slots;  // of the ring
  int rows;  // of a query
};

struct Ring {
  uint64_t full[kSlotsMax], empty[kSlotsMax];
  uint64_t item_full[kItems], item_empty[kItems];
  uint64_t handed_full[kHanded], handed_empty[kHanded];
  Item item[kItems];  // not valid: no more work
  Item handed[kHanded];
};

__device__ __forceinline__ int shift_of(int power_of_two) {
  return 31 - __clz(power_of_two);
}

template <class T, int kDim>
class Producer {
 public:
  using L = Layout<kDim>;
  __device__ Producer(const DecodeAttention& p, const Copies& copies, uint8_t* slots,
                      uint8_t* queries, Ring& ring)
      : p_(p),
        copies_(copies),
        slots_(slots),
        queries_(queries),
        ring_(ring),
        group_(p.shape.heads / p.layer.kv_heads),
        lane_(static_cast<int>(threadIdx.x) % 32),
        shift_(shift_of(p.layer.block_tokens)),
        unit_(min(p.layer.block_tokens, kTokens)),
        per_tile_(kTokens / unit_) {}

  __device__ void run() {
    const int items = *p_.work_count * p_.layer.kv_heads;
    Item item = load_item(p_, static_cast<int>(blockIdx.x), items);
    int32_t blocks = look_up(item, 0);
    // In lane 0: the item after. Who begins with a long one goes on with a short one.
    int32_t taken = static_cast<int32_t>(2 * gridDim.x - 1 - blockIdx.x);
    while (item.valid) {
      if (waited_) begin(item);
      const int tiles = (item.work.end - item.work.begin + kTokens - 1) / kTokens;
      const Item next = load_item(p_, __shfl_sync(0xffffffff, taken, 0), items);
      int32_t next_blocks = 0;
      if (tiles == 0) next_blocks = look_up(next, 0);
      for (int tile = 0; tile < tiles; ++tile) {
        if (!settled(item, tile) || brought_ + 2 > copies_.slots) begin_first(item);
        const int unit = tile * per_tile_;
        if (tile > 0 && unit % 32 == 0) blocks = look_up(item, unit);
        bring(item, tile, blocks, false);
        bring(item, tile, blocks, true);
        if (tile == 0) next_blocks = look_up(next, 0);
      }
      begin_first(item);
      taken = lane_ == 0 ? static_cast<int32_t>(atomicAdd(p_.counters, 1U) + 2 * gridDim.x) : 0;
      item = next;
      blocks = next_blocks;
    }
    if (!waited_) ptx::wait_for_earlier_kernels();
    begin(item);
    if (lane_ == 0) {
      if (atomicAdd(p_.counters + 1, 1U) + 1 == gridDim.x) {
        p_.counters[0] = 0;
        p_.counters[1] = 0;
      }
    }
  }

 private:
  // Whether a tile was complete before this step began.
  __device__ __forceinline__ bool settled(const Item& item, int tile) const {
    const AttentionSequence& s = item.work.sequence;
    return min(item.work.begin + (tile + 1) * kTokens, item.work.end) <= s.kv_len - s.row_count;
  }
  // The first item, if it has not begun yet: at the latest when its tiles wait for those who need
  // its query.
  __device__ __forceinline__ void begin_first(const Item& item) {
    if (waited_) return;
    ptx::wait_for_earlier_kernels();
    waited_ = true;
    begin(item);
  }
  // Says what the item is and brings its query; one that is not valid is the end.
  __device__ void begin(const Item& item) {
    const int rows = item.valid ? group_ * item.work.sequence.row_count : 0;
    uint64_t* full = &ring_.item_full[begun_.slot];
    // Of a barrier that has not been through a phase the one before counts as over.
    ptx::mbarrier_wait(&ring_.item_empty[begun_.slot], begun_.parity ^ 1);
    if (lane_ == 0) {
      ring_.item[begun_.slot] = item;
      ptx::mbarrier_expect_bytes(full, static_cast<uint32_t>(rows * kDim * 2));
    }
    __syncwarp();
    if (lane_ < rows) {
      ptx::load_row(queries_ + (begun_.slot * copies_.rows + lane_) * L::kQueryRow,
                    query_row<T, kDim>(p_, item, group_, lane_), kDim * 2, full);
    }
    begun_.next(kItems);
  }
  __device__ __forceinline__ void wait_empty() {
    if (fresh_) return;
    if (lane_ == 0) ptx::mbarrier_wait(&ring_.empty[at_.slot], at_.parity ^ 1);
    __syncwarp();
  }
  __device__ __forceinline__ void advance() {
    at_.next(copies_.slots);
    fresh_ = fresh_ && at_.slot != 0;
    ++brought_;
  }
  // The cache blocks of the 32 units from `unit` on, one a lane.
  __device__ __forceinline__ int32_t look_up(const Item& item, int unit) const {
    const int position = item.work.begin + (unit + lane_) * unit_;
    if (!item.valid || position >= item.work.end) return 0;
    const AttentionSequence& s = item.work.sequence;
    return p_.blocks[s.table_begin + ((position - s.first_position) >> shift_)];
  }

  // Starts the copies of a tile's keys or values: whole, or a few tokens at a time.
  __device__ __forceinline__ void bring(const Item& item, int tile, int32_t blocks, bool values) {
    const int position = item.work.begin + tile * kTokens;
    const int count = min(kTokens, item.work.end - position);
    const bool whole = unit_ == kTokens && count == kTokens;
    const int tokens = whole ? kTokens : copies_.few;
    const int boxes = (count + tokens - 1) / tokens * L::kPanels;
    const int token = lane_ / L::kPanels * tokens, panel = lane_ % L::kPanels;
    const int source = (tile * per_tile_ + token / unit_) % 32;
    const int32_t block = __shfl_sync(0xffffffff, blocks, source);
    wait_empty();
    uint64_t* full = &ring_.full[at_.slot];
    if (lane_ == 0) {
      ptx::mbarrier_expect_bytes(full, static_cast<uint32_t>(boxes * tokens * 128));
    }
    __syncwarp();
    if (lane_ < boxes) {
      const CUtensorMap* map = whole ? (values ? &copies_.values : &copies_.keys)
                                     : (values ? &copies_.few_values : &copies_.few_keys);
      const int inside =
          (position + token - item.work.sequence.first_position) & (p_.layer.block_tokens - 1);
      ptx::load_box(slots_ + at_.slot * L::kSlot + panel * L::kPanel + token * 128, map, full,
                    ptx::kEvictFirst, panel * 64, inside, item.kv_head, block);
    }
    advance();
  }

  const DecodeAttention& p_;
  const Copies& copies_;
  uint8_t *slots_, *queries_;
  Ring& ring_;
  const int group_, lane_, shift_, unit_, per_tile_;
  ptx::RingPlace at_, begun_;
  int brought_ = 0;  // slots so far
  bool waited_ = false;  // for the kernels in front
  bool fresh_ = true;  // the ring has not been round yet: slots are free without waiting
};

}  // namespace troupe::cuda::decode
