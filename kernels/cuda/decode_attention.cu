// Attention of few query rows over a long paged cache: split along the cache, heads of a group
// packed.
//
// A work item is one share of one sequence's positions for one kv head. Its four warps take tiles
// of 16 tokens in turn, each with its own ring of asynchronous copies and its own running softmax,
// and meet only at the end of the item; the copies run ahead into the next item. All query heads of
// the group (times the query rows) are the 16 rows of the matrix instruction, so a key is read once
// for all of them. Shares leave unnormalised sums; the block that finishes a sequence's last share
// adds them up in order. How a sequence is split depends on its own length only, so its result does
// not depend on the batch.
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/mma.cuh"

namespace troupe::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kTile = 16;
constexpr int kRows = kDecodeRowsMax;
constexpr float kLog2e = 1.44269504F;
constexpr float kNone = -1e30F;  // stands for minus infinity without making NaNs

// A block's shared memory: a ring a warp, then kWarps sets of sums of at most `rows` rows.
template <int kDim>
struct Layout {
  static constexpr int kStages = kDim >= 256 ? 2 : 3;
  static constexpr int kChunks = kDim / 8;  // 16-byte pieces of a row
  static constexpr int kHalf = kTile * kDim * 2;
  static constexpr int kStage = 2 * kHalf;
  static constexpr int kWarpBytes = kStages * kStage;
  static constexpr int kRings = kWarps * kWarpBytes;
  // Sums of a set of rows: the rows, then (top, weight) of each; whole 16-byte pieces.
  __host__ __device__ static constexpr int set_floats(int rows) {
    return (rows * (kDim + 2) + 3) / 4 * 4;
  }
  __host__ __device__ static constexpr int bytes(int rows) {
    return kRings + kWarps * set_floats(rows) * 4;
  }
};

struct Item {
  DecodeWork work;
  int32_t kv_head;
  bool valid;
};

__device__ __forceinline__ Item load_item(const DecodeAttention& p, int index, int items) {
  Item item;
  item.valid = index < items;
  if (!item.valid) return item;
  const auto* words =
      reinterpret_cast<const int4*>(p.work + index / p.layer.kv_heads * p.work_stride);
  auto* to = reinterpret_cast<int4*>(&item.work);
  static_assert(sizeof(DecodeWork) == 48, "read as three 16-byte words");
#pragma unroll
  for (int i = 0; i < 3; ++i) to[i] = words[i];
  item.kv_head = index % p.layer.kv_heads;
  const AttentionSequence& s = item.work.sequence;
  if (p.shape.window > 0) {  // tiles that no row sees are not even read
    const int first = (s.kv_len - s.row_count + 1 - p.shape.window) / kTile * kTile;
    item.work.begin = min(max(item.work.begin, first), item.work.end);
  }
  return item;
}

// Byte offset of a 16-byte piece within a tile: pieces are permuted within 128 bytes so that
// neither copies nor matrix loads collide on banks.
template <int kDim>
__device__ __forceinline__ uint32_t piece(int token, int chunk) {
  return static_cast<uint32_t>(token * kDim * 2 + ((chunk ^ (token & 7)) << 4));
}

template <class T, int kDim>
struct Rows {
  uint32_t query[kDim / 16][4];
  float sum[kDim / 8][4];
  float top[2], weight[2];
};

// The query rows this lane holds of the matrix fragment: g and g + 8 of the packed rows.
template <class T, int kDim>
__device__ void load_query(const DecodeAttention& p, const Item& item, int group,
                           Rows<T, kDim>& r) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const AttentionSequence& s = item.work.sequence;
  const int rows = group * s.row_count;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = g + half * 8;
    const bool there = row < rows;
    const int64_t at = (s.row_begin + (there ? row / group : 0)) * p.query_stride +
                       (item.kv_head * group + (there ? row % group : 0)) * kDim;
    const auto* words = reinterpret_cast<const uint32_t*>(static_cast<const T*>(p.query) + at);
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      r.query[k][half] = there ? words[k * 8 + t] : 0;
      r.query[k][half + 2] = there ? words[k * 8 + t + 4] : 0;
    }
    r.top[half] = kNone;
    r.weight[half] = 0.0F;
  }
#pragma unroll
  for (int i = 0; i < kDim / 8; ++i) r.sum[i][0] = r.sum[i][1] = r.sum[i][2] = r.sum[i][3] = 0.0F;
}

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
      ptx::copy16_async(to + piece<kDim>(token, chunk), keys + at, there);
      ptx::copy16_async(to + L::kHalf + piece<kDim>(token, chunk), values + at, there);
    }
  }

  const DecodeAttention& p_;
  uint32_t ring_;
  int items_, index_;
  Item item_;
  int mine_ = 0, tile_ = 0, slot_ = 0;
  int32_t blocks_ = 0;  // of tile `lane`; a share has at most 32 tiles a warp
};

