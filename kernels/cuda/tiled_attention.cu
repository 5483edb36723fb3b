// plain_attention's cases for runs of query rows, on the tensor instructions of compute capability
// 7.5 and later: prompts where prefill_attention (Hopper, one kind of view) does not go. Any head
// size up to 576, soft caps, slopes, sinks, windows, spans, latent caches, encoders, packed rows.
//
// A block takes 64 query rows of one head and walks over the tokens that any of them sees, a tile
// at a time; each of its four warps owns 16 rows with a running softmax. The next keys are copied
// while the softmax runs, the values while the scores are made. Rows of several sequences may meet
// in a block: each sequence then has a walk of its own, so that what one has in its cache reaches
// no other, not even multiplied by nothing. Tiles lie at multiples of their size, so that a row's
// sums depend on what it sees alone. Values wider than a block takes are shared by blocks.
#include <climits>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/plain_view.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/math.cuh"
#include "kernels/cuda/ptx/mma.cuh"

namespace troupe::cuda {
namespace {

constexpr int kRows = 64, kWarps = 4, kThreads = kWarps * 32;
constexpr float kLog2e = 1.44269504F;
constexpr int kNowhere = -1;  // a token that nobody sees is zeros

// Elements of a key and of what a block takes of a value, padded; tokens of a tile.
template <int kKeyOf, int kValueOf, int kTokensOf>
struct Size {
  static constexpr int kKey = kKeyOf, kValue = kValueOf, kTokens = kTokensOf;
  static constexpr int kBytes = ((kRows + kTokens) * kKey + kTokens * kValue) * 2;
};

// What the block knows of its rows, and where the tokens of this tile and of the next one lie.
template <int kTokens>
struct Lists {
  int sequence[kRows], begin[kRows], end[kRows], position[kRows];
  int places[2][kTokens];
};

// Rows of `kWidth` elements in shared memory; pieces of 16 bytes change places so that eight rows'
// pieces of one column lie in different banks.
template <int kWidth>
__device__ __forceinline__ uint32_t piece_at(uint32_t base, int row, int piece) {
  return base + static_cast<uint32_t>(row * kWidth * 2 + (piece ^ row % 8) * 16);
}

// Copies rows of at most kWidth elements; place(row) says where in `from` one begins, in elements.
template <int kWidth, int kCount, class T, class Place>
__device__ __forceinline__ void copy_rows(uint32_t to, const T* from, int width,
                                          const Place& place) {
  constexpr int kPieces = kWidth / 8;
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x); i < kCount * kPieces; i += kThreads) {
    const int row = i / kPieces, piece = i % kPieces;
    const int64_t at = place(row);
    const bool here = at >= 0 && piece * 8 < width;
    ptx::copy16_async(piece_at<kWidth>(to, row, piece), from + (here ? at + piece * 8 : 0), here);
  }
}

template <class T, class S>
class Block {
 public:
  using Held = Lists<S::kTokens>;

  __device__ Block(const PlainAttention& p, uint32_t shared, Held& held)
      : p_(p),
        held_(held),
        queries_(shared),
        keys_(queries_ + kRows * S::kKey * 2),
        values_(keys_ + S::kTokens * S::kKey * 2),
        head_(static_cast<int>(blockIdx.y)),
        first_row_(static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows),
        first_value_(static_cast<int>(blockIdx.z) * S::kValue),
        value_dim_(static_cast<int>(p.output.cols) / p.shape.heads),
        kv_head_(head_ / (p.shape.heads / kv_heads_of(p))) {}

  __device__ void run() {
    look_at_rows();
    __syncthreads();
    copy_rows<S::kKey, kRows>(
        queries_, static_cast<const T*>(p_.query.data), p_.shape.head_dim, [&](int row) {
          return held_.sequence[row] < 0
                     ? int64_t{kNowhere}
                     : (first_row_ + row) * p_.query.stride + head_ * p_.shape.head_dim;
        });
    ptx::commit_copies();
    for (int first = 0, next = 0; first < kRows; first = next) {
      const int sequence = held_.sequence[first];
      while (next < kRows && held_.sequence[next] == sequence) ++next;
      if (sequence >= 0) attend(p_.sequences[sequence], first, next);
    }
  }

