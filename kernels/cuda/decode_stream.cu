// decode_attention on Hopper. One producer warp brings keys and values of 64 tokens at a time, as
// boxes of the paged cache, into a ring of slots; four warps compute (decode_tile.cuh).
//
// The producer goes from item to item by itself: it knows the next item's place and blocks while
// this one's tiles are under way, so the ring stays full while the others finish an item. It brings
// the query as well. Cached tokens of earlier steps do not depend on the kernels in front, so the
// first item's tiles are asked for before those have ended; queries do, and follow.
//
// A block begins with the item of its own number and that as far behind the middle of the second
// round, and then takes what is free: lists are sorted with the longest first, so blocks end
// together also when sequences differ in length.
//
// Shares of split sequences are counted in, and added up once the last is there, by a warp of its
// own: that waits for memory several times, and those who compute go on meanwhile.
#include "kernels/cuda/decode_stream.hpp"
#include "kernels/cuda/decode_tile.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/ring.cuh"
#include "kernels/cuda/ptx/tma.cuh"
#include "kernels/cuda/tensor_map.hpp"

namespace troupe::cuda {
namespace {

using namespace decode;

constexpr int kBlockThreads = kThreads + 64;
constexpr int kTokens = 64;  // of a slot
constexpr int kSlotsMax = 12;
constexpr int kQueries = 3;  // of items that can be there at once
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
    return 1024 + slots * kSlot + sets_bytes(rows) + kQueries * rows * kQueryRow;
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
  uint64_t query_full[kQueries], query_empty[kQueries];
  uint64_t handed_full[kHanded], handed_empty[kHanded];
  Item item[kSlotsMax];  // that begins in this slot of keys; not valid: no more work
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
      if (waited_) bring_query(item);
      const int tiles = (item.work.end - item.work.begin + kTokens - 1) / kTokens;
      const Item next = load_item(p_, __shfl_sync(0xffffffff, taken, 0), items);
      int32_t next_blocks = 0;
      if (tiles == 0) {
        next_blocks = look_up(next, 0);
        wait_for_query(item);
        pass(item);
      }
      for (int tile = 0; tile < tiles; ++tile) {
        if (!settled(item, tile) || brought_ + 2 > copies_.slots) wait_for_query(item);
        const int unit = tile * per_tile_;
        if (tile > 0 && unit % 32 == 0) blocks = look_up(item, unit);
        bring(item, tile, blocks, false);
        bring(item, tile, blocks, true);
        if (tile == 0) next_blocks = look_up(next, 0);
      }
      wait_for_query(item);
      taken = lane_ == 0 ? static_cast<int32_t>(atomicAdd(p_.counters, 1U) + 2 * gridDim.x) : 0;
      item = next;
      blocks = next_blocks;
    }
    if (!waited_) ptx::wait_for_earlier_kernels();
    pass(item);
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
  // The first item's query, if it was not brought yet: at the latest when its tiles wait for those
  // who need it.
  __device__ __forceinline__ void wait_for_query(const Item& item) {
    if (waited_) return;
    ptx::wait_for_earlier_kernels();
    waited_ = true;
    bring_query(item);
  }
  __device__ void bring_query(const Item& item) {
    const int rows = group_ * item.work.sequence.row_count;
    uint64_t* full = &ring_.query_full[query_.slot];
    if (lane_ == 0) {
      // Of a barrier that has not been through a phase the one before counts as over.
      ptx::mbarrier_wait(&ring_.query_empty[query_.slot], query_.parity ^ 1);
      ptx::mbarrier_expect_bytes(full, static_cast<uint32_t>(rows * kDim * 2));
    }
    __syncwarp();
    if (lane_ < rows) {
      ptx::load_row(queries_ + (query_.slot * copies_.rows + lane_) * L::kQueryRow,
                    query_row<T, kDim>(p_, item, group_, lane_), kDim * 2, full);
    }
    query_.next(kQueries);
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
  // An item without tiles takes a slot without bytes: one hidden by a window, or the end.
  __device__ __forceinline__ void pass(const Item& item) {
    wait_empty();
    if (lane_ == 0) {
      ring_.item[at_.slot] = item;
      ptx::mbarrier_arrive(&ring_.full[at_.slot]);
    }
    advance();
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
      if (tile == 0 && !values) ring_.item[at_.slot] = item;
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
  ptx::RingPlace at_, query_;
  int brought_ = 0;  // slots so far
  bool waited_ = false;  // for the kernels in front
  bool fresh_ = true;  // the ring has not been round yet: slots are free without waiting
};

// Values behind the share's last token may be anything, NaN too, and a weight of zero does not stop
// a NaN: they become zeros. One warp, for its own 16 tokens, of which the first `count` count.
template <int kDim>
__device__ void clean_tail(uint8_t* values, int count) {
  const int lane = threadIdx.x % 32;
  constexpr int kPieces = kDim / 8;
  for (int i = lane; i < (kTile - count) * kPieces; i += 32) {
    const uint32_t at = Layout<kDim>::at(count + i / kPieces, i % kPieces);
    *reinterpret_cast<uint4*>(values + at) = make_uint4(0, 0, 0, 0);
  }
  ptx::fence_proxy_async();
  __syncwarp();
}

// The packed query rows as matrix fragments.
template <class T, int kDim>
__device__ __forceinline__ void take_query(const uint8_t* query, int rows, Rows<T, kDim>& r) {
  const int lane = threadIdx.x % 32, row = lane % 16;
  const uint32_t at = ptx::shared_address(query + (row < rows ? row : 0) * Layout<kDim>::kQueryRow);
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    ptx::load_matrix(r.query[k], at + static_cast<uint32_t>((k * 2 + lane / 16) * 16));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (lane / 4 + i % 2 * 8 >= rows) r.query[k][i] = 0;
    }
  }
}

