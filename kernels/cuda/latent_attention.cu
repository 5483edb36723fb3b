// Latent attention of single rows over the paged cache: all heads look at one key per token, whose
// first kValue elements are also its value.
//
// A work item is one share of one sequence's positions for 16 heads, which are the rows of one
// matrix instruction. A block's four warps work on the same tile of 32 tokens: each scores eight of
// them, all read all scores and go through the softmax alike, and each sums a quarter of the
// value's columns; so the tile is read from memory once. Shares leave unnormalised sums; the block
// that finishes a sequence's last share adds them up in order.
//
// Few sequences that are not long are spread over clusters instead: each block of a cluster takes
// an eighth of a sequence, and adds up an eighth of the columns from all others' shared memory.
#include "kernels/cuda/latent_tile.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/cluster.cuh"
#include "kernels/cuda/ptx/grid.cuh"

namespace troupe::cuda {
namespace {

using namespace latent;

template <class T, int kValue, class Values>
__device__ __forceinline__ void write_values(const LatentAttention& p, const DecodeWork& w,
                                             int head, int column, const Values& x, float weight) {
  if (head >= p.shape.heads) return;
  const float factor = weight > 0.0F ? 1.0F / weight : 0.0F;
  T* to = static_cast<T*>(p.output) + w.sequence.row_begin * p.output_stride +
          static_cast<int64_t>(head) * kValue + column;
  auto* words = reinterpret_cast<uint32_t*>(to);
  words[0] = pack<T>(x.x * factor, x.y * factor);
  if constexpr (sizeof(Values) == sizeof(float4)) words[1] = pack<T>(x.z * factor, x.w * factor);
}

// Adds up the shares in order: of each row first what every share counts for, then the sums, a
// thread four columns of all rows, so that many loads are under way.
template <class T, int kValue>
__device__ void add_shares(const LatentAttention& p, const DecodeWork& w, int head,
                           const float* first, int64_t stride) {
  static_assert(kValue == kThreads * 4);
  constexpr int kAtOnce = 32;
  __shared__ float factors[kHeads][kAtOnce];
  __shared__ float2 rows[kHeads];  // top over all shares, and the weights' sum under it
  const auto row_of = [&](int share, int row) {
    return __ldcg(
        reinterpret_cast<const float2*>(first + share * stride + kHeads * kValue + row * 2));
  };
  const int row = threadIdx.x / (kThreads / kHeads), part = threadIdx.x % (kThreads / kHeads);
  float top = kNone, weight = 0.0F;
  for (int k = part; k < w.shares; k += kThreads / kHeads) {
    const float2 of = row_of(k, row);
    const float higher = fmaxf(top, of.x);
    weight = weight * exp2f(top - higher) + of.y * exp2f(of.x - higher);
    top = higher;
  }
#pragma unroll
  for (int d = kThreads / kHeads / 2; d > 0; d /= 2) {
    const float other = __shfl_xor_sync(0xffffffff, top, d);
    const float other_weight = __shfl_xor_sync(0xffffffff, weight, d);
    const float higher = fmaxf(top, other);
    weight = weight * exp2f(top - higher) + other_weight * exp2f(other - higher);
    top = higher;
  }
  if (part == 0) rows[row] = {top, weight};
  float4 sum[kHeads] = {};
  for (int begin = 0; begin < w.shares; begin += kAtOnce) {
    const int count = min(kAtOnce, w.shares - begin);
    __syncthreads();
    for (int k = part; k < count; k += kThreads / kHeads)
      factors[row][k] = exp2f(row_of(begin + k, row).x - top);
    __syncthreads();
    for (int k = 0; k < count; ++k) {
      const auto* share = reinterpret_cast<const float4*>(first + (begin + k) * stride);
#pragma unroll
      for (int r = 0; r < kHeads; ++r) {
        const float4 x = __ldcg(share + r * (kValue / 4) + threadIdx.x);
        const float factor = factors[r][k];
        sum[r].x += x.x * factor;
        sum[r].y += x.y * factor;
        sum[r].z += x.z * factor;
        sum[r].w += x.w * factor;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kHeads; ++r) {
    write_values<T, kValue>(p, w, head + r, static_cast<int>(threadIdx.x) * 4, sum[r], rows[r].y);
  }
}

// A share's sums in memory: 16 x kValue, then (top, weight) of each row.
template <class T, int kValue>
__device__ void share_sums(const LatentAttention& p, const DecodeWork& w, int head,
                           const Sums<kValue>& s) {
  __shared__ bool last;
  constexpr int kShare = kHeads * (kValue + 2);
  const int groups = gridDim.y, group = blockIdx.y;
  float* first = p.partials + (static_cast<int64_t>(w.partial) * groups + group) * kShare;
  const int64_t stride = static_cast<int64_t>(groups) * kShare;
  float* mine = first + w.share * stride;
  each_pair<kValue>(s, [&](int row, int column, float2 x) {
    *reinterpret_cast<float2*>(mine + row * kValue + column) = x;
  });
  const int g = threadIdx.x % 32 / 4;
  if (threadIdx.x < 32 && threadIdx.x % 4 == 0) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      *reinterpret_cast<float2*>(mine + kHeads * kValue + (g + half * 8) * 2) = {s.top[half],
                                                                                 s.weight[half]};
    }
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t* counter = p.counters + w.counter * groups + group;
    last = atomicAdd(counter, 1U) + 1 == static_cast<uint32_t>(w.shares);
    if (last) *counter = 0;
    __threadfence();
  }
  __syncthreads();
  if (last) add_shares<T, kValue>(p, w, head, first, stride);
}

// What an item's tokens come to, before anything is divided by the weights' sum.
template <class T, int kKey, int kValue>
__device__ __forceinline__ void sum_up(const LatentAttention& p, const DecodeWork& w, int head,
                                       uint8_t* shared, bool& waited, Sums<kValue>& s) {
  using L = Layout<kKey>;
  const uint32_t ring = ptx::shared_address(shared);
  auto* scores = reinterpret_cast<float*>(shared + kStages * L::kTileBytes);
  const int tiles = (w.end - w.begin + kTile - 1) / kTile;
  // Tokens of earlier steps do not depend on the kernels in front.
  const int ahead = min(w.begin + (kStages - 1) * kTile, w.end);
  if (!waited && ahead > w.sequence.kv_len - w.sequence.row_count) {
    ptx::wait_for_earlier_kernels();
    waited = true;
  }
  Places places = {};
  places.look_up(p, w, 0);
  for (int i = 0; i < kStages - 1; ++i) fetch<kKey>(p, w, places, ring, i);
  if (!waited) ptx::wait_for_earlier_kernels();
  waited = true;
  uint32_t query[kKey / 16][4];
  load_query<T, kKey>(p, w, head, ring + L::kQuery, query);
  for (int i = 0; i < tiles; ++i) {
    const uint32_t tile = ring + static_cast<uint32_t>(i % kStages * L::kTileBytes);
    float* of_tile = scores + i % 2 * L::kScores;
    ptx::wait_copies<kStages - 2>();
    __syncthreads();
    score_tile<T, kKey>(p, w, tile, w.begin + i * kTile, query, of_tile);
    fetch<kKey>(p, w, places, ring, i + kStages - 1);
    __syncthreads();
    take_tile<T, kKey, kValue>(tile, of_tile, s);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    s.weight[half] += __shfl_xor_sync(0xffffffff, s.weight[half], 1);
    s.weight[half] += __shfl_xor_sync(0xffffffff, s.weight[half], 2);
  }
}

template <class T, int kKey, int kValue>
__global__ void __launch_bounds__(kThreads, 1)
    latent_attention_kernel(const __grid_constant__ LatentAttention p) {
  extern __shared__ __align__(128) uint8_t shared[];
  ptx::let_next_kernel_start();
  const int items = *p.work_count, head = static_cast<int>(blockIdx.y) * kHeads;
  bool waited = false;
  for (int index = static_cast<int>(blockIdx.x); index < items;
       index += static_cast<int>(gridDim.x)) {
    const DecodeWork w = p.work[index * p.work_stride];
    __syncthreads();  // the ring, the scores and the query are free
    Sums<kValue> s;
    sum_up<T, kKey, kValue>(p, w, head, shared, waited, s);
    if (w.shares > 1) {
      share_sums<T, kValue>(p, w, head, s);
    } else {
      each_pair<kValue>(s, [&](int row, int column, float2 x) {
        write_values<T, kValue>(p, w, head + row, column, x, s.weight[row / 8]);
      });
    }
  }
  if (!waited) ptx::wait_for_earlier_kernels();
  ptx::wait_copies<0>();
}

// ---- clusters ----

constexpr int kCluster = 8;

// This block's columns, from what `shares` blocks of the cluster have.
template <class T, int kValue>
__device__ __forceinline__ void add_cluster(const LatentAttention& p, const DecodeWork& w, int head,
                                            const float* sums, const float2* rows, int shares) {
  constexpr int kOwn = kValue / kCluster, kEach = 8;  // columns of a block, and of a thread
  static_assert(kHeads * kOwn == kThreads * kEach);
  const int row = static_cast<int>(threadIdx.x) / (kOwn / kEach);
  const int column = static_cast<int>(ptx::cluster_rank()) * kOwn +
                     static_cast<int>(threadIdx.x) % (kOwn / kEach) * kEach;
  float2 of[kCluster];
  float top = kNone, weight = 0.0F;
#pragma unroll
  for (int i = 0; i < kCluster; ++i) {
    if (i < shares) of[i] = ptx::load_at(rows + row, static_cast<uint32_t>(i));
  }
#pragma unroll
  for (int i = 0; i < kCluster; ++i) {
    if (i < shares) top = fmaxf(top, of[i].x);
  }
  float4 all[2] = {};
#pragma unroll
  for (int i = 0; i < kCluster; ++i) {
    if (i >= shares) break;
    const float factor = exp2f(of[i].x - top);
    weight += of[i].y * factor;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const auto* at = reinterpret_cast<const float4*>(sums + row * kValue + column) + h;
      const float4 x = ptx::load_at(at, static_cast<uint32_t>(i));
      all[h].x += x.x * factor;
      all[h].y += x.y * factor;
      all[h].z += x.z * factor;
      all[h].w += x.w * factor;
    }
  }
  write_values<T, kValue>(p, w, head + row, column, all[0], weight);
  write_values<T, kValue>(p, w, head + row, column + 4, all[1], weight);
}

// A cluster a sequence: its blocks share the tokens evenly, in whole tiles.
template <class T, int kKey, int kValue>
__global__ void __launch_bounds__(kThreads, 1)
    latent_cluster_kernel(const __grid_constant__ LatentAttention p) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ float2 rows[kHeads];
  static_assert(kHeads * kValue * 4 <= kStages * Layout<kKey>::kTileBytes);
  ptx::let_next_kernel_start();
  const int head = static_cast<int>(blockIdx.y) * kHeads;
  DecodeWork w;
  w.sequence = p.sequences[blockIdx.x / kCluster];
  const int tiles = (w.sequence.kv_len + kTile - 1) / kTile;
  const int each = (tiles + kCluster - 1) / kCluster * kTile;
  w.share = static_cast<int>(ptx::cluster_rank());
  w.shares = (w.sequence.kv_len + each - 1) / each;
  w.begin = min(w.share * each, w.sequence.kv_len);
  w.end = min(w.begin + each, w.sequence.kv_len);
  bool waited = false;
  auto* sums = reinterpret_cast<float*>(shared);
  if (w.share < w.shares) {
    Sums<kValue> s;
    sum_up<T, kKey, kValue>(p, w, head, shared, waited, s);
    ptx::wait_copies<0>();
    __syncthreads();  // the ring is free for the sums
    each_pair<kValue>(s, [&](int row, int column, float2 x) {
      *reinterpret_cast<float2*>(sums + row * kValue + column) = x;
    });
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    if (threadIdx.x < 32 && threadIdx.x % 4 == 0) {
      rows[g] = {s.top[0], s.weight[0]};
      rows[g + 8] = {s.top[1], s.weight[1]};
    }
  }
  if (!waited) ptx::wait_for_earlier_kernels();
  ptx::cluster_meet();
  add_cluster<T, kValue>(p, w, head, sums, rows, w.shares);
  ptx::cluster_meet();  // what the others read stays until they have
#endif
}