 private:
  static constexpr int kStrips = S::kTokens / 8;  // of scores, 8 tokens each
  static constexpr int kValues = S::kValue / 8;  // of the result, 8 elements each
  static constexpr int kKeys = S::kKey / 16;

  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
  static __device__ __forceinline__ int warp() { return static_cast<int>(threadIdx.x) / 32; }
  // The two rows of which this thread has sums.
  static __device__ __forceinline__ int row_of(int half) {
    return warp() * 16 + half * 8 + lane() / 4;
  }

  __device__ void look_at_rows() {
    const auto row = static_cast<int>(threadIdx.x);
    if (row >= kRows) return;
    const int at = first_row_ + row;
    int sequence = at < p_.query.rows ? p_.row_sequence[at] : -1;
    if (sequence >= 0 && p_.sequences[sequence].row_count <= p_.rows_above) sequence = -1;
    held_.sequence[row] = sequence;
    if (sequence < 0) return;
    const View view = visible(p_, p_.sequences[sequence], at);
    held_.begin[row] = view.begin;
    held_.end[row] = view.end;
    held_.position[row] = p_.positions != nullptr ? p_.positions[at] : 0;
  }

  __device__ __forceinline__ void find_places(const AttentionSequence& s, int tile, int lowest,
                                              int highest) {
    const auto i = static_cast<int>(threadIdx.x);
    if (i >= S::kTokens) return;
    const int token = tile * S::kTokens + i;
    held_.places[tile % 2][i] = token >= lowest && token < highest
                                    ? static_cast<int>(place_of(p_, s, kv_head_, token))
                                    : kNowhere;
  }
  __device__ __forceinline__ void copy_keys(int tile) {
    const Rows keys = keys_of(p_, kv_head_);
    copy_rows<S::kKey, S::kTokens>(keys_, static_cast<const T*>(keys.data), p_.shape.head_dim,
                                   [&](int i) {
                                     const int64_t place = held_.places[tile % 2][i];
                                     return place < 0 ? place : place * keys.stride;
                                   });
  }
  __device__ __forceinline__ void copy_values(int tile) {
    const Rows values = values_of(p_, kv_head_, value_dim_);
    copy_rows<S::kValue, S::kTokens>(values_, static_cast<const T*>(values.data) + first_value_,
                                     value_dim_ - first_value_, [&](int i) {
                                       const int64_t place = held_.places[tile % 2][i];
                                       return place < 0 ? place : place * values.stride;
                                     });
  }

  // Rows [first, next) of the block, which are of one sequence.
  __device__ void attend(const AttentionSequence& s, int first, int next) {
    int lowest = INT_MAX, highest = 0;
    for (int row = first; row < next; ++row) {
      if (held_.begin[row] >= held_.end[row]) continue;
      lowest = min(lowest, held_.begin[row]);
      highest = max(highest, held_.end[row]);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row_of(half);
      const bool mine = row >= first && row < next;
      begin_[half] = mine ? held_.begin[row] : 0;
      end_[half] = mine ? held_.end[row] : 0;
      position_[half] = mine ? held_.position[row] : 0;
      top_[half] = -INFINITY;
      weight_[half] = 0.0F;
    }
#pragma unroll
    for (int v = 0; v < kValues; ++v) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums_[v][e] = 0.0F;
    }
    if (highest > lowest) walk(s, lowest, highest);
    ptx::wait_copies<0>();
    write(first, next);
    __syncthreads();  // before the next sequence's copies
  }

  __device__ void walk(const AttentionSequence& s, int lowest, int highest) {
    const int begin = lowest / S::kTokens, end = (highest + S::kTokens - 1) / S::kTokens;
    find_places(s, begin, lowest, highest);
    __syncthreads();
    copy_keys(begin);
    ptx::commit_copies();
    for (int tile = begin; tile < end; ++tile) {
      copy_values(tile);
      ptx::commit_copies();
      if (tile + 1 < end) find_places(s, tile + 1, lowest, highest);
      ptx::wait_copies<1>();  // all but the values
      __syncthreads();
      score();
      __syncthreads();
      if (tile + 1 < end) copy_keys(tile + 1);
      ptx::commit_copies();
      soften(tile * S::kTokens);
      ptx::wait_copies<1>();  // all but the next keys
      __syncthreads();
      add_values();
      __syncthreads();
    }
  }

  __device__ __forceinline__ void score() {
#pragma unroll
    for (int n = 0; n < kStrips; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) scores_[n][e] = 0.0F;
    }
