// Attention of few query rows over a long paged cache: split along the cache, heads of a group
// packed (decode_tile.cuh). For any device whose blocks may have the shared memory; on compute
// capability 9.0 decode_stream.cu brings tiles by bulk copies instead.
//
// A work item is one share of one sequence's positions for one kv head. Its four warps take tiles
// of 16 tokens in turn, each with its own ring of asynchronous copies and its own running softmax,
// and meet only at the end of the item; the copies run ahead into the next item. Shares leave
// unnormalised sums; the block that finishes a sequence's last share adds them up in order. How a
// sequence is split depends on its own length only, so its result does not depend on the batch.
//
// On compute capability 9.0 few sequences that are not long are spread over clusters: each block of
// a cluster takes an eighth of a sequence, and all add up what they find in each other's memory.
#include <algorithm>

#include "kernels/cuda/decode_stream.hpp"
#include "kernels/cuda/decode_sums.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/cluster.cuh"
#include "kernels/cuda/ptx/grid.cuh"

namespace troupe::cuda {
namespace {

using namespace decode;

// A block's shared memory: a ring a warp, then kWarps sets of sums of at most `rows` rows.
template <int kDim>
struct Layout {
  static constexpr int kStages = 2;
  static constexpr int kChunks = kDim / 8;  // 16-byte pieces of a row
  static constexpr int kHalf = kTile * kDim * 2;
  static constexpr int kStage = 2 * kHalf;
  static constexpr int kWarpBytes = kStages * kStage;
  static constexpr int kRings = kWarps * kWarpBytes;
  static constexpr int bytes(int rows) { return kRings + kWarps * set_floats<kDim>(rows) * 4; }
  // Pieces are permuted within 128 bytes so that neither copies nor matrix loads collide on banks.
  __device__ static uint32_t at(int token, int chunk) {
    return static_cast<uint32_t>(token * kDim * 2 + ((chunk ^ (token & 7)) << 4));
  }
};

// Walks the tiles that are this warp's, item after item, and starts their copies.
template <class T, int kDim>
class Fetcher {
 public:
  __device__ Fetcher(const DecodeAttention& p, uint32_t ring, int items)
      : p_(p), ring_(ring), items_(items), index_(static_cast<int>(blockIdx.x)) {
    open();
  }
  // One item and no other.
  __device__ Fetcher(const DecodeAttention& p, uint32_t ring, const Item& only)
      : p_(p), ring_(ring), items_(0), index_(0), item_(only) {
    item_.valid = begin_item();
  }

  // As many tiles as there is room for, those of earlier steps before the kernels in front have
  // ended; when it returns, they have.
  __device__ __forceinline__ void start() {
    bool waited = false;
    for (int i = 0; i < Layout<kDim>::kStages - 1; ++i) {
      if (!waited && !settled()) {
        ptx::wait_for_earlier_kernels();
        waited = true;
      }
      next();
    }
    if (!waited) ptx::wait_for_earlier_kernels();
  }

  // One tile, or nothing when all are done; a group of copies is committed in any case.
  __device__ __forceinline__ void next() {
    const int32_t block = __shfl_sync(0xffffffff, blocks_, tile_ & 31);
    if (item_.valid) {
      copy(block);
      ++tile_;
      slot_ = slot_ + 1 == Layout<kDim>::kStages ? 0 : slot_ + 1;
      if (tile_ == mine_) {
        index_ += static_cast<int>(gridDim.x);
        open();
      }
    }
    ptx::commit_copies();
  }

 private:
  // Whether the next tile was complete before this step began.
  __device__ __forceinline__ bool settled() const {
    const AttentionSequence& s = item_.work.sequence;
    return item_.valid && min(position() + kTile, item_.work.end) <= s.kv_len - s.row_count;
  }

  __device__ __forceinline__ int position() const {
    return item_.work.begin + (static_cast<int>(threadIdx.x) / 32 + tile_ * kWarps) * kTile;
  }

  // Goes to the first item from index_ on that has tiles for this warp.
  __device__ void open() {
    for (;; index_ += static_cast<int>(gridDim.x)) {
      item_ = load_item(p_, index_, items_);
      if (!item_.valid || begin_item()) return;
    }
  }
  // False: no tile of it is this warp's.
  __device__ bool begin_item() {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int tiles = (item_.work.end - item_.work.begin + kTile - 1) / kTile;
    mine_ = tiles > warp ? (tiles - warp + kWarps - 1) / kWarps : 0;
    if (mine_ == 0) return false;
    tile_ = lane;
    const AttentionSequence& s = item_.work.sequence;
    if (lane < mine_) {
      blocks_ = p_.blocks[s.table_begin + (position() - s.first_position) / p_.layer.block_tokens];
    }
    tile_ = 0;
    return true;
  }

