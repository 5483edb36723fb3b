// Sampling: rows changed by their rules, drawn from (sampling_draw.cuh) and reported, one block a
// row; and what slots remember.
#include "kernels/cuda/sampling.hpp"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/sampling_draw.cuh"

namespace troupe::cuda {
namespace {

using namespace drawing;

constexpr int32_t kSeen = 1 << 30;  // in a token's count: it was there, drawn or not

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

__device__ unsigned long long best_below(Shared& s, const float* row, int32_t n,
                                         unsigned long long ceiling) {
  unsigned long long best = 0;
  each_logit(row, n, [&](float x, int32_t i) {
    const unsigned long long key = key_of(x, i);
    if (key < ceiling && key > best) best = key;
  });
  return block_max(s, best);
}

// The scored token's log-probability and rank, and the likeliest tokens, of the row as it lies.
__device__ void report(Shared& s, const Sampling& p, const LogitRow& wanted, const float* raw,
                       int32_t token, Drawn& out) {
  const auto n = static_cast<int32_t>(p.logits.cols);
  const unsigned long long own_best = best_of_thread(raw, n);
  const float top = logit_of(block_max(s, own_best));
  float sum = 0.0F;
  unsigned long long above = 0;
  const bool scored = token >= 0 && token < n;
  const float own = scored ? raw[token] : INFINITY;
  const auto account = [&](float x) {
    sum += expf(x - top);
    above += x > own ? 1 : 0;
  };
  const int32_t tops = min(min(wanted.top_n, p.tops_stride), n);
  Listing list = {0, kListMax + 1};
  if (tops > 0 && tops <= kListed)
    list = list_best(s, raw, n, tops, own_best, account);
  else
    each_logit(raw, n, [&](float x, int32_t) { account(x); });
  const float log_sum = top + logf(block_sum(s, sum));
  above = block_sum(s, above);
  if (scored) {
    out.logprob = own - log_sum;
    out.rank = 1 + static_cast<int32_t>(above);
  }
  TopToken* const reported =
      p.target->tops + static_cast<int64_t>(blockIdx.x) * p.tops_stride;
  const auto write = [&](int32_t place, unsigned long long key) {
    reported[place] = {token_of(key), logit_of(key) - log_sum};
  };
  if (list.count <= kListMax) {
    if (static_cast<int32_t>(threadIdx.x) < tops) write(threadIdx.x, list.key);
    return;
  }
  unsigned long long ceiling = ~0ULL;
  for (int32_t t = 0; t < tops; ++t) {
    ceiling = best_below(s, raw, n, ceiling);
    if (threadIdx.x == 0) write(t, ceiling);
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
  Drawn out = {-1, 0, 0.0F, 0};
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
  if (threadIdx.x == 0) tell(*p.target, blockIdx.x, out);
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
