// One block samples one row. Sums that decide anything are made of integers (weights in units of
// 2^-40), so the result does not depend on the order in which threads add.
//
// The tokens in order of falling logit (equal ones by id) are never sorted: top-k and top-p each
// look for the last token of a prefix of that order. A histogram over even steps of the logit finds
// the step in which the prefix ends, and only the tokens of that step are compared with one
// another.
#include "kernels/cuda/sampling.hpp"

#include "base/philox.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace troupe::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kBins = 2048;
constexpr float kBinsPerUnit =
    64.0F;  // bins cover 32 below the highest logit; the last takes the rest
constexpr int kListMax = 1024;
constexpr float kUnit = 1099511627776.0F;  // 2^40
constexpr int32_t kSeen = 1 << 30;

struct Stats {
  float top;
  int32_t token;
  bool poisoned;
};

struct Shared {
  unsigned long long bins[kBins];
  uint32_t counts[kBins];
  unsigned long long keys[kListMax], measures[kListMax];
  unsigned long long of_warp[kWarps];
  float values[kWarps];
  int32_t tokens[kWarps];
  unsigned long long cut;
  int32_t bin, count;
  int32_t token;
};

template <class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffff, x, d);
  return x;
}

__device__ unsigned long long block_sum(Shared& s, unsigned long long x) {
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  return warp_sum(threadIdx.x % 32 < kWarps ? s.of_warp[threadIdx.x % 32] : 0ULL);
}

__device__ float block_sum(Shared& s, float x) {
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.values[threadIdx.x / 32] = x;
  __syncthreads();
  return warp_sum(s.values[threadIdx.x % 32]);
}

// visit(logit, token) for every token that is this thread's, in rising order.
template <class Visit>
__device__ __forceinline__ void each_logit(const float* row, int32_t n, const Visit& visit) {
  constexpr int kAhead = 4;
  const int32_t pieces = (n + 3) / 4;
  for (int32_t first = threadIdx.x; first < pieces; first += kAhead * kThreads) {
    float4 x[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int32_t piece = first + a * kThreads;
      if (piece < pieces) x[a] = load_piece(row, piece, n);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int32_t i = (first + a * kThreads) * 4;
      if (i < n) visit(x[a].x, i);
      if (i + 1 < n) visit(x[a].y, i + 1);
      if (i + 2 < n) visit(x[a].z, i + 2);
      if (i + 3 < n) visit(x[a].w, i + 3);
    }
  }
}

// The best token of the row below `ceiling` (a key).
__device__ Stats best_of(Shared& s, const float* logits, int32_t n, unsigned long long ceiling) {
  float top = -INFINITY;
  int32_t token = n;
  bool poisoned = false;
  const bool all = ceiling == ~0ULL;
  each_logit(logits, n, [&](float x, int32_t i) {
    poisoned |= isnan(x);
    if ((x > top || token == n) && (all || key_of(x, i) < ceiling)) {
      top = x;
      token = i;
    }
  });
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const float x = __shfl_xor_sync(0xffffffff, top, d);
    const int32_t t = __shfl_xor_sync(0xffffffff, token, d);
    if (t < n && (token == n || x > top || (x == top && t < token))) {
      top = x;
      token = t;
    }
  }
  poisoned = __syncthreads_or(poisoned);
  if (threadIdx.x % 32 == 0) {
    s.values[threadIdx.x / 32] = top;
    s.tokens[threadIdx.x / 32] = token;
  }
  __syncthreads();
  top = s.values[0];
  token = s.tokens[0];
  for (int w = 1; w < kWarps; ++w) {
    const float x = s.values[w];
    const int32_t t = s.tokens[w];
    if (t < n && (token == n || x > top || (x == top && t < token))) {
      top = x;
      token = t;
    }
  }
  __syncthreads();
  return {top, token, poisoned};
}

struct Weigh {
  const float* logits;
  int32_t n;
  float top, inverse_temperature;
  __device__ __forceinline__ unsigned long long of(float logit) const {
    return static_cast<unsigned long long>(expf((logit - top) * inverse_temperature) * kUnit);
  }
};