  // The 16 tokens from position() on; tokens past the share's end become zeros.
  __device__ __forceinline__ void copy(int32_t block) {
    using L = Layout<kDim>;
    const int lane = threadIdx.x % 32, begin = position();
    const PagedLayer& l = p_.layer;
    const int64_t base = block * l.block_stride + item_.kv_head * l.head_stride +
                         (begin & (l.block_tokens - 1)) * l.token_stride;
    const T* keys = static_cast<const T*>(l.keys) + base;
    const T* values = static_cast<const T*>(l.values) + base;
    const uint32_t to = ring_ + static_cast<uint32_t>(slot_ * L::kStage);
#pragma unroll
    for (int i = 0; i < kTile * L::kChunks / 32; ++i) {
      const int token = (i * 32 + lane) / L::kChunks, chunk = (i * 32 + lane) % L::kChunks;
      const bool there = begin + token < item_.work.end;
      const int64_t at = (there ? token : 0) * l.token_stride + chunk * 8;
      ptx::copy16_async(to + L::at(token, chunk), keys + at, there);
      ptx::copy16_async(to + L::kHalf + L::at(token, chunk), values + at, there);
    }
  }

  const DecodeAttention& p_;
  uint32_t ring_;
  int items_, index_;
  Item item_;
  int mine_ = 0, tile_ = 0, slot_ = 0;
  int32_t blocks_ = 0;  // of tile `lane`; a share has at most 32 tiles a warp
};

// This warp's tiles of an item, the first of which is in `slot`; gives the slot behind the last.
template <class T, int kDim, int kEights, bool kRich>
__device__ __forceinline__ int sum_tiles(const DecodeAttention& p, const Item& item, int group,
                                         uint32_t ring, Fetcher<T, kDim>& fetcher, int slot,
                                         Rows<T, kDim, kEights>& rows) {
  using L = Layout<kDim>;
  const int first = item.work.begin + static_cast<int>(threadIdx.x) / 32 * kTile;
  for (int at = first; at < item.work.end; at += kWarps * kTile) {
    ptx::wait_copies<L::kStages - 2>();
    __syncwarp();
    fetcher.next();
    const uint32_t tile = ring + static_cast<uint32_t>(slot * L::kStage);
    const Weights<kEights> weights =
        score_tile<T, kDim, kEights, L, kRich>(p, item, group, at, tile, rows);
    sum_tile<T, kDim, kEights, L>(tile + L::kHalf, weights, rows);
    slot = slot + 1 == L::kStages ? 0 : slot + 1;
  }
  return slot;
}

template <class T, int kDim, int kEights>
__global__ void __launch_bounds__(kThreads, 2)
    decode_attention_kernel(const __grid_constant__ DecodeAttention p) {
#if __CUDA_ARCH__ < 900  // of what runs here, decode_stream.cu has the rest
  using L = Layout<kDim>;
  extern __shared__ __align__(128) uint8_t shared[];
  ptx::let_next_kernel_start();
  const int group = p.shape.heads / p.layer.kv_heads;
  const int items = *p.work_count * p.layer.kv_heads;
  const int warp = threadIdx.x / 32;
  const uint32_t ring = ptx::shared_address(shared) + static_cast<uint32_t>(warp * L::kWarpBytes);
  auto* sets = reinterpret_cast<float*>(shared + L::kRings);
  Fetcher<T, kDim> fetcher(p, ring, items);
  fetcher.start();
  int slot = 0;
  for (int index = static_cast<int>(blockIdx.x);; index += static_cast<int>(gridDim.x)) {
    const Item item = load_item(p, index, items);
    if (!item.valid) break;
    Rows<T, kDim, kEights> rows;
    begin_rows(item, group, rows);
    load_query(p, item, group, rows);
    slot = sum_tiles<T, kDim, kEights, true>(p, item, group, ring, fetcher, slot, rows);
    leave_sums(p, item, group, sets, rows);
    if (item.work.shares == 1) continue;
    __shared__ bool last;
    if (threadIdx.x == 0) last = count_in(p, item);
    meet();
    if (last) merge_shares<T, kDim, 1>(p, item, group, static_cast<int>(threadIdx.x), kThreads);
  }
  ptx::wait_copies<0>();
#endif
}

// ---- clusters ----

constexpr int kCluster = 8;

template <int kDim>
constexpr int cluster_bytes(int rows) {
  return Layout<kDim>::kRings + (kWarps + 1) * set_floats<kDim>(rows) * 4;
}

// What all blocks of the cluster have: the last set of each is its own sum. Blocks take turns.
template <class T, int kDim>
__device__ __forceinline__ void add_cluster(const DecodeAttention& p, const Item& item, int group,
                                            const float* own) {
  const int rows = group * item.work.sequence.row_count, shares = item.work.shares;
  const auto* heads = reinterpret_cast<const float2*>(own + rows * kDim);
  for (int i = item.work.share * kThreads + static_cast<int>(threadIdx.x); i < rows * (kDim / 4);
       i += kCluster * kThreads) {
    const int row = i / (kDim / 4), column = i % (kDim / 4) * 4;
    const auto* place = reinterpret_cast<const float4*>(own + row * kDim + column);
    float2 head[kCluster];
    float4 x[kCluster];
    float top = kNone;
#pragma unroll
    for (int k = 0; k < kCluster; ++k) {
      if (k >= shares) break;
      head[k] = ptx::load_at(heads + row, static_cast<uint32_t>(k));
      x[k] = ptx::load_at(place, static_cast<uint32_t>(k));
    }
#pragma unroll
    for (int k = 0; k < kCluster; ++k) {
      if (k < shares) top = fmaxf(top, head[k].x);
    }
    float4 sum = {};
    float weight = 0.0F;
#pragma unroll
    for (int k = 0; k < kCluster; ++k) {
      if (k >= shares) break;
      const float factor = exp2_fast(head[k].x - top);
      sum.x += x[k].x * factor;
      sum.y += x[k].y * factor;
      sum.z += x[k].z * factor;
      sum.w += x[k].w * factor;
      weight += head[k].y * factor;
    }
    write_row<T, kDim>(p, item, group, row, column, sum, top, weight);
  }
}

// A cluster a sequence and kv head.
template <class T, int kDim, int kEights>
__global__ void __launch_bounds__(kThreads, 2)
    decode_cluster_kernel(const __grid_constant__ DecodeAttention p) {
#if __CUDA_ARCH__ >= 900
  using L = Layout<kDim>;
  extern __shared__ __align__(128) uint8_t shared[];
  ptx::let_next_kernel_start();
  const int group = p.shape.heads / p.layer.kv_heads, warp = static_cast<int>(threadIdx.x) / 32;
  Item item;
  item.work.sequence = p.sequences[blockIdx.x / kCluster];
  item.kv_head = static_cast<int>(blockIdx.y);
  const int kv_len = item.work.sequence.kv_len, round = kWarps * kTile;
  const int each = ((kv_len + round - 1) / round + kCluster - 1) / kCluster * round;
  item.work.share = static_cast<int>(ptx::cluster_rank());
  item.work.shares = (kv_len + each - 1) / each;
  item.work.begin = min(item.work.share * each, kv_len);
  item.work.end = min(item.work.begin + each, kv_len);
  item.valid = true;
  const uint32_t ring = ptx::shared_address(shared) + static_cast<uint32_t>(warp * L::kWarpBytes);
  Fetcher<T, kDim> fetcher(p, ring, item);
  fetcher.start();
  const int row_count = group * item.work.sequence.row_count;
  auto* sets = reinterpret_cast<float*>(shared + L::kRings);
  float* own = sets + kWarps * set_floats<kDim>(row_count);
  if (item.work.share < item.work.shares) {
    Rows<T, kDim, kEights> rows;
    begin_rows(item, group, rows);
    load_query(p, item, group, rows);
    sum_tiles<T, kDim, kEights, false>(p, item, group, ring, fetcher, 0, rows);
    put_set(sets + warp * set_floats<kDim>(row_count), row_count, rows);
    meet();
    const Sets warps = {sets, set_floats<kDim>(row_count), kWarps, row_count};
    for (int i = threadIdx.x; i < row_count * (kDim / 4); i += kThreads) {
      const int row = i / (kDim / 4), column = i % (kDim / 4) * 4;
      const Added<1> all = add_sets<kDim, 1>(warps, row, column);
      *reinterpret_cast<float4*>(own + row * kDim + column) = all.sum[0];
      if (column == 0)
        *reinterpret_cast<float2*>(own + row_count * kDim + row * 2) = {all.top[0], all.weight[0]};
    }
  }
  ptx::cluster_meet();
  add_cluster<T, kDim>(p, item, group, own);
  ptx::wait_copies<0>();
  ptx::cluster_meet();  // what the others read stays until they have
#endif
}

template <class T, int kDim>
cudaError_t spread(const DecodeAttention& args, cudaStream_t stream) {
  const int rows = args.shape.heads / args.layer.kv_heads;
  const auto kernel =
      rows <= 8 ? decode_cluster_kernel<T, kDim, 1> : decode_cluster_kernel<T, kDim, 2>;
  const auto shared = static_cast<size_t>(cluster_bytes<kDim>(rows));
  TR_CUDA_TRY(allow_shared(kernel, shared));
  const dim3 grid(static_cast<unsigned>(args.sequence_count) * kCluster,
                  static_cast<unsigned>(args.layer.kv_heads));
  return launch(kernel, {grid, dim3(kThreads), shared, kCluster}, stream, args);
}

template <class T, int kDim>
cudaError_t run(const DecodeAttention& args, int multiprocessors, cudaStream_t stream) {
  if constexpr (kDim < 256) {
    if (args.sequences != nullptr) return spread<T, kDim>(args, stream);
  }
  if (runs_hopper_code()) return stream_decode<T, kDim>(args, multiprocessors, stream);
  const int rows = args.shape.heads / args.layer.kv_heads * args.rows_max;
  const auto kernel =
      rows <= 8 ? decode_attention_kernel<T, kDim, 1> : decode_attention_kernel<T, kDim, 2>;
  const auto shared = static_cast<size_t>(Layout<kDim>::bytes(rows));
  int together = 0;
  TR_CUDA_TRY(allow_shared(kernel, shared));
  TR_CUDA_TRY(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&together, kernel, kThreads, shared));
  const int blocks = multiprocessors * std::clamp(together, 1, 4);
  return launch(kernel, {dim3(static_cast<unsigned>(blocks)), dim3(kThreads), shared}, stream,
                args);
}

template <class T>
cudaError_t by_dim(const DecodeAttention& args, int multiprocessors, cudaStream_t stream) {
  switch (args.shape.head_dim) {
    case 64:
      return run<T, 64>(args, multiprocessors, stream);
    case 128:
      return run<T, 128>(args, multiprocessors, stream);
    case 256:
      return run<T, 256>(args, multiprocessors, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

bool decode_attention_fits(const AttentionShape& s, const PagedLayer& l, int32_t rows_max,
                           size_t shared_max) {
  const int rows = s.heads / l.kv_heads * rows_max;
  const int shared = s.head_dim == 64    ? Layout<64>::bytes(rows)
                     : s.head_dim == 128 ? Layout<128>::bytes(rows)
                                         : Layout<256>::bytes(rows);
  return (s.head_dim == 64 || s.head_dim == 128 || s.head_dim == 256) &&
         (s.dtype == DType::f16 || s.dtype == DType::bf16) && l.block_tokens % kTile == 0 &&
         (l.block_tokens & (l.block_tokens - 1)) == 0 && rows <= kDecodeRowsMax &&
         static_cast<size_t>(shared) <= shared_max;
}

bool decode_spreads(const AttentionShape& s, const PagedLayer& l, int32_t sequences,
                    int32_t multiprocessors) {
  return runs_hopper_code() && s.head_dim < 256 && s.window == 0 && s.softcap == 0.0F &&
         s.alibi_slopes == nullptr && l.kv_heads * sequences * kCluster <= 2 * multiprocessors;
}

size_t decode_partials_floats(int head_dim) {
  return static_cast<size_t>(kRows) * static_cast<size_t>(head_dim + 2);
}

cudaError_t decode_attention(const DecodeAttention& args, int multiprocessors,
                             cudaStream_t stream) {
  return args.shape.dtype == DType::f16 ? by_dim<__half>(args, multiprocessors, stream)
                                        : by_dim<__nv_bfloat16>(args, multiprocessors, stream);
}

}  // namespace troupe::cuda
