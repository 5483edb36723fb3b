// Attention of few query rows over a long paged cache: split along the cache, heads of a group
// packed (decode_tile.cuh). For any device whose blocks may have the shared memory; on compute
// capability 9.0 decode_stream.cu brings tiles by bulk copies instead.
//
// A work item is one share of one sequence's positions for one kv head. Its four warps take tiles
// of 16 tokens in turn, each with its own ring of asynchronous copies and its own running softmax,
// and meet only at the end of the item; the copies run ahead into the next item. Shares leave
// unnormalised sums; the block that finishes a sequence's last share adds them up in order. How a
// sequence is split depends on its own length only, so its result does not depend on the batch.
#include <algorithm>

#include "kernels/cuda/decode_stream.hpp"
#include "kernels/cuda/decode_tile.cuh"
#include "kernels/cuda/launch.cuh"
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

  // Whether the next tile was complete before this step began.
  __device__ __forceinline__ bool settled() const {
    const AttentionSequence& s = item_.work.sequence;
    return item_.valid && min(position() + kTile, item_.work.end) <= s.kv_len - s.row_count;
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
  __device__ __forceinline__ int position() const {
    return item_.work.begin + (static_cast<int>(threadIdx.x) / 32 + tile_ * kWarps) * kTile;
  }

  // Goes to the first item from index_ on that has tiles for this warp.
  __device__ void open() {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (;; index_ += static_cast<int>(gridDim.x)) {
      item_ = load_item(p_, index_, items_);
      if (!item_.valid) return;
      const int tiles = (item_.work.end - item_.work.begin + kTile - 1) / kTile;
      mine_ = tiles > warp ? (tiles - warp + kWarps - 1) / kWarps : 0;
      if (mine_ > 0) break;
    }
    tile_ = lane;
    const AttentionSequence& s = item_.work.sequence;
    if (lane < mine_) {
      blocks_ = p_.blocks[s.table_begin + (position() - s.first_position) / p_.layer.block_tokens];
    }
    tile_ = 0;
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

template <class T, int kDim>
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
  bool waited = false;
  for (int i = 0; i < L::kStages - 1; ++i) {
    if (!waited && !fetcher.settled()) {
      ptx::wait_for_earlier_kernels();
      waited = true;
    }
    fetcher.next();
  }
  if (!waited) ptx::wait_for_earlier_kernels();
  int slot = 0;
  for (int index = static_cast<int>(blockIdx.x);; index += static_cast<int>(gridDim.x)) {
    const Item item = load_item(p, index, items);
    if (!item.valid) break;
    Rows<T, kDim> rows;
    begin_rows<T, kDim>(item, group, rows);
    load_query<T, kDim>(p, item, group, rows);
    for (int at = item.work.begin + warp * kTile; at < item.work.end; at += kWarps * kTile) {
      ptx::wait_copies<L::kStages - 2>();
      __syncwarp();
      fetcher.next();
      const uint32_t tile = ring + static_cast<uint32_t>(slot * L::kStage);
      const Weights weights = score_tile<T, kDim, L, true>(p, item, group, at, tile, rows);
      sum_tile<T, kDim, L>(tile + L::kHalf, weights, rows);
      slot = slot + 1 == L::kStages ? 0 : slot + 1;
    }
    leave_sums<T, kDim>(p, item, group, sets, rows);
    if (item.work.shares == 1) continue;
    __shared__ bool last;
    if (threadIdx.x == 0) last = count_in(p, item);
    meet();
    if (last) merge_shares<T, kDim, 1>(p, item, group, static_cast<int>(threadIdx.x), kThreads);
  }
  ptx::wait_copies<0>();
#endif
}

template <class T, int kDim>
cudaError_t run(const DecodeAttention& args, int multiprocessors, cudaStream_t stream) {
  if (runs_hopper_code()) return stream_decode<T, kDim>(args, multiprocessors, stream);
  const auto kernel = decode_attention_kernel<T, kDim>;
  const auto shared = static_cast<size_t>(
      Layout<kDim>::bytes(args.shape.heads / args.layer.kv_heads * args.rows_max));
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

size_t decode_partials_floats(int head_dim) {
  return static_cast<size_t>(kRows) * static_cast<size_t>(head_dim + 2);
}

cudaError_t decode_attention(const DecodeAttention& args, int multiprocessors,
                             cudaStream_t stream) {
  return args.shape.dtype == DType::f16 ? by_dim<__half>(args, multiprocessors, stream)
                                        : by_dim<__nv_bfloat16>(args, multiprocessors, stream);
}

}  // namespace troupe::cuda
