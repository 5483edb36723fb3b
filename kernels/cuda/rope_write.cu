// Rotates q and k and writes k and v into the paged cache: a few blocks a row, or where there is no
// cache (towers, which come with many rows) a few rows a block. Each works the rows' angles out
// once and keeps them in shared memory; k is written to the cache from registers.
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/rope_angles.cuh"

namespace troupe::cuda {
namespace {

using namespace rope;

constexpr int kThreads = 256;
constexpr int kPairsMax = 256;

// Where a token's key or value lies in the cache.
__device__ __forceinline__ int64_t cache_at(const CacheLayer& c, int64_t cache_row, int head,
                                            int width) {
  return ((cache_row / c.block_tokens * c.kv_heads + head) * c.block_tokens +
          cache_row % c.block_tokens) *
         width;
}

// Rotates heads in place; with a cache, whole heads are written there as well. Work items are pairs
// of elements; those of a head that are not rotated follow, one by one. A thread takes kBatch items
// at a time and loads them all before it stores any.
template <class T, class C>
__device__ void turn_heads(const RopeWrite& p, T* first, int heads, int dim, const float2* angles,
                           int32_t cache_row, C* cache) {
  constexpr int kBatch = 4;
  const int pairs = p.rope.rotary_dim / 2;
  const int begin = p.rotary_begin;
  const int items = pairs + (cache != nullptr ? dim - p.rope.rotary_dim : 0);
  const auto threads = static_cast<int>(blockDim.x * gridDim.y);
  const int all = heads * items;
  for (int w0 = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x); w0 < all;
       w0 += threads * kBatch) {
    T u[kBatch], v[kBatch];
    int a[kBatch], b[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int w = w0 + k * threads, head = w / items, i = w % items;
      if (i >= pairs) {
        const int e = i - pairs < begin ? i - pairs : i - pairs + p.rope.rotary_dim;
        a[k] = b[k] = head * dim + e;
      } else {
        a[k] = head * dim + begin + (p.rope.interleaved ? i * 2 : i);
        b[k] = head * dim + begin + (p.rope.interleaved ? i * 2 + 1 : i + pairs);
      }
      if (w < all) {
        u[k] = first[a[k]];
        v[k] = first[b[k]];
      }
    }
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int w = w0 + k * threads, head = w / items, i = w % items;
      if (w >= all) continue;
      T turned_u = u[k], turned_v = v[k];
      if (i < pairs) {
        const float x = to_float(u[k]), y = to_float(v[k]);
        turned_u = from_float<T>(x * angles[i].x - y * angles[i].y);
        turned_v = from_float<T>(y * angles[i].x + x * angles[i].y);
        first[a[k]] = turned_u;
        first[b[k]] = turned_v;
      }
      if (cache != nullptr) {
        C* to = cache + cache_at(p.cache, cache_row, head, dim) - head * dim;
        to[a[k]] = from_float<C>(to_float(turned_u));
        to[b[k]] = from_float<C>(to_float(turned_v));
      }
    }
  }
}

template <class T, class C>
__global__ void __launch_bounds__(kThreads) rope_write_kernel(const __grid_constant__ RopeWrite p) {
  __shared__ float2 angles[kPairsMax];
  ptx::let_next_kernel_start();
  const auto row = static_cast<int>(blockIdx.x);
  // Of the plan alone: the kernels in front do not matter.
  if (p.rope.rotary_dim > 0) make_angles(p, row, angles);
  const int32_t cache_row = p.cache.keys != nullptr ? p.cache_rows[row] : -1;
  __syncthreads();
  ptx::wait_for_earlier_kernels();
  if (present(p.query) && p.rope.rotary_dim > 0) {
    turn_heads<T, C>(p, static_cast<T*>(p.query.data) + row * p.query.stride, p.heads, p.head_dim,
                     angles, -1, nullptr);
  }
  C* keys = cache_row >= 0 ? static_cast<C*>(p.cache.keys) : nullptr;
  if (present(p.key)) {
    turn_heads<T, C>(p, static_cast<T*>(p.key.data) + row * p.key.stride, p.kv_heads, p.key_dim,
                     angles, cache_row, keys);
  }
  if (!present(p.value) || cache_row < 0) return;
  const T* value = static_cast<const T*>(p.value.data) + row * p.value.stride;
  C* values = static_cast<C*>(p.cache.values);
  const auto threads = static_cast<int>(blockDim.x * gridDim.y);
  for (int w = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
       w < p.kv_heads * p.value_dim; w += threads) {
    const int head = w / p.value_dim, e = w % p.value_dim;
    values[cache_at(p.cache, cache_row, head, p.value_dim) + e] = from_float<C>(to_float(value[w]));
  }
}

