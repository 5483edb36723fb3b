// Routing, one block a row, and who multiplies: experts_stream.cu takes the few rows of decoding,
// experts_tiles.cu more. What neither takes (f32, odd sizes, experts elsewhere, older devices) is
// done here, by one warp a row of a chosen expert's weight, which it reads once in 16-byte pieces.
// Rows add up their experts' results in one order, so nothing depends on timing.
#include "kernels/cuda/experts.hpp"

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/curve.cuh"
#include "kernels/cuda/expert_choice.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"

namespace troupe::cuda {
namespace {

constexpr int kWarps = 8;

// Takes the best not yet taken of values[begin, begin + count); equal ones in order. One warp.
__device__ __forceinline__ int take_best(const float* values, bool* taken, int begin, int count) {
  float best = -INFINITY;
  int at = -1;
  for (int i = begin + static_cast<int>(threadIdx.x); i < begin + count; i += 32) {
    if (!taken[i] && (at < 0 || values[i] > best)) {
      best = values[i];
      at = i;
    }
  }
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const float x = __shfl_xor_sync(0xffffffff, best, d);
    const int i = __shfl_xor_sync(0xffffffff, at, d);
    if (i >= 0 && (at < 0 || x > best || (x == best && i < at))) {
      best = x;
      at = i;
    }
  }
  __syncwarp();
  if (at >= 0 && threadIdx.x == 0) taken[at] = true;
  __syncwarp();
  return at;
}

__device__ void keep_best_groups(const Routing& r, float* choice, bool* taken, float* group_scores,
                                 bool* kept) {
  const int size = r.experts / r.groups;
  for (int g = 0; g < r.groups; ++g) {
    float score = 0.0F;
    for (int i = 0; i < r.group_score_top && i < size; ++i) {
      const int at = take_best(choice, taken, g * size, size);
      if (at >= 0) score += choice[at];
    }
    if (threadIdx.x == 0) group_scores[g] = score;
    if (threadIdx.x == 0) kept[g] = false;
  }
  __syncwarp();
  for (int i = 0; i < r.top_groups && i < r.groups; ++i) take_best(group_scores, kept, 0, r.groups);
  for (int e = static_cast<int>(threadIdx.x); e < r.experts; e += 32) {
    if (!kept[min(e / size, r.groups - 1)]) choice[e] = -INFINITY;
  }
  for (int e = static_cast<int>(threadIdx.x); e < r.experts; e += 32) taken[e] = false;
  __syncwarp();
}


// Where products find their expert.
__device__ __forceinline__ void leave_choice(const ExpertsWork& p, int64_t item, int expert,
                                             float share) {
  const int local = expert - p.first;
  const bool here = local >= 0 && local < p.local;
  p.shares[item] = share;
  p.chosen[item] = here ? p.weights[local] : ExpertWeights{};
  p.expert_of[item] = here ? local : -1;
}

__global__ void __launch_bounds__(choice::kThreads)
    count_route_kernel(const __grid_constant__ ExpertsWork p) {
  __shared__ __align__(16) uint32_t keys[choice::kExperts];
  __shared__ choice::Chosen chosen[choice::kExperts];
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t row = blockIdx.x;
  const auto k = static_cast<int>(threadIdx.x);
  choice::choose(p.routing, static_cast<const float*>(p.logits.data) + row * p.logits.stride, keys,
                 chosen);
  __syncthreads();
  if (k >= p.routing.top_k) return;
  leave_choice(p, row * p.routing.top_k + k, chosen[k].expert,
               choice::share_of(p.routing, chosen, k));
}

__global__ void __launch_bounds__(32) route_kernel(const __grid_constant__ ExpertsWork p) {
  __shared__ float scores[kExpertsMax], choice[kExpertsMax], group_scores[kExpertsMax];
  __shared__ bool taken[kExpertsMax], kept[kExpertsMax];
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const Routing& r = p.routing;
  const int64_t row = blockIdx.x;
  const auto lane = static_cast<int>(threadIdx.x);
  const float* logits = static_cast<const float*>(p.logits.data) + row * p.logits.stride;
  float highest = -INFINITY;
  for (int e = lane; e < r.experts; e += 32) highest = fmaxf(highest, logits[e]);
  highest = ptx::warp_largest(highest);
  float sum = 0.0F;
  for (int e = lane; e < r.experts; e += 32) {
    scores[e] = r.sigmoid ? 1.0F / (1.0F + expf(-logits[e])) : expf(logits[e] - highest);
    sum += scores[e];
  }
  sum = ptx::warp_sum(sum);
  for (int e = lane; e < r.experts; e += 32) {
    if (!r.sigmoid) scores[e] /= sum;
    choice[e] = scores[e] + (r.correction != nullptr ? r.correction[e] : 0.0F);
    taken[e] = false;
  }
  __syncwarp();
  if (r.groups > 1) keep_best_groups(r, choice, taken, group_scores, kept);
  float total = 0.0F;
  for (int k = 0; k < r.top_k; ++k) {
    int e = take_best(choice, taken, 0, r.experts);
    if (p.forced != nullptr) e = p.forced[row * r.top_k + k];
    total += scores[e];
    if (lane == 0) leave_choice(p, row * r.top_k + k, e, scores[e] * r.scale);
  }
  __syncwarp();
  if (!r.renormalise) return;
  for (int k = lane; k < r.top_k; k += 32) p.shares[row * r.top_k + k] /= total + 1e-20F;
}

// This lane's part of the products of kRows rows of a weight with x.
template <class T, int kRows>
__device__ __forceinline__ void multiply(const T* const (&rows)[kRows], const T* x, int n,
                                         float (&sum)[kRows]) {
  constexpr int kCount = 16 / sizeof(T);
  const int lane = threadIdx.x % 32;
  bool whole = n % kCount == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) whole = whole && reinterpret_cast<uintptr_t>(rows[r]) % 16 == 0;
  const int pieces = whole ? n / kCount : 0;
#pragma unroll 4
  for (int i = lane; i < pieces; i += 32) {
    uint4 bits[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) bits[r] = __ldcs(reinterpret_cast<const uint4*>(rows[r]) + i);
    const uint4 y = reinterpret_cast<const uint4*>(x)[i];
    const T* v = reinterpret_cast<const T*>(&y);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const T* u = reinterpret_cast<const T*>(&bits[r]);
#pragma unroll
      for (int e = 0; e < kCount; ++e) sum[r] += to_float(u[e]) * to_float(v[e]);
    }
  }
  for (int i = pieces * kCount + lane; i < n; i += 32) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) sum[r] += to_float(rows[r][i]) * to_float(x[i]);
  }
}

