// A matrix product for few rows. The weight is read once, and everything serves that: the weight
// takes the place of A in the warpgroup product (64 of its rows at a time), the input that of B.
//
// One block per multiprocessor. The work is cut into chunks: a tile of 64 or 128 weight rows times
// a part of k. A block begins with the chunk of its own number and then takes the next free one,
// since multiprocessors do not get memory at the same speed; a tile's parts are summed by whichever
// block finishes it last, in the order of the parts, so results do not depend on timing. A producer
// thread keeps kStages steps in flight; it asks for weights before the kernel in front has finished
// (they do not depend on it), which hides part of the small kernels between two products. Weights
// pass through L2 marked as first to go.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/tma.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/skinny_gemm.hpp"
#include "kernels/cuda/tensor_map.hpp"

namespace troupe::cuda {
namespace {

struct Params {
  int m, n, steps, tiles, parts;
  const void* bias;
  void* output;
  int64_t output_stride;
  float* partials;
  uint32_t* counters;  // per tile; before them the next free chunk and how many blocks are done
  bool output_f32, gated;
};

template <class T>
__device__ __forceinline__ void store(const Params& p, int64_t row, int column, float value) {
  if (p.output_f32) {
    static_cast<float*>(p.output)[row * p.output_stride + column] = value;
  } else {
    static_cast<T*>(p.output)[row * p.output_stride + column] = from_float<T>(value);
  }
}

// `strip` counts 16 weight rows: 8 and 8 following, or 8 of the gate and 8 of the up projection.
template <class T>
__device__ __forceinline__ void write_pair(const Params& p, int strip, int x, float upper,
                                           float lower) {
  const int g = threadIdx.x % 32 / 4;
  const int row = strip * (p.gated ? 8 : 16) + g;
  const int width = p.gated ? p.n / 2 : p.n;
  if (row >= width || x >= p.m) return;
  const int other = row + (p.gated ? width : 8);
  if (const T* bias = static_cast<const T*>(p.bias)) {
    upper += to_float(bias[row]);
    lower += other < p.n ? to_float(bias[other]) : 0.0F;
  }
  if (p.gated) {
    store<T>(p, x, row, upper / (1.0F + __expf(-upper)) * lower);
  } else {
    store<T>(p, x, row, upper);
    if (other < p.n) store<T>(p, x, other, lower);
  }
}

template <int kN, int kGroups, int kBoxes>
struct Stage {
  static constexpr int kWeightBox = kGroups * 64 * 128;
  static constexpr int kInputBox = kN * 128;
  static constexpr int kWeightBytes = kBoxes * kWeightBox;
  static constexpr int kBytes = kBoxes * (kWeightBox + kInputBox);
};

template <class T, int kN, int kGroups>
__device__ __forceinline__ void write_tile(const Params& p, int tile, const float (&sum)[kN / 2]) {
  const int strip = tile * kGroups * 4 + static_cast<int>(threadIdx.x) / 32;
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int j = 0; j < kN / 8; ++j) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      write_pair<T>(p, strip, j * 8 + t * 2 + c, sum[j * 4 + c], sum[j * 4 + 2 + c]);
    }
  }
}

// Leaves a part of a tile in memory; the last part to come adds all of them up.
template <class T, int kN, int kGroups>
__device__ void share_tile(const Params& p, int chunk, float (&sum)[kN / 2]) {
  constexpr int kThreads = kGroups * 128;
  constexpr int kShare = kThreads * (kN / 2);
  __shared__ bool last;
  const int tile = chunk / p.parts;
  float* mine = p.partials + static_cast<int64_t>(chunk) * kShare + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) __stcg(mine + i * kThreads, sum[i]);
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
  if (threadIdx.x == 0) {
    __threadfence();
    uint32_t* counter = p.counters + 2 + tile;
    last = atomicAdd(counter, 1U) + 1 == static_cast<uint32_t>(p.parts);
    if (last) *counter = 0;
    __threadfence();
  }
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
  if (!last) return;
  const float* share = p.partials + static_cast<int64_t>(tile) * p.parts * kShare + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) sum[i] = 0.0F;
  for (int part = 0; part < p.parts; ++part, share += kShare) {
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) sum[i] += __ldcg(share + i * kThreads);
  }
  write_tile<T, kN, kGroups>(p, tile, sum);
}