// The weights of a head's norm that belong to a thread's two pieces.
template <class T, int kDim>
struct NormPieces {
  static constexpr int kPairs = kDim / 16;
  uint4 low, high;
  __device__ __forceinline__ void load(const HeadNorm& norm, int piece) {
    if (norm.weight == nullptr) return;
    low = static_cast<const uint4*>(norm.weight)[piece];
    high = static_cast<const uint4*>(norm.weight)[piece + kPairs];
  }
  // u and v are the two pieces; the head's others lie with the neighbouring lanes.
  __device__ __forceinline__ void apply(const HeadNorm& norm, T* u, T* v) const {
    float sum = 0.0F;
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      sum += to_float(u[e]) * to_float(u[e]);
      sum += to_float(v[e]) * to_float(v[e]);
    }
    const unsigned head = ((1U << kPairs) - 1) << (threadIdx.x % 32 / kPairs * kPairs);
#pragma unroll
    for (int d = kPairs / 2; d > 0; d /= 2) sum += __shfl_xor_sync(head, sum, d);
    const float factor = rsqrtf(sum / static_cast<float>(kDim) + norm.eps);
    const T* a = reinterpret_cast<const T*>(&low);
    const T* b = reinterpret_cast<const T*>(&high);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      u[e] = from_float<T>(to_float(u[e]) * factor * (to_float(a[e]) + norm.offset));
      v[e] = from_float<T>(to_float(v[e]) * factor * (to_float(b[e]) + norm.offset));
    }
  }
};
template <int kDim>
constexpr bool kCanNorm = kDim == 64 || kDim == 128;  // a head's pieces share whole lanes of a warp

// The usual case in 16-byte pieces: halves of a whole head turned against one another, a cache of
// the same type. A work item is a piece of a head's first half with its partner in the second half,
// or a piece of a value.
template <class T, int kDim>
__global__ void __launch_bounds__(kThreads) rope_write_pieces(const __grid_constant__ RopeWrite p) {
  constexpr int kPairs = kDim / 16;  // pairs of pieces in a head
  constexpr int kPieces = kDim / 8;  // pieces of a value
  __shared__ float2 angles[kDim / 2];
  ptx::let_next_kernel_start();
  const auto row = static_cast<int>(blockIdx.x);
  make_angles(p, row, angles);  // of the plan alone, as above
  const int64_t cache_row = p.cache.keys != nullptr ? p.cache_rows[row] : -1;
  // A thread has the same pieces of every head that it turns.
  NormPieces<T, kDim> query_norm, key_norm;
  if constexpr (kCanNorm<kDim>) {
    query_norm.load(p.query_norm, static_cast<int>(threadIdx.x) % kPairs);
    key_norm.load(p.key_norm, static_cast<int>(threadIdx.x) % kPairs);
  }
  __syncthreads();
  ptx::wait_for_earlier_kernels();
  const int queries = present(p.query) ? p.heads * kPairs : 0, keys = p.kv_heads * kPairs;
  const int values = present(p.value) && cache_row >= 0 ? p.kv_heads * kPieces : 0;
  const auto threads = static_cast<int>(blockDim.x * gridDim.y);
  for (int w = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x); w < queries + keys + values;
       w += threads) {
    if (w >= queries + keys) {
      const int head = (w - queries - keys) / kPieces, piece = (w - queries - keys) % kPieces;
      const T* from = static_cast<const T*>(p.value.data) + row * p.value.stride + head * kDim;
      T* to = static_cast<T*>(p.cache.values) + cache_at(p.cache, cache_row, head, kDim);
      reinterpret_cast<uint4*>(to)[piece] = reinterpret_cast<const uint4*>(from)[piece];
      continue;
    }
    const bool is_key = w >= queries;
    const int head = (is_key ? w - queries : w) / kPairs,
              piece = (is_key ? w - queries : w) % kPairs;
    const Matrix& m = is_key ? p.key : p.query;
    auto* at = reinterpret_cast<uint4*>(static_cast<T*>(m.data) + row * m.stride + head * kDim);
    uint4 low = at[piece], high = at[piece + kPairs];
    T* u = reinterpret_cast<T*>(&low);
    T* v = reinterpret_cast<T*>(&high);
    if constexpr (kCanNorm<kDim>) {
      if (is_key && p.key_norm.weight != nullptr) key_norm.apply(p.key_norm, u, v);
      if (!is_key && p.query_norm.weight != nullptr) query_norm.apply(p.query_norm, u, v);
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const float2 turn = angles[piece * 8 + e];
      const float x = to_float(u[e]), y = to_float(v[e]);
      u[e] = from_float<T>(x * turn.x - y * turn.y);
      v[e] = from_float<T>(y * turn.x + x * turn.y);
    }
    at[piece] = low;
    at[piece + kPairs] = high;
    if (!is_key || cache_row < 0) continue;
    auto* to = reinterpret_cast<uint4*>(static_cast<T*>(p.cache.keys) +
                                        cache_at(p.cache, cache_row, head, kDim));
    to[piece] = low;
    to[piece + kPairs] = high;
  }
}