#pragma unroll 2
    for (int k = 0; k < kKeys; ++k) {
      uint32_t a[4];
      ptx::load_matrix(a,
                       piece_at<S::kKey>(queries_, warp() * 16 + lane() % 16, k * 2 + lane() / 16));
#pragma unroll
      for (int n = 0; n < kStrips; n += 2) {
        uint32_t b[4];
        ptx::load_matrix(b, piece_at<S::kKey>(keys_, n * 8 + lane() / 16 * 8 + lane() % 8,
                                              k * 2 + lane() / 8 % 2));
        ptx::mma_16x8x16<T>(scores_[n], a, b[0], b[1]);
        ptx::mma_16x8x16<T>(scores_[n + 1], a, b[2], b[3]);
      }
    }
  }

  [[nodiscard]] __device__ __forceinline__ float bend(float score, int token, int half,
                                                      float slope) const {
    score *= p_.shape.scale;
    if (p_.shape.softcap > 0.0F) score = p_.shape.softcap * tanhf(score / p_.shape.softcap);
    return score + slope * static_cast<float>(token - position_[half]);
  }

  // Scores become weights; what was added up before shrinks as the highest score rises.
  __device__ __forceinline__ void soften(int first_token) {
    const float slope = p_.shape.alibi_slopes != nullptr ? p_.shape.alibi_slopes[head_] : 0.0F;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = top_[half];
#pragma unroll
      for (int n = 0; n < kStrips; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int token = first_token + n * 8 + lane() % 4 * 2 + e;
          float& score = scores_[n][half * 2 + e];
          score = token >= begin_[half] && token < end_[half] ? bend(score, token, half, slope)
                                                              : -INFINITY;
          top = fmaxf(top, score);
        }
      }
      top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
      const float base = top == -INFINITY ? 0.0F : top * kLog2e;
      const float shrink = ptx::exp2_flushed(top_[half] * kLog2e - base);
      top_[half] = top;
      float weight = 0.0F;
#pragma unroll
      for (int n = 0; n < kStrips; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& score = scores_[n][half * 2 + e];
          score = ptx::exp2_flushed(score * kLog2e - base);
          weight += score;
        }
      }
      weight_[half] = weight_[half] * shrink + weight;
#pragma unroll
      for (int v = 0; v < kValues; ++v) {
        sums_[v][half * 2] *= shrink;
        sums_[v][half * 2 + 1] *= shrink;
      }
    }
  }

  __device__ __forceinline__ void add_values() {
#pragma unroll
    for (int k = 0; k < S::kTokens / 16; ++k) {
      const float(&low)[4] = scores_[2 * k];
      const float(&high)[4] = scores_[2 * k + 1];
      const uint32_t a[4] = {pack<T>(low[0], low[1]), pack<T>(low[2], low[3]),
                             pack<T>(high[0], high[1]), pack<T>(high[2], high[3])};
#pragma unroll
      for (int v = 0; v < kValues; v += 2) {
        uint32_t b[4];
        ptx::load_matrix_transposed(
            b, piece_at<S::kValue>(values_, k * 16 + lane() % 16, v + lane() / 16));
        ptx::mma_16x8x16<T>(sums_[v], a, b[0], b[1]);
        ptx::mma_16x8x16<T>(sums_[v + 1], a, b[2], b[3]);
      }
    }
  }

  __device__ void write(int first, int next) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float weight = weight_[half];
      weight += __shfl_xor_sync(0xffffffff, weight, 1);
      weight += __shfl_xor_sync(0xffffffff, weight, 2);
      const float sink = p_.shape.sinks != nullptr ? p_.shape.sinks[head_] : -INFINITY;
      const float highest = fmaxf(top_[half], sink);
      const auto share = [&](float top) {
        return top == -INFINITY ? 0.0F : ptx::exp2_flushed((top - highest) * kLog2e);
      };
      const float own = share(top_[half]), total = weight * own + share(sink);
      const float factor = total > 0.0F ? own / total : 0.0F;
      const int row = row_of(half);
      if (row < first || row >= next) continue;
      T* out = static_cast<T*>(p_.output.data) + (first_row_ + row) * p_.output.stride +
               head_ * value_dim_ + first_value_;