// What the score of (packed row, position) becomes before the softmax, in powers of two.
__device__ __forceinline__ float shaped(const DecodeAttention& p, const Item& item, int group,
                                        int row, int position, float score) {
  const AttentionShape& s = p.shape;
  float x = score * s.scale;
  if (s.softcap > 0.0F) x = s.softcap * tanhf(x / s.softcap);
  const AttentionSequence& q = item.work.sequence;
  const int own = q.causal ? q.kv_len - q.row_count + row / group : q.kv_len - 1;
  if (s.alibi_slopes != nullptr) {
    x += s.alibi_slopes[item.kv_head * group + row % group] * static_cast<float>(position - own);
  }
  const bool seen =
      position <= own && position < item.work.end && (s.window == 0 || position > own - s.window);
  return seen ? x * kLog2e : kNone;
}

template <class T, int kDim>
__device__ void take_tile(const DecodeAttention& p, const Item& item, int group, int position,
                          uint32_t at, Rows<T, kDim>& r) {
  using L = Layout<kDim>;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, i = lane / 8;
  float score[2][4] = {};
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    uint32_t b[4];
    ptx::load_matrix(b, at + piece<kDim>((i / 2) * 8 + lane % 8, k * 2 + (i & 1)));
    ptx::mma_16x8x16<T>(score[0], r.query[k], b[0], b[1]);
    ptx::mma_16x8x16<T>(score[1], r.query[k], b[2], b[3]);
  }
  const AttentionSequence& q = item.work.sequence;
  const bool plain = p.shape.softcap == 0.0F && p.shape.alibi_slopes == nullptr &&
                     p.shape.window == 0 && position + kTile <= item.work.end &&
                     (q.causal == 0 || position + kTile <= q.kv_len - q.row_count + 1);
  const float scale = p.shape.scale * kLog2e;
  float grown[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = r.top[half];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& x = score[n][half * 2 + c];
        x = plain ? x * scale
                  : shaped(p, item, group, g + half * 8, position + n * 8 + t * 2 + c, x);
        top = fmaxf(top, x);
      }
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
    grown[half] = exp2f(r.top[half] - top);
    r.top[half] = top;
    float weight = 0.0F;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& x = score[n][half * 2 + c];
        x = x <= kNone ? 0.0F : exp2f(x - top);
        weight += x;
      }
    }
    r.weight[half] = r.weight[half] * grown[half] + weight;
  }
  const uint32_t a[4] = {pack<T>(score[0][0], score[0][1]), pack<T>(score[0][2], score[0][3]),
                         pack<T>(score[1][0], score[1][1]), pack<T>(score[1][2], score[1][3])};
#pragma unroll
  for (int n = 0; n < kDim / 16; ++n) {
    uint32_t b[4];
    ptx::load_matrix_transposed(
        b, at + L::kHalf + piece<kDim>((i & 1) * 8 + lane % 8, n * 2 + (i >> 1)));
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float(&sum)[4] = r.sum[n * 2 + j];
      sum[0] *= grown[0];
      sum[1] *= grown[0];
      sum[2] *= grown[1];
      sum[3] *= grown[1];
      ptx::mma_16x8x16<T>(sum, a, b[j * 2], b[j * 2 + 1]);
    }
  }
}

// Sets of sums over the same rows: the warps' of a block, or the shares' of a sequence.
struct Sets {
  const float* base;
  int64_t stride;  // floats from one set to the next
  int count, rows;
};

// One warp: the largest top of a row over all sets, and the weights' sum under it.
template <int kDim>
__device__ __forceinline__ float2 merged_weight(const Sets& s, int row) {
  float top = kNone, weight = 0.0F;
  for (int i = threadIdx.x % 32; i < s.count; i += 32) {
    const float2 x =
        *reinterpret_cast<const float2*>(s.base + i * s.stride + s.rows * kDim + row * 2);
    const float higher = fmaxf(top, x.x);
    weight = weight * exp2f(top - higher) + x.y * exp2f(x.x - higher);
    top = higher;
  }
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const float other = __shfl_xor_sync(0xffffffff, top, d);
    const float other_weight = __shfl_xor_sync(0xffffffff, weight, d);
    const float higher = fmaxf(top, other);
    weight = weight * exp2f(top - higher) + other_weight * exp2f(other - higher);
    top = higher;
  }
  return {top, weight};
}

template <int kDim>
__device__ __forceinline__ float4 merged_sum(const Sets& s, int row, int column, float top) {
  float4 sum = {0.0F, 0.0F, 0.0F, 0.0F};
#pragma unroll 4
  for (int i = 0; i < s.count; ++i) {
    const float* set = s.base + i * s.stride;
    const float factor = exp2f(set[s.rows * kDim + row * 2] - top);
    const float4 x = *reinterpret_cast<const float4*>(set + row * kDim + column);
    sum.x += x.x * factor;
    sum.y += x.y * factor;
    sum.z += x.z * factor;
    sum.w += x.w * factor;
  }
  return sum;
}

