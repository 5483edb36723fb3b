// Attention of long runs of query rows over the paged cache, on Hopper's warpgroup products.
//
// A block takes 128 query rows of one head, then the next ones: it stays for all of a launch, so
// that rows are brought while those before them are still being worked on. One producer warp brings
// key and value tiles of 128 tokens from the cache, page by page (or from the projection's rows,
// when a sequence starts here), into two rings; two consumer warpgroups own 64 query rows each.
// Heads of other sizes than 64 and 128 are padded with zeros by the copies; of what is behind 80
// elements nothing is multiplied where there are no more. A consumer starts the scores of the next
// tile before the weighted sum of this one, and works on the next softmax while that sum runs; the
// two consumers take turns on the tensor cores so that one's softmax hides behind the other's
// products. Tiles are walked from the newest back, so only the first ones need the causal mask.
#include <algorithm>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_tiles.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/math.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/tensor_map.hpp"

namespace troupe::cuda {
namespace {

using namespace prefill;

constexpr float kLog2e = 1.44269504F;

// The running softmax of the two rows this thread holds pieces of.
struct Softmax {
  float top[2], weight[2], shrink[2];
};

__device__ __forceinline__ void mask(const Params& p, const Span& s, int tile, float (&score)[64]) {
  const int warpgroup = threadIdx.x / 128 - 1;
  const int row = s.first_row + warpgroup * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
  const int column = tile * kTokens + threadIdx.x % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int own = s.offset + row + half * 8;
    const int end = s.sequence.causal != 0 ? min(own + 1, s.sequence.kv_len) : s.sequence.kv_len;
    const int begin = p.shape.window > 0 && s.sequence.causal != 0 ? own - p.shape.window + 1 : 0;
#pragma unroll
    for (int n = 0; n < 16; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int position = column + n * 8 + c;
        float& x = score[n * 4 + half * 2 + c];
        if (position >= end || position < begin) x = -INFINITY;
      }
    }
  }
}

__device__ __forceinline__ bool needs_mask(const Params& p, const Span& s, int tile) {
  const int end = (tile + 1) * kTokens;
  if (s.sequence.causal == 0) return end > s.sequence.kv_len;
  const int first = s.offset + s.first_row + (static_cast<int>(threadIdx.x) / 128 - 1) * 64;
  return end > min(first + 1, s.sequence.kv_len) ||
         (p.shape.window > 0 && tile * kTokens < first + 64 - p.shape.window);
}

// Scores become weights exp2(scale * (score - top)); top, the weights' sum and the factor by which
// earlier sums shrink are kept per row.
template <bool kFirst>
__device__ __forceinline__ void soften(float scale, float (&score)[64], Softmax& m) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = score[half * 2];
#pragma unroll
    for (int n = 0; n < 16; ++n) {
      top = fmaxf(top, fmaxf(score[n * 4 + half * 2], score[n * 4 + half * 2 + 1]));
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
    if (!kFirst) top = fmaxf(top, m.top[half]);
    const float base = top == -INFINITY ? 0.0F : top * scale;
    m.shrink[half] = kFirst ? 0.0F : ptx::exp2_flushed(m.top[half] * scale - base);
    m.top[half] = top;
    float weight = 0.0F;
#pragma unroll
    for (int n = 0; n < 16; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& x = score[n * 4 + half * 2 + c];
        x = ptx::exp2_flushed(fmaf(x, scale, -base));
        weight += x;
      }
    }
    m.weight[half] = kFirst ? weight : fmaf(m.weight[half], m.shrink[half], weight);
  }
}

template <class T>
__device__ __forceinline__ void pack_weights(const float (&w)[64], uint32_t (&a)[8][4]) {
#pragma unroll
  for (int k = 0; k < 8; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[k][i] = pack<T>(w[k * 8 + i * 2], w[k * 8 + i * 2 + 1]);
  }
}

// kUsed: of kDim elements so many may be other than zero; the rest is left out.
template <class T, int kDim, int kUsed>
__device__ __forceinline__ void multiply_keys(const uint8_t* query, const uint8_t* keys,
                                              float (&score)[64]) {
#pragma unroll
  for (int h = 0; h < kDim / 64; ++h) {
    const uint64_t a = ptx::swizzled_operand(query + h * kRowTile * 128);
    const uint64_t b = ptx::swizzled_operand(keys + h * kTokens * 128);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (h * 64 + k * 16 < kUsed) ptx::wgmma_ss<T, 128>(score, a + k * 2, b + k * 2, h + k > 0);
    }
  }
}