constexpr int kNone = -1;

constexpr int kChunksMax = 4096;  // of a weight whose tiles are cut: bounds the memory for sums

template <class T, int kN, int kGroups, int kBoxes, int kStages>
__global__ void __launch_bounds__(kGroups * 128 + 32)
    skinny_gemm_kernel(const __grid_constant__ CUtensorMap weight,
                       const __grid_constant__ CUtensorMap input, const Params p) {
#if __CUDA_ARCH__ >= 900
  using S = Stage<kN, kGroups, kBoxes>;
  extern __shared__ uint8_t dynamic[];
  uint8_t* stages = dynamic + (1024 - ptx::shared_address(dynamic) % 1024) % 1024;
  __shared__ uint64_t full[kStages], empty[kStages];
  __shared__ int held[kStages];  // the chunk that a stage belongs to, or kNone: no more work
  const int warp = threadIdx.x / 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      ptx::mbarrier_init(full + s, 1);
      ptx::mbarrier_init(empty + s, kGroups * 4);
    }
    ptx::fence_barrier_init();
  }
  __syncthreads();
  ptx::let_next_kernel_start();
  const auto chunks = p.tiles * p.parts;
  const auto first_step = [&](int chunk) { return p.steps * (chunk % p.parts) / p.parts; };
  const auto end_step = [&](int chunk) { return p.steps * (chunk % p.parts + 1) / p.parts; };

  if (warp == kGroups * 4) {
    if (threadIdx.x % 32 != 0) return;
    const auto load_weight = [&](int slot, int chunk, int step) {
      uint8_t* to = stages + slot * S::kBytes;
      held[slot] = chunk;
      ptx::mbarrier_expect_bytes(full + slot, S::kBytes);
#pragma unroll
      for (int b = 0; b < kBoxes; ++b) {
        ptx::load_box(to + b * S::kWeightBox, &weight, full + slot, ptx::kEvictFirst,
                      (step * kBoxes + b) * 64, 0, 0, chunk / p.parts * kGroups * 4);
      }
    };
    const auto load_input = [&](int slot, int step) {
      uint8_t* to = stages + slot * S::kBytes + S::kWeightBytes;
#pragma unroll
      for (int b = 0; b < kBoxes; ++b) {
        ptx::load_box(to + b * S::kInputBox, &input, full + slot, ptx::kEvictNormal,
                      (step * kBoxes + b) * 64, 0);
      }
    };
    ptx::prefetch_descriptor(&weight);
    ptx::prefetch_descriptor(&input);
    auto chunk = static_cast<int>(blockIdx.x);
    const int first = first_step(chunk), own = end_step(chunk) - first;
    const int ahead = own < kStages ? own : kStages;
    for (int i = 0; i < ahead; ++i) load_weight(i, chunk, first + i);
    ptx::wait_for_earlier_kernels();
    for (int i = 0; i < ahead; ++i) load_input(i, first + i);
    int used = ahead;
    const auto free_slot = [&] {
      const int slot = used % kStages;
      if (used >= kStages) ptx::mbarrier_wait(empty + slot, (used / kStages - 1) & 1);
      ++used;
      return slot;
    };
    int step = first + ahead;
    while (chunk < chunks) {
      // Asked for before it is needed: the answer takes as long as a step.
      const int next = static_cast<int>(atomicAdd(p.counters, 1U) + gridDim.x);
      for (; step < end_step(chunk); ++step) {
        const int slot = free_slot();
        load_weight(slot, chunk, step);
        load_input(slot, step);
      }
      chunk = next;
      step = first_step(chunk);
    }
    const int slot = free_slot();
    held[slot] = kNone;
    ptx::mbarrier_arrive(full + slot);
    if (atomicAdd(p.counters + 1, 1U) + 1 == gridDim.x) {
      p.counters[0] = 0;
      p.counters[1] = 0;
    }
    return;
  }

  ptx::wait_for_earlier_kernels();
  const int group = warp / 4;
  int i = 0;
  for (;;) {
    ptx::mbarrier_wait(full + i % kStages, i / kStages & 1);
    const int chunk = __shfl_sync(0xffffffff, held[i % kStages], 0);
    if (chunk == kNone) break;
    const int steps = end_step(chunk) - first_step(chunk);
    float sum[kN / 2];
#pragma unroll
    for (int j = 0; j < kN / 2; ++j) sum[j] = 0.0F;
    for (int step = 0; step < steps; ++step, ++i) {
      const int s = i % kStages;
      const uint8_t* at = stages + s * S::kBytes;
      ptx::mbarrier_wait(full + s, i / kStages & 1);
      ptx::wgmma_begin();
#pragma unroll
      for (int b = 0; b < kBoxes; ++b) {
        const uint64_t rows = ptx::swizzled_operand(at + b * S::kWeightBox + group * 64 * 128);
        const uint64_t columns = ptx::swizzled_operand(at + S::kWeightBytes + b * S::kInputBox);
#pragma unroll
        for (int k = 0; k < 4; ++k) ptx::wgmma_ss<T, kN>(sum, rows + k * 2, columns + k * 2, true);
      }
      ptx::wgmma_commit();
      ptx::wgmma_wait<0>();
      if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(empty + s);
    }
    if (p.parts == 1) {
      write_tile<T, kN, kGroups>(p, chunk, sum);
    } else {
      share_tile<T, kN, kGroups>(p, chunk, sum);
    }
  }