// Adds up the sets; the result goes to the output, or to `share` as a set of its own.
template <class T, int kDim>
__device__ void merge(const DecodeAttention& p, const Item& item, int group, const Sets& sets,
                      float* share) {
  __shared__ float2 of_row[kRows];
  for (int row = threadIdx.x / 32; row < sets.rows; row += kWarps) {
    const float2 x = merged_weight<kDim>(sets, row);
    if (threadIdx.x % 32 == 0) of_row[row] = x;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < sets.rows * (kDim / 4); i += kThreads) {
    const int row = i / (kDim / 4), column = i % (kDim / 4) * 4;
    const float top = of_row[row].x;
    float weight = of_row[row].y;
    const float4 sum = merged_sum<kDim>(sets, row, column, top);
    if (share != nullptr) {
      *reinterpret_cast<float4*>(share + row * kDim + column) = sum;
      if (column == 0)
        *reinterpret_cast<float2*>(share + sets.rows * kDim + row * 2) = {top, weight};
      continue;
    }
    const int head = item.kv_head * group + row % group;
    if (p.shape.sinks != nullptr) weight += exp2f(p.shape.sinks[head] * kLog2e - top);
    const float factor = weight > 0.0F ? 1.0F / weight : 0.0F;
    T* to = static_cast<T*>(p.output) +
            (item.work.sequence.row_begin + row / group) * p.output_stride + head * kDim + column;
    *reinterpret_cast<uint2*>(to) = {pack<T>(sum.x * factor, sum.y * factor),
                                     pack<T>(sum.z * factor, sum.w * factor)};
  }
}

template <class T, int kDim>
__device__ void finish(const DecodeAttention& p, const Item& item, int group, float* sets,
                       const Rows<T, kDim>& r) {
  using L = Layout<kDim>;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int rows = group * item.work.sequence.row_count;
  float* set = sets + warp * L::set_floats(rows);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float weight = r.weight[half];
    weight += __shfl_xor_sync(0xffffffff, weight, 1);
    weight += __shfl_xor_sync(0xffffffff, weight, 2);
    const int row = g + half * 8;
    if (row >= rows) continue;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      *reinterpret_cast<float2*>(set + row * kDim + n * 8 + t * 2) = {r.sum[n][half * 2],
                                                                      r.sum[n][half * 2 + 1]};
    }
    if (t == 0) *reinterpret_cast<float2*>(set + rows * kDim + row * 2) = {r.top[half], weight};
  }
  __syncthreads();
  const Sets warps = {sets, L::set_floats(rows), kWarps, rows};
  const DecodeWork& w = item.work;
  const int kv_heads = p.layer.kv_heads;
  constexpr int kShare = L::set_floats(kRows);
  const int64_t stride = static_cast<int64_t>(kv_heads) * kShare;
  float* first = p.partials + (static_cast<int64_t>(w.partial) * kv_heads + item.kv_head) * kShare;
  merge<T, kDim>(p, item, group, warps, w.shares == 1 ? nullptr : first + w.share * stride);
  if (w.shares > 1) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      uint32_t* counter = p.counters + w.counter * kv_heads + item.kv_head;
      last = atomicAdd(counter, 1U) + 1 == static_cast<uint32_t>(w.shares);
      if (last) *counter = 0;
      __threadfence();
    }
    __syncthreads();
    if (last) merge<T, kDim>(p, item, group, {first, stride, w.shares, rows}, nullptr);
  }
  __syncthreads();  // the sets are free for the next item
}

template <class T, int kDim>
__global__ void __launch_bounds__(kThreads, 2)
    decode_attention_kernel(const __grid_constant__ DecodeAttention p) {
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
    load_query<T, kDim>(p, item, group, rows);
    for (int at = item.work.begin + warp * kTile; at < item.work.end; at += kWarps * kTile) {
      ptx::wait_copies<L::kStages - 2>();
      __syncwarp();
      fetcher.next();
      take_tile<T, kDim>(p, item, group, at, ring + static_cast<uint32_t>(slot * L::kStage), rows);
      slot = slot + 1 == L::kStages ? 0 : slot + 1;
    }
    finish<T, kDim>(p, item, group, sets, rows);
  }
  ptx::wait_copies<0>();
}

template <class T, int kDim>
cudaError_t run(const DecodeAttention& args, int multiprocessors, cudaStream_t stream) {
  const auto kernel = decode_attention_kernel<T, kDim>;
  const int shared = Layout<kDim>::bytes(args.shape.heads / args.layer.kv_heads * args.rows_max);
  TR_CUDA_TRY(allow_shared(kernel, Layout<kDim>::bytes(kRows)));
  const int fit = (227 << 10) / (shared + 1024);
  const int per_multiprocessor = fit < 1 ? 1 : fit > 4 ? 4 : fit;
  return launch(kernel,
                {dim3(static_cast<unsigned>(multiprocessors * per_multiprocessor)), dim3(kThreads),
                 static_cast<size_t>(shared)},
                stream, args);
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

bool decode_attention_fits(const AttentionShape& s, const PagedLayer& l) {
  return (s.head_dim == 64 || s.head_dim == 128 || s.head_dim == 256) &&
         (s.dtype == DType::f16 || s.dtype == DType::bf16) && l.block_tokens % kTile == 0 &&
         (l.block_tokens & (l.block_tokens - 1)) == 0 && s.heads / l.kv_heads <= kDecodeRowsMax;
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
