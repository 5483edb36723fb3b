// decode_attention on Hopper. One producer warp brings keys and values of 64 tokens at a time, as
// boxes of the paged cache, into a ring of slots (decode_ring.cuh); four warps compute
// (decode_tile.cuh).
//
// A block begins with the item of its own number and that as far behind the middle of the second
// round, and then takes what is free: lists are sorted with the longest first, so blocks end
// together also when sequences differ in length.
//
// Shares of split sequences are counted in, and added up once the last is there, by a warp of its
// own: that waits for memory several times, and those who compute go on meanwhile.
#include "kernels/cuda/decode_ring.cuh"
#include "kernels/cuda/decode_stream.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/tensor_map.hpp"

namespace troupe::cuda {
namespace {

using namespace decode;

constexpr int kBlockThreads = kThreads + 64;

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
template <class T, int kDim, int kEights>
__device__ __forceinline__ void take_query(const uint8_t* query, int rows,
                                           Rows<T, kDim, kEights>& r) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int e = 0; e < kEights; ++e) {
    const int row = e * 8 + lane % 8;
    const uint32_t at =
        ptx::shared_address(query + (row < rows ? row : 0) * Layout<kDim>::kQueryRow);
    const bool there = e * 8 + lane / 4 < rows;
#pragma unroll
    for (int k = 0; k < kDim / 16; k += 2) {
      uint32_t b[4];
      ptx::load_matrix(b, at + static_cast<uint32_t>((k * 2 + lane / 8) * 16));
#pragma unroll
      for (int i = 0; i < 4; ++i) r.query[k + i / 2][e][i % 2] = there ? b[i] : 0;
    }
  }
}

template <class T, int kDim, int kEights, bool kRich>
__device__ void consume(const DecodeAttention& p, const Copies& copies, uint8_t* slots,
                        const uint8_t* queries, Ring& ring) {
  using L = Layout<kDim>;
  const int slot_count = copies.slots;
  auto* sets = reinterpret_cast<float*>(slots + slot_count * L::kSlot);
  const int group = p.shape.heads / p.layer.kv_heads;
  const int warp = threadIdx.x / 32;
  const bool leads = threadIdx.x % 32 == 0;
  ptx::RingPlace at, begun, handed;
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
  for (;; begun.next(kItems)) {
    ptx::mbarrier_wait(&ring.item_full[begun.slot], begun.parity);
    const Item item = ring.item[begun.slot];
    if (!item.valid) return hand_over(item);
    Rows<T, kDim, kEights> rows;
    begin_rows(item, group, rows);
    take_query(queries + begun.slot * copies.rows * L::kQueryRow,
               group * item.work.sequence.row_count, rows);
    // Everyone who has read, not one a warp: racecheck follows no thread through another's arrival.
    ptx::mbarrier_arrive(&ring.item_empty[begun.slot]);
    for (int tile = item.work.begin; tile < item.work.end; tile += kTokens) {
      const int position = tile + warp * kTile, count = item.work.end - position;
      ptx::mbarrier_wait(&ring.full[at.slot], at.parity);
      Weights<kEights> weights;
      if (count > 0) {
        const uint8_t* keys = slots + at.slot * L::kSlot + warp * kTile * 128;
        weights = score_tile<T, kDim, kEights, L, kRich>(p, item, group, position,
                                                         ptx::shared_address(keys), rows);
      }
      give_back();
      ptx::mbarrier_wait(&ring.full[at.slot], at.parity);
      if (count > 0) {
        uint8_t* values = slots + at.slot * L::kSlot + warp * kTile * 128;
        if (count < kTile) clean_tail<kDim>(values, count);
        sum_tile<T, kDim, kEights, L>(ptx::shared_address(values), weights, rows);
      }
      give_back();
    }
    leave_sums(p, item, group, sets, rows);
    if (item.work.shares > 1) hand_over(item);
  }
}

template <class T, int kDim>
__device__ void count_shares(const DecodeAttention& p, Ring& ring) {
  const int group = p.shape.heads / p.layer.kv_heads, lane = static_cast<int>(threadIdx.x) % 32;
  for (ptx::RingPlace handed;; handed.next(kHanded)) {
    ptx::mbarrier_wait(&ring.handed_full[handed.slot], handed.parity);
    const Item item = ring.handed[handed.slot];
    ptx::mbarrier_arrive(&ring.handed_empty[handed.slot]);
    if (!item.valid) return;
    bool last = false;
    if (lane == 0) last = count_in(p, item);
    if (__shfl_sync(0xffffffff, last ? 1 : 0, 0) == 0) continue;
    merge_shares<T, kDim, 4>(p, item, group, lane, 32);
  }
}

template <class T, int kDim, int kEights, bool kRich>
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
    for (int i = 0; i < kItems; ++i) {
      ptx::mbarrier_init(&ring.item_full[i], 1);
      ptx::mbarrier_init(&ring.item_empty[i], kThreads);
    }
    for (int i = 0; i < kHanded; ++i) {
      ptx::mbarrier_init(&ring.handed_full[i], kWarps);
      ptx::mbarrier_init(&ring.handed_empty[i], 32);
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
    consume<T, kDim, kEights, kRich>(p, copies, slots, queries, ring);
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

template <class T, int kDim, int kEights>
auto kernel_for(const AttentionShape& s) {
  const bool rich = s.softcap > 0.0F || s.alibi_slopes != nullptr || s.window > 0;
  return rich ? decode_stream_kernel<T, kDim, kEights, true>
              : decode_stream_kernel<T, kDim, kEights, false>;
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
  const auto kernel = rows <= 8 ? kernel_for<T, kDim, 1>(a.shape) : kernel_for<T, kDim, 2>(a.shape);
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