template <class T, int kDim, bool kRich>
__device__ void consume(const DecodeAttention& p, const Copies& copies, uint8_t* slots,
                        const uint8_t* queries, Ring& ring) {
  using L = Layout<kDim>;
  const int slot_count = copies.slots;
  auto* sets = reinterpret_cast<float*>(slots + slot_count * L::kSlot);
  const int group = p.shape.heads / p.layer.kv_heads;
  const int warp = threadIdx.x / 32;
  const bool leads = threadIdx.x % 32 == 0;
  ptx::RingPlace at, query, handed;
  const auto give_back = [&] {
    __syncwarp();
    if (leads) ptx::mbarrier_arrive(&ring.empty[at.slot]);
    at.next(slot_count);
  };
  // To the warp that counts; an item that is not valid is the end.
  const auto hand_over = [&](const Item& item) {
    ptx::mbarrier_wait(&ring.handed_empty[handed.slot], handed.parity ^ 1);
    if (threadIdx.x == 0) ring.handed[handed.slot] = item;
    __syncwarp();
    if (leads) ptx::mbarrier_arrive(&ring.handed_full[handed.slot]);
    handed.next(kHanded);
  };
  for (;; query.next(kQueries)) {
    ptx::mbarrier_wait(&ring.full[at.slot], at.parity);
    const Item item = ring.item[at.slot];
    if (!item.valid) return hand_over(item);
    Rows<T, kDim> rows;
    begin_rows<T, kDim>(item, group, rows);
    ptx::mbarrier_wait(&ring.query_full[query.slot], query.parity);
    take_query<T, kDim>(queries + query.slot * copies.rows * L::kQueryRow,
                        group * item.work.sequence.row_count, rows);
    __syncwarp();
    if (leads) ptx::mbarrier_arrive(&ring.query_empty[query.slot]);
    if (item.work.begin >= item.work.end) give_back();  // a share that a window hides
    for (int tile = item.work.begin; tile < item.work.end; tile += kTokens) {
      const int position = tile + warp * kTile, count = item.work.end - position;
      ptx::mbarrier_wait(&ring.full[at.slot], at.parity);
      Weights weights;
      if (count > 0) {
        const uint8_t* keys = slots + at.slot * L::kSlot + warp * kTile * 128;
        weights = score_tile<T, kDim, L, kRich>(p, item, group, position, ptx::shared_address(keys),
                                                rows);
      }
      give_back();
      ptx::mbarrier_wait(&ring.full[at.slot], at.parity);
      if (count > 0) {
        uint8_t* values = slots + at.slot * L::kSlot + warp * kTile * 128;
        if (count < kTile) clean_tail<kDim>(values, count);
        sum_tile<T, kDim, L>(ptx::shared_address(values), weights, rows);
      }
      give_back();
    }
    leave_sums<T, kDim>(p, item, group, sets, rows);
    if (item.work.shares > 1) hand_over(item);
  }
}

template <class T, int kDim>
__device__ void count_shares(const DecodeAttention& p, Ring& ring) {
  const int group = p.shape.heads / p.layer.kv_heads, lane = static_cast<int>(threadIdx.x) % 32;
  for (ptx::RingPlace handed;; handed.next(kHanded)) {
    ptx::mbarrier_wait(&ring.handed_full[handed.slot], handed.parity);
    const Item item = ring.handed[handed.slot];
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(&ring.handed_empty[handed.slot]);
    if (!item.valid) return;
    bool last = false;
    if (lane == 0) last = count_in(p, item);
    if (__shfl_sync(0xffffffff, last ? 1 : 0, 0) == 0) continue;
    merge_shares<T, kDim, 4>(p, item, group, lane, 32);
  }
}

