// Drawing a token from one row, by one block. Sums that decide anything are made of integers
// (weights in units of 2^-40), so the result does not depend on the order in which threads add.
//
// The tokens in order of falling logit (equal ones by id) are never sorted. Most draws are decided
// among the best few hundred (sampling_list.cuh). Else top-k and top-p each look for the last token
// of a prefix of that order: a histogram over even steps of the logit finds the step in which the
// prefix ends, and only the tokens of that step are compared with one another.
#pragma once

#include "kernels/cuda/sampling_list.cuh"

namespace troupe::cuda::drawing {

constexpr float kBinsPerUnit =
    64.0F;  // bins cover 32 below the highest logit; the last takes the rest

// The key of the last token, in falling order, before which the measures of tokens at or above
// `floor` add up to less than `goal`. A token's measure is its weight, or one.
__device__ inline unsigned long long find_cut(Shared& s, const Weigh& w, bool by_weight,
                                              double goal, unsigned long long floor) {
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
      : w_(w), cut_(cut), min_p_(min_p) {}

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
    if (min_p_ > 0.0F && w_.share_of(x) < min_p_ && x != w_.top) return 0;
    return w_.of(x);
  }
  const Weigh& w_;
  unsigned long long cut_;
  float min_p_;
};

// One warp: the token of [begin, end) (pieces) at which sums from `before` on exceed the goal, or
// the last token that is kept.
__device__ inline int32_t walk(const Keeper& k, int32_t begin, int32_t end,
                               unsigned long long before, double goal) {
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

__device__ inline int32_t draw_kept(Shared& s, const Weigh& w, unsigned long long cut, float min_p,
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
  mine = ptx::warp_sum(mine);
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

// kPoisoned: the row has a NaN. -1: nothing is allowed.
constexpr int32_t kPoisoned = -2;

__device__ inline int32_t draw(Shared& s, const DrawRule& r, const float* logits, int32_t n) {
  const unsigned long long own = best_of_thread(logits, n);
  const unsigned long long best = block_max(s, own);
  if (best == kPoisonedKey) return kPoisoned;
  const float top = logit_of(best);
  if (!(top > -INFINITY)) return -1;
  if (r.temperature <= 0.0F) return token_of(best);
  const Weigh w = {logits, n, top, 1.0F / r.temperature};
  if (const int32_t token = draw_listed(s, r, w, own); token != kNotListed) return token;
  unsigned long long cut = 0;
  if (r.top_k > 0 && r.top_k < n) cut = find_cut(s, w, false, static_cast<double>(r.top_k), 0);
  if (r.top_p < 1.0F) {
    unsigned long long total = 0;
    each_logit(logits, n, [&](float x, int32_t i) {
      if (key_of(x, i) >= cut) total += w.of(x);
    });
    total = block_sum(s, total);
    const double goal = static_cast<double>(r.top_p) * static_cast<double>(total);
    cut = goal > 0.0 ? find_cut(s, w, true, goal, cut) : best;
  }
  return draw_kept(s, w, cut, r.min_p, token_uniform(r.seed, r.choice, r.position));
}

}  // namespace troupe::cuda::drawing