#endif
}

// Parts of k per tile. A multiprocessor alone can take steps about 1.7 times as fast as memory
// feeds all of them, so a product may leave some idle and still run at memory's speed; only where a
// tile is too much for one multiprocessor is k cut, and the sums then cost about one and a half
// steps.
int parts_of(int tiles, int steps, int blocks) {
  constexpr double kFastestStep = 0.6, kSums = 1.5;
  int best = 1;
  double best_cost = 1e30;
  for (int parts = 1;
       parts <= 16 && parts * 2 <= steps && (parts == 1 || tiles * parts <= kChunksMax);
       parts *= 2) {
    const int rounds = (tiles * parts + blocks - 1) / blocks;
    const double memory = static_cast<double>(tiles) * steps / blocks;
    const double alone = static_cast<double>(rounds) * steps / parts * kFastestStep;
    const double cost =
        (alone > memory ? alone : memory) + (parts > 1 ? kSums + 0.3 * rounds : 0.0);
    if (cost < best_cost) {
      best_cost = cost;
      best = parts;
    }
  }
  return best;
}

template <class T, int kN, int kGroups, int kBoxes, int kStages>
cudaError_t run(const SkinnyGemm& a, int multiprocessors, cudaStream_t stream) {
  const auto n = static_cast<uint64_t>(a.n), k = static_cast<uint64_t>(a.k);
  const uint64_t row_bytes = k * 2;
  TensorShape w;
  w.axes = 4;
  const uint64_t strips = a.gated_silu ? n / 16 : (n + 15) / 16;
  const uint64_t sizes[4] = {k, 8, 2, strips};
  const uint64_t strides[3] = {row_bytes, a.gated_silu ? n / 2 * row_bytes : 8 * row_bytes,
                               a.gated_silu ? 8 * row_bytes : 16 * row_bytes};
  const uint32_t box[4] = {64, 8, 2, kGroups * 4};
  for (int i = 0; i < 4; ++i) {
    w.sizes[i] = sizes[i];
    w.box[i] = box[i];
    if (i < 3) w.strides_bytes[i] = strides[i];
  }
  TensorShape x;
  x.axes = 2;
  x.sizes[0] = k;
  x.sizes[1] = static_cast<uint64_t>(a.m);
  x.strides_bytes[0] = static_cast<uint64_t>(a.input_stride) * 2;
  x.box[0] = 64;
  x.box[1] = kN;
  CUtensorMap weight, input;
  TR_CUDA_TRY(make_tensor_map(&weight, a.weight, a.dtype, w));
  TR_CUDA_TRY(make_tensor_map(&input, a.input, a.dtype, x));

  using S = Stage<kN, kGroups, kBoxes>;
  Params p = {};
  p.m = a.m;
  p.n = a.n;
  p.steps = (a.k + 64 * kBoxes - 1) / (64 * kBoxes);
  p.tiles = (a.n + 64 * kGroups - 1) / (64 * kGroups);
  p.bias = a.bias;
  p.output = a.output;
  p.output_stride = a.output_stride;
  p.output_f32 = a.output_f32;
  p.gated = a.gated_silu;
  p.partials = a.partials;
  p.counters = a.counters;
  p.parts = a.parts > 0 ? a.parts : parts_of(p.tiles, p.steps, multiprocessors);
  const int chunks = p.tiles * p.parts;
  const auto grid = static_cast<unsigned>(chunks < multiprocessors ? chunks : multiprocessors);
  // More than half of a multiprocessor's memory: two blocks of one product on one multiprocessor
  // would leave another without any, and all would wait for these two.
  constexpr size_t kMoreThanHalf = 116 << 10;
  const size_t needed = static_cast<size_t>(S::kBytes) * kStages + 1024;
  const size_t shared = needed < kMoreThanHalf ? kMoreThanHalf : needed;
  const auto kernel = skinny_gemm_kernel<T, kN, kGroups, kBoxes, kStages>;
  TR_CUDA_TRY(allow_shared(kernel, shared));
  return launch(kernel, {dim3(grid), dim3(kGroups * 128 + 32), shared}, stream, weight, input, p);
}