// The same without a cache, for many rows: blocks of a few rows, and two items a thread under way.
constexpr int kRowsTogether = 4;

template <class T, int kDim>
__global__ void __launch_bounds__(kThreads) rope_turn_rows(const __grid_constant__ RopeWrite p) {
  constexpr int kPairs = kDim / 16, kBatch = 2;
  __shared__ float2 angles[kRowsTogether * kDim / 2];
  ptx::let_next_kernel_start();
  const int first = static_cast<int>(blockIdx.x) * kRowsTogether;
  const int rows = min(kRowsTogether, static_cast<int>(p.key.rows) - first);
  for (int i = threadIdx.x; i < rows * (kDim / 2); i += kThreads)
    angles[i] = turn_of(p, first + i / (kDim / 2), i % (kDim / 2));
  __syncthreads();
  ptx::wait_for_earlier_kernels();
  const int queries = present(p.query) ? p.heads * kPairs : 0,
            items = queries + p.kv_heads * kPairs;
  for (int w0 = threadIdx.x; w0 < rows * items; w0 += kThreads * kBatch) {
    uint4 low[kBatch], high[kBatch];
    uint4* at[kBatch];
    const float2* turns[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int w = w0 + k * kThreads;
      if (w >= rows * items) break;
      const int row = w / items, item = w % items;
      const bool is_key = item >= queries;
      const int own = is_key ? item - queries : item, piece = own % kPairs;
      const Matrix& m = is_key ? p.key : p.query;
      at[k] = reinterpret_cast<uint4*>(static_cast<T*>(m.data) + (first + row) * m.stride +
                                       own / kPairs * kDim) +
              piece;
      turns[k] = angles + row * (kDim / 2) + piece * 8;
      low[k] = at[k][0];
      high[k] = at[k][kPairs];
    }
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      if (w0 + k * kThreads >= rows * items) break;
      T* u = reinterpret_cast<T*>(low + k);
      T* v = reinterpret_cast<T*>(high + k);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const float2 turn = turns[k][e];
        const float x = to_float(u[e]), y = to_float(v[e]);
        u[e] = from_float<T>(x * turn.x - y * turn.y);
        v[e] = from_float<T>(y * turn.x + x * turn.y);
      }
      at[k][0] = low[k];
      at[k][kPairs] = high[k];
    }
  }
}

bool whole_pieces(const Matrix& m) {
  return !m || (m.stride % 8 == 0 && reinterpret_cast<uintptr_t>(m.data) % 16 == 0);
}
bool fits_pieces(const RopeWrite& p, DType dtype) {
  const int dim = p.rope.rotary_dim;
  return (dim == 64 || dim == 80 || dim == 96 || dim == 128) && dim == p.head_dim &&
         dim == p.key_dim && !p.rope.interleaved && p.key && dtype != DType::f32 &&
         (p.cache.keys == nullptr || p.cache.dtype == dtype) && (!p.value || p.value_dim == dim) &&
         whole_pieces(p.query) && whole_pieces(p.key) && whole_pieces(p.value);
}