template <class T, int kUsed>
__device__ __forceinline__ void multiply_values(const uint32_t (&a)[8][4], const uint8_t* values,
                                                float (&sum)[kUsed / 2]) {
  const uint64_t b = ptx::swizzled_operand(values, kTokens * 128);
#pragma unroll
  for (int k = 0; k < 8; ++k) ptx::wgmma_rs<T, kUsed>(sum, a[k], b + k * (16 * 128 >> 4), true);
}

// Values behind the sequence's last token may be anything, NaN too, and a weight of zero does not
// stop a NaN: they become zeros. Only the newest tile has any. Both consumers write the same zeros.
template <int kDim>
__device__ void clean_tail(const Span& s, uint8_t* values, int warpgroup) {
  const int first = s.sequence.kv_len - (s.tile_end - 1) * kTokens;
  if (first >= kTokens) return;
  constexpr int kPieces = kDim / 8;
  for (int i = threadIdx.x % 128; i < (kTokens - first) * kPieces; i += 128) {
    const int row = first + i / kPieces, piece = i % kPieces;
    uint8_t* at = values + piece / 8 * kTokens * 128 + row * 128 + piece % 8 * 16;
    *reinterpret_cast<uint4*>(at) = make_uint4(0, 0, 0, 0);
  }
  ptx::fence_proxy_async();
  asm volatile("bar.sync %0, 128;" ::"r"(4 + warpgroup) : "memory");
}

// Turns of the two consumers: each waits on its own barrier, and opens the other's.
__device__ __forceinline__ void take_turn(int warpgroup) {
  asm volatile("bar.sync %0, 256;" ::"r"(2 + warpgroup) : "memory");
}
__device__ __forceinline__ void pass_turn(int warpgroup) {
  asm volatile("bar.arrive %0, 256;" ::"r"(3 - warpgroup) : "memory");
}

// Normalises and writes 64 rows through the query's memory, 16 bytes a thread.
template <class T, int kUsed>
__device__ void write_rows(const Params& p, const Span& s, int warpgroup, uint8_t* query,
                           const float (&sum)[kUsed / 2], Softmax& m) {
  const int thread = threadIdx.x % 128, warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
  // A warpgroup's 64 rows are one half of each 128-row half tile; each holds 64 elements of a row.
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float weight = m.weight[half];
    weight += __shfl_xor_sync(0xffffffff, weight, 1);
    weight += __shfl_xor_sync(0xffffffff, weight, 2);
    if (p.shape.sinks != nullptr) {
      weight += exp2f(p.shape.sinks[s.head] * kLog2e - m.top[half] * p.shape.scale * kLog2e);
    }
    const float factor = weight > 0.0F ? 1.0F / weight : 0.0F;
    const int row = warp * 16 + g + half * 8;
#pragma unroll
    for (int n = 0; n < kUsed / 8; ++n) {
      uint8_t* at = query + (n / 8) * kRowTile * 128 + row * 128 + ((n % 8) ^ (row & 7)) * 16;
      reinterpret_cast<uint32_t*>(at)[t] =
          pack<T>(sum[n * 4 + half * 2] * factor, sum[n * 4 + half * 2 + 1] * factor);
    }
  }
  asm volatile("bar.sync %0, 128;" ::"r"(4 + warpgroup) : "memory");
  const int dim = p.shape.head_dim;
  for (int i = thread; i < 64 * kUsed / 8; i += 128) {
    const int row = i / (kUsed / 8), n = i % (kUsed / 8);
    const int in_sequence = s.first_row + warpgroup * 64 + row;
    if (in_sequence >= s.sequence.row_count) break;
    if (n * 8 >= dim) continue;
    const uint8_t* at = query + (n / 8) * kRowTile * 128 + row * 128 + ((n % 8) ^ (row & 7)) * 16;
    T* to = static_cast<T*>(p.output) + (s.sequence.row_begin + in_sequence) * p.output_stride +
            s.head * dim + n * 8;
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(at);
  }
}