// The key of the last token, in falling order, before which the measures of tokens at or above
// `floor` add up to less than `goal`. A token's measure is its weight, or one.
__device__ unsigned long long find_cut(Shared& s, const Weigh& w, bool by_weight, double goal,
                                       unsigned long long floor) {
  const auto bin_of = [&](float x) {
    const float d = (w.top - x) * kBinsPerUnit;
    return d < static_cast<float>(kBins - 1) ? static_cast<int32_t>(d) : kBins - 1;
  };
  const auto measure = [&](float x) { return by_weight ? w.of(x) : 1ULL; };
  for (int i = threadIdx.x; i < kBins; i += kThreads) {
    s.bins[i] = 0;
    s.counts[i] = 0;
  }
  if (threadIdx.x == 0) s.count = 0;
  __syncthreads();
  each_logit(w.logits, w.n, [&](float x, int32_t i) {
    if (floor > 0 && key_of(x, i) < floor) return;
    if (!by_weight) {
      atomicAdd(s.counts + bin_of(x), 1U);
    } else if (const unsigned long long m = w.of(x); m > 0) {
      atomicAdd(s.bins + bin_of(x), m);
    }
  });
  __syncthreads();
  if (threadIdx.x == 0) {  // few bins in practice: the prefix ends near the top
    const auto held = [&](int b) { return by_weight ? s.bins[b] : s.counts[b]; };
    unsigned long long before = 0;
    int b = 0;
    while (b < kBins - 1 && static_cast<double>(before + held(b)) < goal) before += held(b++);
    s.bin = b;
    s.cut = before;
  }
  __syncthreads();
  const unsigned long long before_bin = s.cut;
  const int32_t bin = s.bin;
  each_logit(w.logits, w.n, [&](float x, int32_t i) {
    if (bin_of(x) != bin || key_of(x, i) < floor) return;
    const int32_t at = atomicAdd(&s.count, 1);
    if (at < kListMax) {
      s.keys[at] = key_of(x, i);
      s.measures[at] = measure(x);
    }
  });
  __syncthreads();
  const int32_t count = s.count;
  if (threadIdx.x == 0) s.cut = ~0ULL;
  __syncthreads();
  if (count <= kListMax) {
    if (static_cast<int32_t>(threadIdx.x) < count) {
      const unsigned long long mine = s.keys[threadIdx.x];
      unsigned long long before = before_bin;
      for (int i = 0; i < count; ++i) before += s.keys[i] > mine ? s.measures[i] : 0ULL;
      if (static_cast<double>(before) < goal) atomicMin(&s.cut, mine);
    }
    __syncthreads();
    const unsigned long long cut = s.cut;
    __syncthreads();
    return cut;
  }
  // A crowd within one step (ties, a flat row): halve the range of keys.
  unsigned long long low = 0, high = ~0ULL;  // the cut lies in [low, high]
  while (low < high) {
    const unsigned long long middle = low + (high - low) / 2;
    unsigned long long above = 0;  // measures of the bin's tokens with keys above middle
    each_logit(w.logits, w.n, [&](float x, int32_t i) {
      const unsigned long long key = key_of(x, i);
      if (key > middle && key >= floor && bin_of(x) == bin) above += measure(x);
    });
    above = block_sum(s, above) + before_bin;
    if (static_cast<double>(above) < goal)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// The first token, in order of ids, at which the weights of the kept tokens exceed share * their
// sum. Warps take stretches of the row, lanes pieces of four tokens.
class Keeper {
 public:
  static constexpr int kAhead = 4;
  __device__ Keeper(const Weigh& w, unsigned long long cut, float min_p)
      : w_(w), cut_(cut), best_(key_of(w.top, 0)), min_p_(min_p) {}

  __device__ __forceinline__ void pieces(int32_t first, float4 (&x)[kAhead]) const {
#pragma unroll
    for (int a = 0; a < kAhead; ++a) x[a] = load_piece(w_.logits, first + a * 32, w_.n);
  }
  // The weights of a piece's tokens; zero: not kept.
  __device__ __forceinline__ void weigh(const float4& x, int32_t piece,
                                        unsigned long long (&kept)[4]) const {
    const float logits[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int e = 0; e < 4; ++e) kept[e] = weight(logits[e], piece * 4 + e);
  }

 private:
  __device__ __forceinline__ unsigned long long weight(float x, int32_t i) const {
    if (i >= w_.n || key_of(x, i) < cut_) return 0;
    if (min_p_ > 0.0F && expf((x - w_.top) * w_.inverse_temperature) < min_p_ &&
        key_of(x, 0) != best_)
      return 0;
    return w_.of(x);
  }
  const Weigh& w_;
  unsigned long long cut_, best_;
  float min_p_;
};

// One warp: the token of [begin, end) (pieces) at which sums from `before` on exceed the goal, or
// the last token that is kept.
__device__ int32_t walk(const Keeper& k, int32_t begin, int32_t end, unsigned long long before,
                        double goal) {
  const int lane = threadIdx.x % 32;
  int32_t last = -1;
  for (int32_t base = begin; base < end; base += 32 * Keeper::kAhead) {
    float4 x[Keeper::kAhead];
    k.pieces(base + lane, x);
#pragma unroll
    for (int a = 0; a < Keeper::kAhead; ++a) {
      const int32_t piece = base + a * 32 + lane;
      unsigned long long kept[4] = {};
      if (piece < end) k.weigh(x[a], piece, kept);
      const unsigned long long own = kept[0] + kept[1] + kept[2] + kept[3];
      unsigned long long sum = own;
#pragma unroll
      for (int d = 1; d < 32; d *= 2) {
        const unsigned long long y = __shfl_up_sync(0xffffffff, sum, d);
        if (lane >= d) sum += y;
      }
      int32_t found = -1, latest = -1;
      unsigned long long upto = before + sum - own;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        upto += kept[e];
        if (kept[e] == 0) continue;
        latest = piece * 4 + e;
        if (found < 0 && static_cast<double>(upto) > goal) found = latest;
      }
      const uint32_t some = __ballot_sync(0xffffffff, latest >= 0);
      const uint32_t past = __ballot_sync(0xffffffff, found >= 0);
      if (past != 0) return __shfl_sync(0xffffffff, found, __ffs(static_cast<int>(past)) - 1);
      if (some != 0) last = __shfl_sync(0xffffffff, latest, 31 - __clz(static_cast<int>(some)));
      before += __shfl_sync(0xffffffff, sum, 31);
    }
  }
  return last;
}

__device__ int32_t draw_kept(Shared& s, const Weigh& w, unsigned long long cut, float min_p,
                             float share) {
  const Keeper keeper(w, cut, min_p);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int32_t pieces = (w.n + 3) / 4;
  const int32_t each = ((pieces + kWarps - 1) / kWarps + 31) / 32 * 32;
  const int32_t begin = min(warp * each, pieces), end = min(begin + each, pieces);
  unsigned long long mine = 0;
  for (int32_t base = begin + lane; base < end; base += 32 * Keeper::kAhead) {
    float4 x[Keeper::kAhead];
    keeper.pieces(base, x);
#pragma unroll
    for (int a = 0; a < Keeper::kAhead; ++a) {
      unsigned long long kept[4] = {};
      if (base + a * 32 < end) keeper.weigh(x[a], base + a * 32, kept);
      mine += kept[0] + kept[1] + kept[2] + kept[3];
    }
  }
  mine = warp_sum(mine);
  __syncthreads();
  if (lane == 0) s.of_warp[warp] = mine;
  if (threadIdx.x == 0) s.token = -1;
  __syncthreads();
  unsigned long long before = 0, total = 0;
  int32_t last_warp = 0;
  for (int i = 0; i < kWarps; ++i) {
    if (i < warp) before += s.of_warp[i];
    if (s.of_warp[i] > 0) last_warp = i;
    total += s.of_warp[i];
  }
  const double goal = static_cast<double>(share) * static_cast<double>(total);
  const bool here =
      static_cast<double>(before) <= goal && static_cast<double>(before + mine) > goal;
  if (here || (warp == last_warp && static_cast<double>(total) <= goal)) {
    const int32_t token = walk(keeper, begin, end, before, goal);
    if (lane == 0) s.token = token;
  }
  __syncthreads();
  return s.token;
}

// kPoisoned: the row has a NaN.
constexpr int32_t kPoisoned = -2;

__device__ int32_t draw(Shared& s, const DrawRule& r, const float* logits, int32_t n) {
  const Stats best = best_of(s, logits, n, ~0ULL);
  if (best.poisoned) return kPoisoned;
  if (!(best.top > -INFINITY)) return -1;
  if (r.temperature <= 0.0F) return best.token;
  const Weigh w = {logits, n, best.top, 1.0F / r.temperature};
  unsigned long long cut = 0;
  if (r.top_k > 0 && r.top_k < n) cut = find_cut(s, w, false, static_cast<double>(r.top_k), 0);
  if (r.top_p < 1.0F) {
    unsigned long long total = 0;
    each_logit(logits, n, [&](float x, int32_t i) {
      if (key_of(x, i) >= cut) total += w.of(x);
    });
    total = block_sum(s, total);
    const double goal = static_cast<double>(r.top_p) * static_cast<double>(total);
    cut = goal > 0.0 ? find_cut(s, w, true, goal, cut) : key_of(best.top, best.token);
  }
  return draw_kept(s, w, cut, r.min_p, token_uniform(r.seed, r.choice, r.position));
}

__device__ bool ends_with(const SlotMemory& m, int32_t slot, const int32_t* tokens, int32_t count) {
  const int32_t have = m.tail_count[slot];
  if (count > have) return false;
  for (int32_t i = 0; i < count; ++i) {
    if (m.tail[slot * kTail + have - count + i] != tokens[i]) return false;
  }
  return true;
}

__device__ __forceinline__ bool has_penalties(const DrawRule& r) {
  return r.repetition_penalty != 1.0F || r.presence_penalty != 0.0F || r.frequency_penalty != 0.0F;
}

__device__ __forceinline__ bool is_masked(const Sampling& p, const DrawRule& r) {
  return r.mask_row >= 0 && r.mask_row < p.mask_rows;
}
__device__ __forceinline__ bool is_penalised(const Sampling& p, const DrawRule& r) {
  return has_penalties(r) && p.slots.counts != nullptr;
}
__device__ __forceinline__ bool changes_row(const Sampling& p, const DrawRule& r) {
  return p.changed != nullptr &&
         (r.bias_count > 0 || r.bad_count > 0 || is_masked(p, r) || is_penalised(p, r));
}

// Bias, bad words, grammar mask, penalties, on a copy of the row.
__device__ const float* changed_row(const Sampling& p, const DrawRule& r, const float* raw,
                                    float* row) {
  const auto n = static_cast<int32_t>(p.logits.cols);
  const bool masked = is_masked(p, r), penalised = is_penalised(p, r);
  for (int32_t i = threadIdx.x; i < n; i += kThreads) row[i] = raw[i];
  __syncthreads();
  for (int32_t i = threadIdx.x; i < r.bias_count; i += kThreads) {
    const TokenBias b = p.biases[r.bias_begin + i];
    if (b.token >= 0 && b.token < n) atomicAdd(row + b.token, b.bias);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t at = r.bad_begin;
    for (int32_t word = 0; word < r.bad_count && at < p.list_count; ++word) {
      const int32_t length = p.lists[at++];
      if (length < 1 || length > p.list_count - at) break;
      const int32_t last = p.lists[at + length - 1];
      if (last >= 0 && last < n && ends_with(p.slots, r.slot, p.lists + at, length - 1))
        row[last] = -INFINITY;
      at += length;
    }
  }
  __syncthreads();
  const uint32_t* mask =
      masked ? p.masks + static_cast<int64_t>(r.mask_row) * ((n + 31) / 32) : nullptr;
  const int32_t* counts = penalised ? p.slots.counts + r.slot * p.slots.vocab : nullptr;
  for (int32_t i = threadIdx.x; i < n; i += kThreads) {
    float x = row[i];
    if (mask != nullptr && (mask[i / 32] >> (i % 32) & 1U) == 0) x = -INFINITY;
    if (counts != nullptr && counts[i] != 0) {
      x = x > 0.0F ? x / r.repetition_penalty : x * r.repetition_penalty;
      const int32_t generated = counts[i] & (kSeen - 1);
      if (generated > 0)
        x -= r.presence_penalty + r.frequency_penalty * static_cast<float>(generated);
    }
    row[i] = x;
  }
  __syncthreads();
  return row;
}

__device__ __forceinline__ bool is_final(const Sampling& p) {
  return p.scale == 1.0F && p.softcap <= 0.0F;
}

// Scales and caps the row; says whether a NaN is among it.
__device__ bool prepare(const Sampling& p, float* row, int32_t n) {
  bool poisoned = false;
  const bool same = is_final(p);
  each_logit(row, n, [&](float x, int32_t i) {
    if (!same) {
      x *= p.scale;
      if (p.softcap > 0.0F) x = p.softcap * tanhf(x / p.softcap);
      row[i] = x;
    }
    poisoned |= isnan(x);
  });
  return __syncthreads_or(poisoned);
}

__device__ void report(Shared& s, const Sampling& p, const LogitRow& wanted, const float* raw,
                       int32_t token, Drawn& out) {
  const auto n = static_cast<int32_t>(p.logits.cols);
  const Stats best = best_of(s, raw, n, ~0ULL);
  float sum = 0.0F;
  unsigned long long above = 0;
  const bool scored = token >= 0 && token < n;
  const float own = scored ? raw[token] : INFINITY;
  each_logit(raw, n, [&](float x, int32_t) {
    sum += expf(x - best.top);
    above += x > own ? 1 : 0;
  });
  const float log_sum = best.top + logf(block_sum(s, sum));
  above = block_sum(s, above);
  if (scored) {
    out.logprob = own - log_sum;
    out.rank = 1 + static_cast<int32_t>(above);
  }
  unsigned long long ceiling = ~0ULL;
  for (int32_t t = 0; t < wanted.top_n && t < n && t < p.tops_stride; ++t) {
    const Stats next = best_of(s, raw, n, ceiling);
    ceiling = key_of(next.top, next.token);
    if (threadIdx.x == 0) {
      p.tops[static_cast<int64_t>(blockIdx.x) * p.tops_stride + t] = {next.token,
                                                                      next.top - log_sum};
    }
  }
}

__global__ void __launch_bounds__(kThreads) sample_kernel(const __grid_constant__ Sampling p) {
  __shared__ Shared s;
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const auto n = static_cast<int32_t>(p.logits.cols);
  const LogitRow wanted = p.rows[blockIdx.x];
  float* raw =
      static_cast<float*>(p.logits.data) + static_cast<int64_t>(blockIdx.x) * p.logits.stride;
  Drawn out = {-1, 0, 0.0F};
  const bool draws = wanted.sampling >= 0;
  const bool changes = draws && changes_row(p, p.draws[wanted.sampling]);
  // A row that is drawn from as it lies is looked through once: draw() finds a NaN by itself.
  bool poisoned = is_final(p) && draws && !changes ? false : prepare(p, raw, n);
  if (draws && !poisoned) {
    const DrawRule& r = p.draws[wanted.sampling];
    const float* row = raw;
    if (changes) row = changed_row(p, r, raw, p.changed + static_cast<int64_t>(blockIdx.x) * n);
    out.token = draw(s, r, row, n);
    poisoned = out.token == kPoisoned;
    if (poisoned) out.token = -1;
    if (out.token >= 0 && threadIdx.x == 0) {
      append(p.slots, r.slot, out.token);
      if (has_penalties(r) && p.slots.counts != nullptr) {
        int32_t& count = p.slots.counts[r.slot * p.slots.vocab + out.token];
        count = (count | kSeen) + 1;
      }
    }
  }
  if (poisoned) out.logprob = NAN;
  const int32_t scored = wanted.target >= 0 ? wanted.target : out.token;
  if (wanted.top_n >= 0 && !poisoned) report(s, p, wanted, raw, scored, out);
  if (threadIdx.x == 0) p.drawn[blockIdx.x] = out;
}

__global__ void __launch_bounds__(kThreads) histories_kernel(const __grid_constant__ Sampling p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const DrawRule& r = p.draws[blockIdx.x];
  if (r.reset == 0 && r.history_count == 0) return;
  int32_t* counts = has_penalties(r) && p.slots.counts != nullptr
                        ? p.slots.counts + r.slot * p.slots.vocab
                        : nullptr;
  if (r.reset != 0) {
    for (int64_t i = threadIdx.x; counts != nullptr && i < p.slots.vocab; i += kThreads)
      counts[i] = 0;
    if (threadIdx.x == 0) {
      p.slots.tail_count[r.slot] = 0;
      p.slots.last_token[r.slot] = -1;
    }
  }
  __syncthreads();
  const int32_t* history = p.lists + r.history_begin;
  for (int32_t i = threadIdx.x; counts != nullptr && i < r.history_count; i += kThreads) {
    if (history[i] < 0 || history[i] >= p.slots.vocab) continue;
    atomicOr(counts + history[i], kSeen);
    if (i >= r.history_prompt) atomicAdd(counts + history[i], 1);
  }
  if (threadIdx.x != 0) return;
  for (int32_t i = max(0, r.history_count - kTail); i < r.history_count; ++i)
    append(p.slots, r.slot, history[i]);
}

}  // namespace

cudaError_t take_histories(const Sampling& p, cudaStream_t stream) {
  if (p.rules == 0) return cudaSuccess;
  return launch(histories_kernel, {dim3(static_cast<unsigned>(p.rules)), dim3(kThreads)}, stream,
                p);
}

cudaError_t sample(const Sampling& p, cudaStream_t stream) {
  if (p.logits.rows == 0) return cudaSuccess;
  return launch(sample_kernel, {dim3(static_cast<unsigned>(p.logits.rows)), dim3(kThreads)}, stream,
                p);
}

}  // namespace troupe::cuda
