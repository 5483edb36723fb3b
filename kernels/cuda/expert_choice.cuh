// Which experts a row goes to, by one block: every expert counts those before it. Where groups
// limit the choice, or experts are many, route_kernel (experts.cu) takes one after the other.
#pragma once

#include "kernels/cuda/experts.hpp"
#include "kernels/cuda/ptx/warp.cuh"

namespace troupe::cuda::choice {

constexpr int kThreads = 256;
constexpr int kExperts = kThreads;  // at most, a thread each

struct Chosen {
  int32_t expert;
  float score;
};

__host__ __device__ inline bool fits(const Routing& r) {
  return r.groups <= 1 && r.experts <= kExperts && r.top_k <= r.experts;
}

// Integers in the order of floats, NaNs at the ends.
__device__ __forceinline__ uint32_t ordered(float x) {
  const auto bits = static_cast<uint32_t>(__float_as_int(x + 0.0F));
  return bits ^ (bits >> 31 != 0 ? 0xffffffffU : 0x80000000U);
}

// What the row's logits say of expert `e`, before anything is chosen. Every warp looks at all of
// them, so nobody waits for another.
__device__ __forceinline__ float score_of(const Routing& r, const float* logits, int e) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float own = e < r.experts ? __ldcg(logits + e) : 0.0F;
  if (r.sigmoid) return 1.0F / (1.0F + expf(-own));
  float all[kExperts / 32];
  float highest = -INFINITY, sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kExperts / 32; ++i) {
    all[i] = i * 32 + lane < r.experts ? __ldcg(logits + i * 32 + lane) : -INFINITY;
    highest = fmaxf(highest, all[i]);
  }
  highest = ptx::warp_largest(highest);
#pragma unroll
  for (int i = 0; i < kExperts / 32; ++i)
    sum += i * 32 + lane < r.experts ? expf(all[i] - highest) : 0.0F;
  return expf(own - highest) / ptx::warp_sum(sum);
}

// chosen[0, top_k), the best first, equal ones in order; there for all after the block's next
// meeting. `keys` are kExperts in shared memory, free again then. All threads, kThreads or more.
__device__ __forceinline__ void choose(const Routing& r, const float* logits, uint32_t* keys,
                                       Chosen* chosen) {
  const auto e = static_cast<int>(threadIdx.x);
  const float score = score_of(r, logits, e);
  const float corrected =
      r.correction != nullptr && e < r.experts ? score + r.correction[e] : score;
  const uint32_t key = e < r.experts ? ordered(corrected) : 0;
  if (e < kExperts) keys[e] = key;
  __syncthreads();
  if (e >= r.experts) return;
  int before = 0;
  for (int i = 0; i < r.experts; i += 4) {  // those behind the last have the lowest key
    const uint4 k = *reinterpret_cast<const uint4*>(keys + i);
    before += k.x > key || (k.x == key && i < e) ? 1 : 0;
    before += k.y > key || (k.y == key && i + 1 < e) ? 1 : 0;
    before += k.z > key || (k.z == key && i + 2 < e) ? 1 : 0;
    before += k.w > key || (k.w == key && i + 3 < e) ? 1 : 0;
  }
  if (before < r.top_k) chosen[before] = {e, score};
}

// The weight of a row's k-th expert.
__device__ __forceinline__ float share_of(const Routing& r, const Chosen* chosen, int k) {
  const float share = chosen[k].score * r.scale;
  if (!r.renormalise) return share;
  float total = 0.0F;
  for (int i = 0; i < r.top_k; ++i) total += chosen[i].score;
  return share / (total + 1e-20F);
}

}  // namespace troupe::cuda::choice