template <class T>
cudaError_t run(const LatentAttention& p, int multiprocessors, cudaStream_t stream) {
  const auto kernel = latent_attention_kernel<T, 576, 512>;
  constexpr int kBytes = Layout<576>::kBytes;
  TR_CUDA_TRY(allow_shared(kernel, kBytes));
  const auto groups = static_cast<unsigned>((p.shape.heads + kHeads - 1) / kHeads);
  if (p.sequences != nullptr) {
    const auto spread = latent_cluster_kernel<T, 576, 512>;
    TR_CUDA_TRY(allow_shared(spread, kBytes));
    const LaunchShape shape = {dim3(static_cast<unsigned>(p.sequence_count) * kCluster, groups),
                               dim3(kThreads), static_cast<size_t>(kBytes), kCluster};
    return launch(spread, shape, stream, p);
  }
  return launch(kernel,
                {dim3(static_cast<unsigned>(multiprocessors), groups), dim3(kThreads),
                 static_cast<size_t>(kBytes)},
                stream, p);
}

}  // namespace

bool latent_spreads(const AttentionShape& s, int32_t sequences, int32_t multiprocessors) {
  return runs_hopper_code() &&
         (s.heads + kHeads - 1) / kHeads * sequences * kCluster <= multiprocessors;
}

bool latent_attention_fits(const AttentionShape& s, const CacheLayer& c, size_t shared_max) {
  return Layout<576>::kBytes <= shared_max && s.head_dim == 576 && c.key_dim == 576 &&
         c.value_dim == 512 && c.keys == c.values && c.kv_heads == 1 && c.dtype == s.dtype &&
         s.dtype != DType::f32 && s.window == 0 && s.softcap == 0.0F && s.alibi_slopes == nullptr &&
         s.sinks == nullptr;
}

size_t latent_partials_floats(int heads) {
  return static_cast<size_t>((heads + kHeads - 1) / kHeads * kHeads) * (512 + 2);
}

cudaError_t latent_attention(const LatentAttention& p, int multiprocessors, cudaStream_t stream) {
  return p.shape.dtype == DType::f16 ? run<__half>(p, multiprocessors, stream)
                                     : run<__nv_bfloat16>(p, multiprocessors, stream);
}

}  // namespace troupe::cuda