template <class T, int kDim, bool kRich>
__global__ void __launch_bounds__(kBlockThreads, kDim == 256 ? 1 : 2)
    decode_stream_kernel(const __grid_constant__ Copies copies,
                         const __grid_constant__ DecodeAttention p) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ uint8_t dynamic[];
  uint8_t* slots = dynamic + (1024 - ptx::shared_address(dynamic) % 1024) % 1024;
  __shared__ Ring ring;
  if (threadIdx.x == 0) {
    for (int i = 0; i < copies.slots; ++i) {
      ptx::mbarrier_init(&ring.full[i], 1);
      ptx::mbarrier_init(&ring.empty[i], kWarps);
    }
    for (int i = 0; i < kQueries; ++i) {
      ptx::mbarrier_init(&ring.query_full[i], 1);
      ptx::mbarrier_init(&ring.query_empty[i], kWarps);
    }
    for (int i = 0; i < kHanded; ++i) {
      ptx::mbarrier_init(&ring.handed_full[i], kWarps);
      ptx::mbarrier_init(&ring.handed_empty[i], 1);
    }
    ptx::fence_barrier_init();
  }
  uint8_t* queries =
      slots + copies.slots * Layout<kDim>::kSlot + Layout<kDim>::sets_bytes(copies.rows);
  __syncthreads();
  ptx::let_next_kernel_start();
  if (threadIdx.x >= kThreads + 32) {
    ptx::wait_for_earlier_kernels();
    count_shares<T, kDim>(p, ring);
  } else if (threadIdx.x >= kThreads) {
    Producer<T, kDim>(p, copies, slots, queries, ring).run();
  } else {
    ptx::wait_for_earlier_kernels();
    consume<T, kDim, kRich>(p, copies, slots, queries, ring);
  }
#endif
}

cudaError_t describe(Copies& copies, const DecodeAttention& a) {
  const PagedLayer& l = a.layer;
  TensorShape s;
  s.axes = 4;
  const uint64_t sizes[4] = {static_cast<uint64_t>(a.shape.head_dim),
                             static_cast<uint64_t>(l.block_tokens),
                             static_cast<uint64_t>(l.kv_heads), static_cast<uint64_t>(l.blocks)};
  const int64_t strides[3] = {l.token_stride, l.head_stride, l.block_stride};
  copies.few = l.block_tokens < kTokens ? kTile : kTile / 2;
  const uint32_t box[4] = {64, static_cast<uint32_t>(copies.few), 1, 1};
  for (int i = 0; i < 4; ++i) {
    s.sizes[i] = sizes[i];
    s.box[i] = box[i];
    if (i < 3) s.strides_bytes[i] = static_cast<uint64_t>(strides[i]) * 2;
  }
  TR_CUDA_TRY(make_tensor_map(&copies.few_keys, l.keys, a.shape.dtype, s));
  TR_CUDA_TRY(make_tensor_map(&copies.few_values, l.values, a.shape.dtype, s));
  if (l.block_tokens < kTokens) return cudaSuccess;
  s.box[1] = kTokens;
  TR_CUDA_TRY(make_tensor_map(&copies.keys, l.keys, a.shape.dtype, s));
  return make_tensor_map(&copies.values, l.values, a.shape.dtype, s);
}

}  // namespace

template <class T, int kDim>
cudaError_t stream_decode(const DecodeAttention& a, int multiprocessors, cudaStream_t stream) {
  using L = Layout<kDim>;
  Copies copies = {};
  TR_CUDA_TRY(describe(copies, a));
  // As long a ring as leaves room for two blocks on a multiprocessor, where registers allow two.
  constexpr int kBlocks = kDim == 256 ? 1 : 2, kOwn = 2048;
  const int rows = a.shape.heads / a.layer.kv_heads * a.rows_max;
  const int room = (227 << 10) / kBlocks - kOwn - L::bytes(0, rows);
  copies.rows = rows;
  copies.slots = room / L::kSlot < kSlotsMax ? room / L::kSlot : kSlotsMax;
  const AttentionShape& s = a.shape;
  const bool rich = s.softcap > 0.0F || s.alibi_slopes != nullptr || s.window > 0;
  const auto kernel =
      rich ? decode_stream_kernel<T, kDim, true> : decode_stream_kernel<T, kDim, false>;
  TR_CUDA_TRY(allow_shared(kernel, (227 << 10) - kOwn));
  return launch(kernel,
                {dim3(static_cast<unsigned>(multiprocessors * kBlocks)), dim3(kBlockThreads),
                 static_cast<size_t>(L::bytes(copies.slots, rows))},
                stream, copies, a);
}

template cudaError_t stream_decode<__half, 64>(const DecodeAttention&, int, cudaStream_t);
template cudaError_t stream_decode<__half, 128>(const DecodeAttention&, int, cudaStream_t);
template cudaError_t stream_decode<__half, 256>(const DecodeAttention&, int, cudaStream_t);
template cudaError_t stream_decode<__nv_bfloat16, 64>(const DecodeAttention&, int, cudaStream_t);
template cudaError_t stream_decode<__nv_bfloat16, 128>(const DecodeAttention&, int, cudaStream_t);
template cudaError_t stream_decode<__nv_bfloat16, 256>(const DecodeAttention&, int, cudaStream_t);

}  // namespace troupe::cuda
