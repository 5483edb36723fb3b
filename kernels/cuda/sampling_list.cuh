// The best few hundred tokens of a row, in order, without sorting it: the m-th best of what each
// thread finds to be its own best token bounds the m-th best of the row from below, and hardly more
// than m tokens lie above that bound. Nearly every draw with top-k or top-p ends among them, after
// two readings of the row. Where it does not (a crowd of tokens in few threads, a flat row), the
// answer is "not here".
#pragma once

#include "base/philox.hpp"
#include "kernels/cuda/sampling_block.cuh"

namespace troupe::cuda::drawing {

constexpr int32_t kListed = 512;  // so many can be asked for
constexpr float kUnit = 1099511627776.0F;  // 2^40

struct Weigh {
  const float* logits;
  int32_t n;
  float top, inverse_temperature;
  // Of the likeliest token's.
  __device__ __forceinline__ float share_of(float logit) const {
    return expf((logit - top) * inverse_temperature);
  }
  __device__ __forceinline__ unsigned long long of(float logit) const {
    return static_cast<unsigned long long>(share_of(logit) * kUnit);
  }
};

// Thread i's token of the row's best ones, in falling order; zero behind the last.
struct Listing {
  unsigned long long key;
  int32_t count;  // above kListMax: there are too many, and `key` says nothing
};

// At least the `wanted` best tokens, if there are so many. `best` is best_of_thread();
// visit(logit) is called for every token that is this thread's.
template <class Visit>
__device__ Listing list_best(Shared& s, const float* row, int32_t n, int32_t wanted,
                             unsigned long long best, const Visit& visit) {
  const unsigned long long floor = from_thread(s, wanted - 1, sort_falling(s, best));
  const float lowest = floor == 0 ? -INFINITY : logit_of(floor);
  if (threadIdx.x == 0) s.count = 0;
  __syncthreads();
  each_logit(row, n, [&](float x, int32_t i) {
    visit(x);
    if (x < lowest) return;
    const unsigned long long key = key_of(x, i);
    if (key < floor) return;
    const int32_t at = atomicAdd(&s.count, 1);
    if (at < kListMax) s.keys[at] = key;
  });
  __syncthreads();
  const int32_t count = s.count;
  __syncthreads();
  if (count > kListMax) return {0, count};
  const auto thread = static_cast<int32_t>(threadIdx.x);
  return {sort_falling(s, thread < count ? s.keys[thread] : 0ULL), count};
}

constexpr int32_t kNotListed = -3;

// Of the list's first tokens, `kept` of them by thread, the one at which weights in order of ids
// add up to more than share * their sum; or the last.
__device__ inline int32_t draw_by_id(Shared& s, unsigned long long key, unsigned long long weight,
                                     bool kept, float share) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const bool counts = kept && weight > 0;
  const auto total = from_thread(s, kThreads - 1, sum_upto(s, counts ? weight : 0ULL));
  const double goal = static_cast<double>(share) * static_cast<double>(total);
  s.measures[thread] = weight;
  const unsigned long long by_id =
      sort_falling(s, counts ? key << 32 | static_cast<uint32_t>(thread) : 0ULL);
  const bool here = by_id != 0;
  const unsigned long long upto =
      sum_upto(s, here ? s.measures[static_cast<uint32_t>(by_id)] : 0ULL);
  const bool past = here && static_cast<double>(upto) > goal;
  // Sums rise, so those past the goal are the last ones of those that are here.
  const int before = __syncthreads_count(here && !past), some = __syncthreads_count(past);
  const int chosen = some > 0 ? before : before - 1;
  return token_of(from_thread(s, chosen, by_id >> 32));
}

// The draw, if it is decided among the best tokens; else kNotListed.
__device__ inline int32_t draw_listed(Shared& s, const DrawRule& r, const Weigh& w,
                                      unsigned long long best) {
  const bool by_count = r.top_k > 0 && r.top_k < w.n;
  if (by_count ? r.top_k > kListed : r.top_p >= 1.0F && r.min_p <= 0.0F) return kNotListed;
  const bool by_share = r.top_p < 1.0F;
  unsigned long long row_sum = 0;
  const Listing list =
      list_best(s, w.logits, w.n, by_count ? r.top_k : kListed, best, [&](float x) {
        if (by_share && !by_count) row_sum += w.of(x);
      });
  if (list.count > kListMax) return kNotListed;
  const auto place = static_cast<int32_t>(threadIdx.x);
  const bool among = place < (by_count ? min(list.count, r.top_k) : list.count);
  const float logit = logit_of(list.key);
  const unsigned long long weight = among ? w.of(logit) : 0ULL;
  const unsigned long long upto = sum_upto(s, weight);
  const unsigned long long sum =
      by_count ? from_thread(s, kThreads - 1, upto) : block_sum(s, row_sum);
  const double goal = static_cast<double>(r.top_p) * static_cast<double>(sum);
  const bool reached = by_share && static_cast<double>(upto - weight) >= goal;
  const bool rare = r.min_p > 0.0F && w.share_of(logit) < r.min_p && logit != w.top;
  const bool kept = among && (place == 0 || (!reached && !rare));
  const int32_t count = __syncthreads_count(kept);
  if (!by_count && count == list.count && count < w.n) return kNotListed;
  return draw_by_id(s, list.key, weight, kept, token_uniform(r.seed, r.choice, r.position));
}

}  // namespace troupe::cuda::drawing
