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
  unsigned long long keys[kListMax], measures[kListMax];
  unsigned long long of_warp[kWarps];
  float values[kWarps];
  int32_t tokens[kWarps];
  unsigned long long cut;
  int32_t bin, count;
  int32_t token;
};

// Orders tokens: larger is better; equal logits by lower id.
__device__ __forceinline__ unsigned long long key_of(float logit, int32_t token) {
  uint32_t bits = __float_as_uint(logit == 0.0F ? 0.0F : logit);
  bits = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return static_cast<unsigned long long>(bits) << 32 | (0xFFFFFFFFU - static_cast<uint32_t>(token));
}

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

// The best token of the row below `ceiling` (a key).
__device__ Stats best_of(Shared& s, const float* logits, int32_t n, unsigned long long ceiling) {
  float top = -INFINITY;
  int32_t token = n;
  bool poisoned = false;
#pragma unroll 4
  for (int32_t i = threadIdx.x; i < n; i += kThreads) {
    const float x = logits[i];
    poisoned |= isnan(x);
    if ((x > top || token == n) && key_of(x, i) < ceiling) {
      top = x;
      token = i;
    }
  }
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
  __device__ __forceinline__ unsigned long long at(int32_t i) const {
    return static_cast<unsigned long long>(expf((logits[i] - top) * inverse_temperature) * kUnit);
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
  const auto measure = [&](int32_t i) { return by_weight ? w.at(i) : 1ULL; };
  for (int i = threadIdx.x; i < kBins; i += kThreads) s.bins[i] = 0;
  if (threadIdx.x == 0) s.count = 0;
  __syncthreads();
  for (int32_t i = threadIdx.x; i < w.n; i += kThreads) {
    if (key_of(w.logits[i], i) < floor) continue;
    const unsigned long long m = measure(i);
    if (m > 0) atomicAdd(s.bins + bin_of(w.logits[i]), m);
  }
  __syncthreads();
  if (threadIdx.x == 0) {  // few bins in practice: the prefix ends near the top
    unsigned long long before = 0;
    int b = 0;
    while (b < kBins - 1 && static_cast<double>(before + s.bins[b]) < goal) before += s.bins[b++];
    s.bin = b;
    s.cut = before;
  }
  __syncthreads();
  const unsigned long long before_bin = s.cut;
  const int32_t bin = s.bin;
  for (int32_t i = threadIdx.x; i < w.n; i += kThreads) {
    if (bin_of(w.logits[i]) != bin || key_of(w.logits[i], i) < floor) continue;
    const int32_t at = atomicAdd(&s.count, 1);
    if (at < kListMax) {
      s.keys[at] = key_of(w.logits[i], i);
      s.measures[at] = measure(i);
    }
  }
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
    for (int32_t i = threadIdx.x; i < w.n; i += kThreads) {
      const unsigned long long key = key_of(w.logits[i], i);
      if (key > middle && key >= floor && bin_of(w.logits[i]) == bin) above += measure(i);
    }
    above = block_sum(s, above) + before_bin;
    if (static_cast<double>(above) < goal)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// The first token, in order of ids, at which the weights of the kept tokens exceed share * their
// sum.
__device__ int32_t draw_kept(Shared& s, const Weigh& w, unsigned long long cut, float min_p,
                             float share) {
  const unsigned long long best = key_of(w.top, 0);
  const auto kept = [&](int32_t i) -> unsigned long long {
    const float x = w.logits[i];
    if (key_of(x, i) < cut) return 0;
    if (min_p > 0.0F && expf((x - w.top) * w.inverse_temperature) < min_p && (key_of(x, 0) != best))
      return 0;
    return w.at(i);
  };
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int32_t each = ((w.n + kWarps - 1) / kWarps + 31) / 32 * 32;
  const int32_t begin = min(warp * each, w.n), end = min(begin + each, w.n);
  unsigned long long mine = 0;
  for (int32_t i = begin + lane; i < end; i += 32) mine += kept(i);
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
    int32_t found = -1, last = -1;
    for (int32_t base = begin; base < end && found < 0; base += 32) {
      const int32_t i = base + lane;
      const unsigned long long x = i < end ? kept(i) : 0;
      unsigned long long sum = x;
#pragma unroll
      for (int d = 1; d < 32; d *= 2) {
        const unsigned long long y = __shfl_up_sync(0xffffffff, sum, d);
        if (lane >= d) sum += y;
      }
      const uint32_t some = __ballot_sync(0xffffffff, x > 0);
      const uint32_t past =
          __ballot_sync(0xffffffff, x > 0 && static_cast<double>(before + sum) > goal);
      if (some != 0) last = base + 31 - __clz(static_cast<int>(some));
      if (past != 0) found = base + __ffs(static_cast<int>(past)) - 1;
      before += __shfl_sync(0xffffffff, sum, 31);
    }
    if (lane == 0) s.token = found >= 0 ? found : last;
  }
  __syncthreads();
  return s.token;
}

__device__ int32_t draw(Shared& s, const DrawRule& r, const float* logits, int32_t n) {
  const Stats best = best_of(s, logits, n, ~0ULL);
  if (!(best.top > -INFINITY)) return -1;
  if (r.temperature <= 0.0F) return best.token;
  const Weigh w = {logits, n, best.top, 1.0F / r.temperature};
  unsigned long long cut = 0;
  if (r.top_k > 0 && r.top_k < n) cut = find_cut(s, w, false, static_cast<double>(r.top_k), 0);
  if (r.top_p < 1.0F) {
    unsigned long long total = 0;
    for (int32_t i = threadIdx.x; i < n; i += kThreads) {
      if (key_of(logits[i], i) >= cut) total += w.at(i);
    }
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

// Bias, bad words, grammar mask, penalties, on a copy of the row.
__device__ const float* changed_row(const Sampling& p, const DrawRule& r, const float* raw,
                                    float* row) {
  const auto n = static_cast<int32_t>(p.logits.cols);
  const bool masked = r.mask_row >= 0 && r.mask_row < p.mask_rows;
  const bool penalised = has_penalties(r) && p.slots.counts != nullptr;
  if (row == nullptr || (r.bias_count == 0 && r.bad_count == 0 && !masked && !penalised))
    return raw;
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

__device__ void append(const SlotMemory& m, int32_t slot, int32_t token) {
  m.last_token[slot] = token;
  int32_t* tail = m.tail + slot * kTail;
  int32_t count = m.tail_count[slot];
  if (count == kTail) {
    for (int i = 0; i + 1 < kTail; ++i) tail[i] = tail[i + 1];
    --count;
  }
  tail[count] = token;
  m.tail_count[slot] = count + 1;
}

// Scales and caps the row; says whether a NaN is among it.
__device__ bool prepare(const Sampling& p, float* row, int32_t n) {
  bool poisoned = false;
  const bool same = p.scale == 1.0F && p.softcap <= 0.0F;
#pragma unroll 4
  for (int32_t i = threadIdx.x; i < n; i += kThreads) {
    float x = row[i];
    if (!same) {
      x *= p.scale;
      if (p.softcap > 0.0F) x = p.softcap * tanhf(x / p.softcap);
      row[i] = x;
    }
    poisoned |= isnan(x);
  }
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
#pragma unroll 4
  for (int32_t i = threadIdx.x; i < n; i += kThreads) {
    sum += expf(raw[i] - best.top);
    above += raw[i] > own ? 1 : 0;
  }
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
  const bool poisoned = prepare(p, raw, n);
  if (wanted.sampling >= 0 && !poisoned) {
    const DrawRule& r = p.draws[wanted.sampling];
    float* changed =
        p.changed != nullptr ? p.changed + static_cast<int64_t>(blockIdx.x) * n : nullptr;
    out.token = draw(s, r, changed_row(p, r, raw, changed), n);
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