// `consumed`: tiles of earlier rounds.
template <class T, int kDim, int kUsed>
__device__ __forceinline__ void consume(const Params& p, const Span& s, int round, int consumed,
                                        uint8_t* shared, Barriers& bar) {
  using S = Shared<kDim>;
  const int warpgroup = threadIdx.x / 128 - 1;
  const bool leads = threadIdx.x % 32 == 0;
  uint8_t* query = shared + round % 2 * S::kQueryBytes + warpgroup * 64 * 128;
  const uint8_t* key_ring = shared + 2 * S::kQueryBytes;
  uint8_t* value_ring = shared + 2 * S::kQueryBytes + kStages * S::kTileBytes;
  const float scale = p.shape.scale * kLog2e;
  const int count = s.tile_end - s.tile_begin;
  float sum[kUsed / 2] = {};
  float score[64];
  uint32_t weights[8][4];
  Softmax m;
  const auto slot = [&](int i) { return (consumed + i) % kStages; };
  const auto key_tile = [&](int i) { return key_ring + slot(i) * S::kTileBytes; };
  const auto value_tile = [&](int i) { return value_ring + slot(i) * S::kTileBytes; };
  const auto phase = [&](int i) { return static_cast<uint32_t>((consumed + i) / kStages & 1); };

  ptx::mbarrier_wait(&bar.query_full[round % 2], static_cast<uint32_t>(round / 2 & 1));
  ptx::mbarrier_wait(&bar.key_full[slot(0)], phase(0));
  ptx::wgmma_begin();
  multiply_keys<T, kDim, kUsed>(query, key_tile(0), score);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  if (leads) ptx::mbarrier_arrive(&bar.key_empty[slot(0)]);
  if (needs_mask(p, s, s.tile_end - 1)) mask(p, s, s.tile_end - 1, score);
  soften<true>(scale, score, m);
  pack_weights<T>(score, weights);

  for (int i = 1; i < count; ++i) {
    const int tile = s.tile_end - 1 - i;
    ptx::mbarrier_wait(&bar.key_full[slot(i)], phase(i));
    take_turn(warpgroup);
    ptx::wgmma_begin();
    multiply_keys<T, kDim, kUsed>(query, key_tile(i), score);
    ptx::wgmma_commit();
    ptx::mbarrier_wait(&bar.value_full[slot(i - 1)], phase(i - 1));
    if (i == 1) clean_tail<kDim>(s, value_tile(0), warpgroup);
    ptx::wgmma_begin();
    multiply_values<T, kUsed>(weights, value_tile(i - 1), sum);
    ptx::wgmma_commit();
    pass_turn(warpgroup);
    ptx::wgmma_wait<1>();
    if (leads) ptx::mbarrier_arrive(&bar.key_empty[slot(i)]);
    if (needs_mask(p, s, tile)) mask(p, s, tile, score);
    soften<false>(scale, score, m);
    ptx::wgmma_wait<0>();
    if (leads) ptx::mbarrier_arrive(&bar.value_empty[slot(i - 1)]);
    pack_weights<T>(score, weights);
#pragma unroll
    for (int n = 0; n < kUsed / 8; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) sum[n * 4 + c] *= m.shrink[c / 2];
    }
  }
  ptx::mbarrier_wait(&bar.value_full[slot(count - 1)], phase(count - 1));
  if (count == 1) clean_tail<kDim>(s, value_tile(0), warpgroup);
  ptx::wgmma_begin();
  multiply_values<T, kUsed>(weights, value_tile(count - 1), sum);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  if (leads) ptx::mbarrier_arrive(&bar.value_empty[slot(count - 1)]);
  write_rows<T, kUsed>(p, s, warpgroup, query, sum, m);
  ptx::fence_proxy_async();  // the query's memory was written by threads, and is copied to next
  __syncwarp();
  if (leads) ptx::mbarrier_arrive(&bar.query_empty[round % 2]);
}

template <class T, int kDim, int kUsed>
__global__ void __launch_bounds__(kThreads, 1)
    prefill_attention_kernel(const __grid_constant__ CUtensorMap query,
                             const __grid_constant__ CUtensorMap keys,
                             const __grid_constant__ CUtensorMap values, const Params p) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ uint8_t dynamic[];
  uint8_t* shared = dynamic + (1024 - ptx::shared_address(dynamic) % 1024) % 1024;
  __shared__ Barriers bar;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) {
      ptx::mbarrier_init(&bar.query_full[i], 1);
      ptx::mbarrier_init(&bar.query_empty[i], 8);
    }
    for (int i = 0; i < kStages; ++i) {
      ptx::mbarrier_init(&bar.key_full[i], 1);
      ptx::mbarrier_init(&bar.value_full[i], 1);
      ptx::mbarrier_init(&bar.key_empty[i], 8);
      ptx::mbarrier_init(&bar.value_empty[i], 8);
    }
    ptx::fence_barrier_init();
  }
  __syncthreads();
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  Span s;
  int tiles = 0;
  if (threadIdx.x < 128) {
    ptx::shrink_registers<40>();
    if (threadIdx.x >= 32) return;
    for (int round = 0; find_span(p, round, s); ++round) {
      produce<kDim>(query, keys, values, p, s, round, tiles, shared, bar);
      tiles += s.tile_end - s.tile_begin;
    }
  } else {
    ptx::grow_registers<232>();
    if (threadIdx.x >= 256) pass_turn(1);
    for (int round = 0; find_span(p, round, s); ++round) {
      consume<T, kDim, kUsed>(p, s, round, tiles, shared, bar);
      tiles += s.tile_end - s.tile_begin;
    }
  }