// between[row, k, column] = curve(gate) * up of the row's k-th expert.
template <class T>
__global__ void __launch_bounds__(kWarps * 32) up_kernel(const __grid_constant__ ExpertsWork p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t item = blockIdx.x;  // row * top_k + k
  const int column = static_cast<int>(blockIdx.y) * kWarps + static_cast<int>(threadIdx.x) / 32;
  const ExpertWeights w = p.chosen[item];
  if (w.gate_up == nullptr || column >= p.inner) return;
  const auto hidden = static_cast<int>(p.input.cols);
  const T* x = static_cast<const T*>(p.input.data) + item / p.routing.top_k * p.input.stride;
  const T* rows = static_cast<const T*>(w.gate_up);
  const T* const both[2] = {rows + static_cast<int64_t>(column) * hidden,
                            rows + static_cast<int64_t>(p.inner + column) * hidden};
  float sums[2] = {};
  multiply(both, x, hidden, sums);
  float gate = ptx::warp_sum(sums[0]), up = ptx::warp_sum(sums[1]);
  if (w.gate_up_bias != nullptr) {
    gate += to_float(static_cast<const T*>(w.gate_up_bias)[column]);
    up += to_float(static_cast<const T*>(w.gate_up_bias)[p.inner + column]);
  }
  if (threadIdx.x % 32 == 0)
    static_cast<T*>(p.between)[item * p.inner + column] = from_float<T>(bent(p.curve, gate) * up);
}

// Warps that share a column of the output, each with some of the row's experts.
__host__ __device__ constexpr int sharers(int top_k) {
  return top_k >= 4 ? 4 : top_k >= 2 ? 2 : 1;
}

template <class T>
__global__ void __launch_bounds__(kWarps * 32) down_kernel(const __grid_constant__ ExpertsWork p) {
  __shared__ float parts[kWarps];
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t row = blockIdx.x;
  const int warp = static_cast<int>(threadIdx.x) / 32, top_k = p.routing.top_k;
  const int ways = sharers(top_k);
  const int column = static_cast<int>(blockIdx.y) * (kWarps / ways) + warp / ways;
  float sum = 0.0F, bias = 0.0F;
  for (int k = warp % ways; k < top_k && column < p.output.cols; k += ways) {
    const int64_t item = row * top_k + k;
    const float share = p.shares[item];
    const ExpertWeights w = p.chosen[item];
    if (w.down == nullptr) continue;
    const T* const rows[1] = {static_cast<const T*>(w.down) +
                              static_cast<int64_t>(column) * p.inner};
    float part[1] = {};
    multiply(rows, static_cast<const T*>(p.between) + item * p.inner, p.inner, part);
    sum += share * part[0];
    if (w.down_bias != nullptr)
      bias += share * to_float(static_cast<const T*>(w.down_bias)[column]);
  }
  sum = ptx::warp_sum(sum) + bias;
  if (threadIdx.x % 32 == 0) parts[warp] = sum;
  __syncthreads();
  if (threadIdx.x % 32 != 0 || warp % ways != 0 || column >= p.output.cols) return;
  for (int i = 1; i < ways; ++i) sum += parts[warp + i];
  static_cast<T*>(p.output.data)[row * p.output.stride + column] = from_float<T>(sum);
}

}  // namespace

cudaError_t experts(const ExpertsWork& p, cudaStream_t stream) {
  if (p.input.rows == 0) return cudaSuccess;
  if (p.routing.experts > kExpertsMax || p.routing.top_k > kTopMax) return cudaErrorInvalidValue;
  const auto rows = static_cast<unsigned>(p.input.rows);
  const bool streams = experts_stream_fits(p),
             counted = choice::fits(p.routing) && p.forced == nullptr;
  if (!counted) {
    TR_CUDA_TRY(launch(route_kernel, {dim3(rows), dim3(32)}, stream, p));
  } else if (!streams) {
    TR_CUDA_TRY(launch(count_route_kernel, {dim3(rows), dim3(choice::kThreads)}, stream, p));
  }
  if (streams) return expert_streams(p, !counted, stream);
  if (experts_in_tiles(p)) return expert_tiles(p, stream);
  const auto blocks = [](int64_t n, int each) {
    return static_cast<unsigned>((n + each - 1) / each);
  };
  const LaunchShape up = {
      dim3(rows * static_cast<unsigned>(p.routing.top_k), blocks(p.inner, kWarps)),
      dim3(kWarps * 32)};
  const LaunchShape down = {dim3(rows, blocks(p.output.cols, kWarps / sharers(p.routing.top_k))),
                            dim3(kWarps * 32)};
  TR_DISPATCH_FLOAT(p.dtype, TR_CUDA_TRY(launch(up_kernel<T>, up, stream, p));
                    return launch(down_kernel<T>, down, stream, p));
}

}  // namespace troupe::cuda