template <class T>
cudaError_t choose(const SkinnyGemm& a, int sms, cudaStream_t stream) {
  if (a.m <= 8) {
    if (a.variant == 1) return run<T, 8, 1, 4, 3>(a, sms, stream);
    return run<T, 8, 1, 4, 6>(a, sms, stream);
  }
  if (a.m <= 16) return run<T, 16, 1, 4, 5>(a, sms, stream);
  if (a.m <= 32) return run<T, 32, 1, 4, 4>(a, sms, stream);
  if (a.variant == 1) return run<T, 64, 2, 2, 4>(a, sms, stream);
  return run<T, 64, 1, 4, 3>(a, sms, stream);
}

}  // namespace

size_t skinny_gemm_partials_bytes(int rows) {
  const size_t share = rows <= 8 ? 64 * 8 : rows <= 16 ? 64 * 16 : rows <= 32 ? 128 * 32 : 128 * 64;
  return kChunksMax * share * sizeof(float);
}
size_t skinny_gemm_counters(int64_t n_max) {
  return static_cast<size_t>(n_max / 64 + 3);
}

bool skinny_gemm_fits(const SkinnyGemm& a) {
  return a.m >= 1 && a.m <= kSkinnyRowsMax && a.n >= 1 && a.k >= 8 && a.k % 8 == 0 &&
         a.input_stride % 8 == 0 && reinterpret_cast<uintptr_t>(a.input) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(a.weight) % 16 == 0 && a.dtype != DType::f32 &&
         (!a.gated_silu || a.n % 16 == 0);
}

cudaError_t skinny_gemm(const SkinnyGemm& a, int multiprocessors, cudaStream_t stream) {
  if (!skinny_gemm_fits(a)) return cudaErrorInvalidValue;
  return a.dtype == DType::f16 ? choose<__half>(a, multiprocessors, stream)
                               : choose<__nv_bfloat16>(a, multiprocessors, stream);
}

}  // namespace troupe::cuda