#endif
}

template <class T, int kDim, int kUsed = kDim>
cudaError_t run(const PrefillAttention& a, int multiprocessors, cudaStream_t stream) {
  const PagedLayer& l = a.layer;
  const auto dim = static_cast<uint64_t>(a.shape.head_dim);  // what is left of kDim reads as zeros
  TensorShape q;
  q.axes = 3;
  q.sizes[0] = dim;
  q.sizes[1] = static_cast<uint64_t>(a.query_rows);
  q.sizes[2] = static_cast<uint64_t>(a.shape.heads);
  q.strides_bytes[0] = static_cast<uint64_t>(a.query_stride) * 2;
  q.strides_bytes[1] = dim * 2;
  q.box[0] = 64;
  q.box[1] = kRowTile;
  q.box[2] = 1;
  TensorShape kv;
  kv.axes = 4;
  const bool in_rows = a.row_stride > 0;
  const uint64_t sizes[4] = {
      dim, in_rows ? static_cast<uint64_t>(a.query_rows) : static_cast<uint64_t>(l.block_tokens),
      static_cast<uint64_t>(l.kv_heads), in_rows ? 1 : static_cast<uint64_t>(l.blocks)};
  const int64_t strides[3] = {in_rows ? a.row_stride : l.token_stride,
                              in_rows ? a.shape.head_dim : l.head_stride,
                              in_rows ? a.row_stride * a.query_rows : l.block_stride};
  const auto tokens =
      static_cast<uint32_t>(in_rows || l.block_tokens > kTokens ? kTokens : l.block_tokens);
  const uint32_t box[4] = {64, tokens, 1, 1};
  for (int i = 0; i < 4; ++i) {
    kv.sizes[i] = sizes[i];
    kv.box[i] = box[i];
    if (i < 3) kv.strides_bytes[i] = static_cast<uint64_t>(strides[i]) * 2;
  }
  CUtensorMap query, keys, values;
  TR_CUDA_TRY(make_tensor_map(&query, a.query, a.shape.dtype, q));
  TR_CUDA_TRY(make_tensor_map(&keys, l.keys, a.shape.dtype, kv));
  TR_CUDA_TRY(make_tensor_map(&values, l.values, a.shape.dtype, kv));
  const int items = a.work_count * a.shape.heads;
  const Params p = {a.shape,  l,       a.output, a.output_stride, a.sequences, a.work,
                    a.blocks, in_rows, items};
  const auto kernel = prefill_attention_kernel<T, kDim, kUsed>;
  TR_CUDA_TRY(allow_shared(kernel, Shared<kDim>::kBytes));
  return launch(kernel,
                {dim3(static_cast<unsigned>(std::min(items, multiprocessors))), dim3(kThreads),
                 static_cast<size_t>(Shared<kDim>::kBytes)},
                stream, query, keys, values, p);
}

}  // namespace

bool prefill_attention_fits_rows(const AttentionShape& s) {
  return s.head_dim >= 40 && s.head_dim <= 128 && s.head_dim % 8 == 0 && s.dtype != DType::f32 &&
         s.softcap == 0.0F && s.alibi_slopes == nullptr;
}

bool prefill_attention_fits(const AttentionShape& s, const PagedLayer& l) {
  const bool blocks_fit =
      (l.block_tokens >= 16 && kTokens % l.block_tokens == 0) || l.block_tokens % kTokens == 0;
  return prefill_attention_fits_rows(s) && blocks_fit;
}

cudaError_t prefill_attention(const PrefillAttention& a, int multiprocessors, cudaStream_t stream) {
  if (a.work_count == 0) return cudaSuccess;
  const bool half = a.shape.dtype == DType::f16;
  const int dim = a.shape.head_dim, blocks = multiprocessors;
  if (dim <= 64)
    return half ? run<__half, 64>(a, blocks, stream) : run<__nv_bfloat16, 64>(a, blocks, stream);
  if (dim <= 80)
    return half ? run<__half, 128, 80>(a, blocks, stream)
                : run<__nv_bfloat16, 128, 80>(a, blocks, stream);
  return half ? run<__half, 128>(a, blocks, stream) : run<__nv_bfloat16, 128>(a, blocks, stream);
}

}  // namespace troupe::cuda