#pragma unroll
      for (int v = 0; v < kValues; ++v) {
        const int c = v * 8 + lane() % 4 * 2;
        if (first_value_ + c < value_dim_)
          *reinterpret_cast<uint32_t*>(out + c) =
              pack<T>(sums_[v][half * 2] * factor, sums_[v][half * 2 + 1] * factor);
      }
    }
  }

  const PlainAttention& p_;
  Held& held_;
  uint32_t queries_, keys_, values_;
  int head_, first_row_, first_value_, value_dim_, kv_head_;
  int begin_[2], end_[2], position_[2];
  float top_[2], weight_[2];
  float scores_[kStrips][4], sums_[kValues][4];
};

template <class T, class S>
__global__ void __launch_bounds__(kThreads)
    tiled_attention_kernel(const __grid_constant__ PlainAttention p) {
  extern __shared__ __align__(128) char shared[];
  __shared__ Lists<S::kTokens> held;
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  Block<T, S>(p, static_cast<uint32_t>(__cvta_generic_to_shared(shared)), held).run();
}

template <class T, class S>
cudaError_t run(const PlainAttention& p, cudaStream_t stream) {
  const auto value_dim = static_cast<unsigned>(p.output.cols / p.shape.heads);
  const LaunchShape shape = {
      dim3(static_cast<unsigned>((p.query.rows + kRows - 1) / kRows),
           static_cast<unsigned>(p.shape.heads), (value_dim + S::kValue - 1) / S::kValue),
      dim3(kThreads), S::kBytes};
  TR_CUDA_TRY(allow_shared(tiled_attention_kernel<T, S>, S::kBytes));
  return launch(tiled_attention_kernel<T, S>, shape, stream, p);
}

using Small = Size<64, 64, 64>;
using Usual = Size<128, 128, 64>;
using Large = Size<256, 256, 64>;
using Latent = Size<576, 256, 32>;

template <class Visit>
auto with_size(const PlainAttention& p, const Visit& visit) {
  const int64_t widest = p.output.cols / p.shape.heads > p.shape.head_dim
                             ? p.output.cols / p.shape.heads
                             : int64_t{p.shape.head_dim};
  if (widest <= 64) return visit(Small{});
  if (widest <= 128) return visit(Usual{});
  if (p.shape.head_dim <= 256) return visit(Large{});
  return visit(Latent{});
}

bool are_pieces(const PlainAttention& p) {
  if (p.cache.keys == nullptr) return is_aligned(p.keys) && is_aligned(p.values);
  return reinterpret_cast<uintptr_t>(p.cache.keys) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(p.cache.values) % 16 == 0 && p.cache.key_dim % 8 == 0 &&
         p.cache.value_row % 8 == 0;
}

}  // namespace

bool tiled_attention_fits(const PlainAttention& p) {
  const DType cached = p.cache.keys != nullptr ? p.cache.dtype : p.keys.dtype;
  const bool halves = p.query.dtype == DType::f16 || p.query.dtype == DType::bf16;
  return halves && cached == p.query.dtype && p.output.dtype == p.query.dtype &&
         p.shape.head_dim <= Latent::kKey && p.shape.head_dim % 8 == 0 &&
         p.output.cols / p.shape.heads % 8 == 0 && is_aligned(p.query) && is_aligned(p.output) &&
         are_pieces(p) && with_size(p, [&](auto size) {
           return decltype(size)::kBytes + sizeof(Lists<decltype(size)::kTokens>) <= p.shared_max;
         });
}

cudaError_t tiled_attention(const PlainAttention& p, cudaStream_t stream) {
  return with_size(p, [&](auto size) {
    using S = decltype(size);
    return p.query.dtype == DType::f16 ? run<__half, S>(p, stream)
                                       : run<__nv_bfloat16, S>(p, stream);
  });
}

}  // namespace troupe::cuda