template <class T, int kDim>
cudaError_t run_pieces(const RopeWrite& p, int64_t rows, cudaStream_t stream) {
  if (p.cache.keys == nullptr && !p.value) {
    const auto blocks = static_cast<unsigned>((rows + kRowsTogether - 1) / kRowsTogether);
    return launch(rope_turn_rows<T, kDim>, {dim3(blocks), dim3(kThreads)}, stream, p);
  }
  const LaunchShape shape = {dim3(static_cast<unsigned>(rows), rows > 256 ? 1 : 2), dim3(kThreads)};
  return launch(rope_write_pieces<T, kDim>, shape, stream, p);
}

template <class T>
cudaError_t run_pieces(const RopeWrite& p, int64_t rows, cudaStream_t stream) {
  switch (p.rope.rotary_dim) {
    case 64:
      return run_pieces<T, 64>(p, rows, stream);
    case 80:
      return run_pieces<T, 80>(p, rows, stream);
    case 96:
      return run_pieces<T, 96>(p, rows, stream);
    default:
      return run_pieces<T, 128>(p, rows, stream);
  }
}

template <class T>
cudaError_t by_cache(const RopeWrite& p, const LaunchShape& shape, cudaStream_t stream) {
  if (p.cache.keys == nullptr) return launch(rope_write_kernel<T, T>, shape, stream, p);
  TR_DISPATCH_FLOAT_AS(C, p.cache.dtype, return launch(rope_write_kernel<T, C>, shape, stream, p));
}

template <class T, class C>
__global__ void __launch_bounds__(kThreads)
    cross_write_kernel(const __grid_constant__ CrossWrite p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const auto row = static_cast<int>(blockIdx.x);
  const CacheLayer& c = p.cache;
  const int64_t cache_row =
      static_cast<int64_t>(p.blocks[row / c.block_tokens]) * c.block_tokens + row % c.block_tokens;
  const T* key = static_cast<const T*>(p.key.data) + row * p.key.stride;
  for (int w = threadIdx.x; w < c.kv_heads * c.key_dim; w += kThreads) {
    static_cast<C*>(c.keys)[cache_at(c, cache_row, w / c.key_dim, c.key_dim) + w % c.key_dim] =
        from_float<C>(to_float(key[w]));
  }
  if (!present(p.value)) return;
  const T* value = static_cast<const T*>(p.value.data) + row * p.value.stride;
  for (int w = threadIdx.x; w < c.kv_heads * c.value_dim; w += kThreads) {
    static_cast<C*>(
        c.values)[cache_at(c, cache_row, w / c.value_dim, c.value_dim) + w % c.value_dim] =
        from_float<C>(to_float(value[w]));
  }
}

template <class T>
cudaError_t by_cache(const CrossWrite& p, cudaStream_t stream) {
  const LaunchShape shape = {dim3(static_cast<unsigned>(p.key.rows)), dim3(kThreads)};
  TR_DISPATCH_FLOAT_AS(C, p.cache.dtype, return launch(cross_write_kernel<T, C>, shape, stream, p));
}

}  // namespace

bool rope_write_norms(const RopeWrite& p) {
  return p.query && p.cache.keys != nullptr && fits_pieces(p, p.query.dtype) &&
         (p.rope.rotary_dim == 64 || p.rope.rotary_dim == 128);
}

cudaError_t rope_write(const RopeWrite& p, cudaStream_t stream) {
  const int64_t rows = p.query ? p.query.rows : p.key.rows;
  if (rows == 0) return cudaSuccess;
  if (p.rope.rotary_dim / 2 > kPairsMax) return cudaErrorInvalidValue;
  const DType dtype = p.query ? p.query.dtype : p.key.dtype;
  if (fits_pieces(p, dtype)) {
    return dtype == DType::f16 ? run_pieces<__half>(p, rows, stream)
                               : run_pieces<__nv_bfloat16>(p, rows, stream);
  }
  const LaunchShape shape = {dim3(static_cast<unsigned>(rows), rows > 1024 ? 2 : 4),
                             dim3(kThreads)};
  TR_DISPATCH_FLOAT(dtype, return by_cache<T>(p, shape, stream));
}

cudaError_t cross_write(const CrossWrite& p, cudaStream_t stream) {
  if (p.key.rows == 0) return cudaSuccess;
  TR_DISPATCH_FLOAT(p.key.dtype, return by_cache<T>(p, stream));
}

}  // namespace troupe::cuda
