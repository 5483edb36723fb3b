// A product of few rows by a slim weight: skinny_gemm's way of cutting and handing out work, and
// its ends (skinny_sums.cuh). What differs is how the weight comes: as blocks of bytes, one behind
// the other, which warps unpack into registers; from there the warpgroup product takes its A. While
// the tensor cores multiply one block, the next is unpacked into the other half of the registers.
//
// Unpacking takes a warp about as long as memory takes for a block of each of four warps. So a
// multiprocessor has up to sixteen of them at it, also where a tile is only four strips high: then
// they stand along k, and their sums meet in shared memory.
#include <cuda_bf16.h>

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/ring.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/skinny_sums.cuh"
#include "kernels/cuda/slim_block.cuh"
#include "kernels/cuda/slim_gemm.hpp"
#include "kernels/cuda/slim_producer.cuh"
#include "kernels/cuda/tensor_map.hpp"

namespace troupe::cuda {
namespace {

using namespace skinny;
using namespace slim;

constexpr int kStagesMax = 12;
constexpr int kChunksMax = 1024, kSumsMost = 128 * 64 * 1024;  // of tiles that are cut along k

// How the warpgroups of a block share a step: kWide of them its strips, four each, and kDeep of
// them its boxes along k, two each, so that all unpack at once.
template <int kWideGroups, int kDeepGroups>
struct Crew {
  static constexpr int kWide = kWideGroups, kDeep = kDeepGroups, kGroups = kWide * kDeep;
  static constexpr int kBoxes = kDeep * 2;
  // The producer has a group of its own, most of whose registers go to the others.
  static constexpr int kThreads = kGroups * 128 + 128;
  static constexpr int kRegisters = kGroups > 2 ? 112 : 232, kRegistersLeft = kGroups > 2 ? 32 : 40;
};

// Sums of groups further along k, on their way to the first.
template <class Crew, int kN>
struct DeepSums {
  static constexpr int kShare = Crew::kWide * 128 * (kN / 2);
  static constexpr int kBytes = (Crew::kDeep - 1) * kShare * static_cast<int>(sizeof(float));

  // All groups come here; the first of each strip goes on with the whole sums.
  static __device__ __forceinline__ void meet(float* place, float (&sum)[kN / 2]) {
    const int deep = static_cast<int>(threadIdx.x) / 128 / Crew::kWide;
    const int thread = static_cast<int>(threadIdx.x) % (Crew::kWide * 128);
    all();  // the chunk before has been read
    if (deep > 0) {
      float* own = place + (deep - 1) * kShare + thread;
#pragma unroll
      for (int j = 0; j < kN / 2; ++j) own[j * Crew::kWide * 128] = sum[j];
    }
    all();
    if (deep > 0) return;
#pragma unroll
    for (int d = 0; d < Crew::kDeep - 1; ++d) {
#pragma unroll
      for (int j = 0; j < kN / 2; ++j) sum[j] += place[d * kShare + j * Crew::kWide * 128 + thread];
    }
  }
  static __device__ __forceinline__ void all() {
    asm volatile("bar.sync 2, %0;" ::"n"(Crew::kGroups * 128) : "memory");
  }
};

template <int kN, class Crew>
__global__ void __launch_bounds__(Crew::kThreads, 1)
    slim_gemm_kernel(const __grid_constant__ CUtensorMap input,
                     const __grid_constant__ SlimParams p) {
#if __CUDA_ARCH__ >= 900
  using T = __nv_bfloat16;
  constexpr int kBoxes = Crew::kBoxes, kWide = Crew::kWide;
  extern __shared__ uint8_t dynamic[];
  uint8_t* stages = dynamic + (1024 - ptx::shared_address(dynamic) % 1024) % 1024;
  __shared__ uint64_t full[kStagesMax], empty[kStagesMax];
  __shared__ int held[kStagesMax];  // the chunk that a stage belongs to, or kNone: no more work
  const int warp = threadIdx.x / 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < p.stages; ++s) {
      ptx::mbarrier_init(full + s, 1);
      ptx::mbarrier_init(empty + s, Crew::kGroups * 4);
    }
    ptx::fence_barrier_init();
  }
  __syncthreads();
  ptx::let_next_kernel_start();
  if (warp >= Crew::kGroups * 4) {
    ptx::shrink_registers<Crew::kRegistersLeft>();
    if (warp == Crew::kGroups * 4) Producer<kN, kBoxes>(p, input, stages, full, empty, held).run();
    return;
  }
  ptx::grow_registers<Crew::kRegisters>();

  ptx::wait_for_earlier_kernels();
  const Stages<kN, kBoxes> stage(p.stages, p.strips);
  using Deep = DeepSums<Crew, kN>;
  auto* deep_sums = reinterpret_cast<float*>(stages + stage.bytes());
  likeliest::Found<kN> found(stages + stage.bytes() + Deep::kBytes, kWide * 4);
  const bool first = warp < kWide * 4;  // of those who share their strips
  if (p.likeliest != nullptr && first) {
    found.clear(threadIdx.x);
    meet<kWide * 128>();
  }
  // The instruction takes four warps' strips also where a tile has fewer: the others' sums are
  // dropped.
  const int strip = warp % (kWide * 4), deep = warp / (kWide * 4);
  const int weight_own = (min(strip, p.strips - 1) * kBoxes + deep * 2) * kSlimBlock;
  const int input_own = deep * 2 * stage.kInputBox;
  constexpr int kChains = kN <= 32 ? 2 : 1;
  ptx::RingPlace at;
  for (;;) {
    ptx::mbarrier_wait(full + at.slot, at.parity);
    const int number = ptx::read_once(held + at.slot);
    if (number == kNone) break;
    const Chunk chunk(p, number);
    float sum[kChains][kN / 2];
#pragma unroll
    for (int c = 0; c < kChains; ++c) {
#pragma unroll
      for (int j = 0; j < kN / 2; ++j) sum[c][j] = 0.0F;
    }
    Fragments fragment[2];
    int before = 0;  // the step that may still be under way
    for (int step = chunk.first; step < chunk.end; ++step) {
      ptx::mbarrier_wait(full + at.slot, at.parity);
      const uint8_t* weights = stages + stage.weight_at(at.slot) + weight_own;
      const uint8_t* inputs = stages + stage.input_at(at.slot) + input_own;
#pragma unroll
      for (int box = 0; box < 2; ++box) {
        const uint8_t* block = weights + box * kSlimBlock;
        unpack(block, fragment[box]);
        if (head_of(block).strays() != 0 && strip < chunk.strips)
          put_strays(block, p.list, fragment[box]);
        const uint64_t operand = ptx::swizzled_operand(inputs + box * stage.kInputBox);
        ptx::wgmma_begin();
#pragma unroll
        for (int k = 0; k < 4; ++k)
          ptx::wgmma_rows<T, kN>(sum[box % kChains], fragment[box][k], operand + k * 2, true);
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
        if (box == 0 && step > chunk.first && threadIdx.x % 32 == 0)
          ptx::mbarrier_arrive(empty + before);
      }
      before = at.slot;
      at.next(p.stages);
    }
    ptx::wgmma_wait<0>();
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(empty + before);
#pragma unroll
    for (int c = 1; c < kChains; ++c) {
#pragma unroll
      for (int j = 0; j < kN / 2; ++j) sum[0][j] += sum[c][j];
    }
    if constexpr (Crew::kDeep > 1) Deep::meet(deep_sums, sum[0]);
    if (first) end_chunk<T, kN, kWide>(p, number, sum[0], found);
  }
  if (p.likeliest == nullptr || !first) return;
  meet<kWide * 128>();
  found.hand_over(threadIdx.x, p.likeliest, p.m);
#endif
}

// ---- the host ----

template <int kN, class Crew>
cudaError_t run(const SlimGemm& a, int multiprocessors, cudaStream_t stream) {
  constexpr int kBoxes = Crew::kBoxes;
  constexpr int kSharedMax = 226 << 10;  // the kernel's own variables take the rest
  // Rows that are not there are not brought: what lies in their place makes sums that nobody reads.
  // (Likeliest tokens are looked for in all columns: there they are zeros.)
  const int rows = a.likeliest != nullptr ? kN : std::min(kN, (a.m + 7) / 8 * 8);
  const TensorShape x = {.axes = 2,
                         .sizes = {static_cast<uint64_t>(a.k), static_cast<uint64_t>(a.m)},
                         .strides_bytes = {static_cast<uint64_t>(a.input_stride) * 2},
                         .box = {64, static_cast<uint32_t>(rows)}};
  CUtensorMap input;
  TR_CUDA_TRY(make_tensor_map(&input, a.input, a.dtype, x));

  const SlimShape shape = {a.n, a.k, a.slim_paired};
  SlimParams p = {};
  p.blocks = static_cast<const uint8_t*>(a.slim);
  p.list = reinterpret_cast<const uint32_t*>(p.blocks + shape.list_at());
  p.along = static_cast<int>(shape.blocks_along());
  p.strips_all = static_cast<int>(shape.strips());
  p.input_bytes = static_cast<uint32_t>(kBoxes * rows * 128);
  p.m = a.m;
  p.n = a.n;
  p.steps = (p.along + kBoxes - 1) / kBoxes;
  p.strips = a.cut.strips;
  p.tiles = (p.strips_all + p.strips - 1) / p.strips;
  p.parts = std::min(a.cut.parts, p.steps);
  constexpr int kChunks = std::min(kChunksMax, kSumsMost / (Crew::kWide * 64 * kN));
  if (p.tiles * p.parts > kChunks) p.parts = 1;
  p.bias = a.bias;
  p.output = a.output;
  p.output_stride = a.output_stride;
  p.output_f32 = a.output_f32;
  p.gated = a.gated_silu;
  p.paired = a.slim_paired;
  p.likeliest = a.likeliest;
  p.partials = a.partials;
  p.counters = a.counters;
  if (a.parts_apart) {
    if (p.parts != a.cut.parts) return cudaErrorInvalidValue;
    p.output = a.partials;
    p.output_stride = a.n;
    p.plane = int64_t{a.m} * a.n;
  }
  const auto grid = static_cast<unsigned>(std::min(p.tiles * p.parts, multiprocessors));
  const int rest = DeepSums<Crew, kN>::kBytes +
                   (a.likeliest != nullptr ? likeliest::Found<kN>::bytes(Crew::kWide * 4) : 0);
  const int bytes = Stages<kN, kBoxes>(1, p.strips).bytes();
  p.stages = std::min((kSharedMax - 2048 - rest) / bytes, kStagesMax);
  // More than half of a multiprocessor's memory, as skinny_gemm asks for.
  constexpr int kMoreThanHalf = 116 << 10;
  const auto shared = static_cast<size_t>(std::max(bytes * p.stages + rest + 1024, kMoreThanHalf));
  const auto kernel = slim_gemm_kernel<kN, Crew>;
  TR_CUDA_TRY(allow_shared(kernel, kSharedMax));
  return launch(kernel, {dim3(grid), dim3(Crew::kThreads), shared}, stream, input, p);
}

}  // namespace

bool slim_cut_fits(int rows, const SlimCut& cut) {
  const int strips_most = rows <= 16 ? 8 : 16;
  return rows >= 1 && rows <= kSlimRowsMax && cut.strips >= 1 && cut.strips <= strips_most &&
         cut.parts >= 1;
}

size_t slim_gemm_partials_bytes() {
  return size_t{kSumsMost} * sizeof(float);
}

bool slim_gemm_fits(const SlimGemm& a) {
  return a.slim != nullptr && slim_cut_fits(a.m, a.cut) && slim_fits({a.n, a.k, a.slim_paired}) &&
         a.k % 8 == 0 && a.input_stride % 8 == 0 &&
         reinterpret_cast<uintptr_t>(a.input) % 16 == 0 && a.dtype == DType::bf16 &&
         (!a.gated_silu || a.slim_paired) &&
         (a.likeliest == nullptr || !a.slim_paired) &&  // tokens are told by their rows
         (!a.parts_apart || (!a.slim_paired && a.bias == nullptr));
}

cudaError_t slim_gemm(const SlimGemm& a, int sms, cudaStream_t stream) {
  if (!slim_gemm_fits(a)) return cudaErrorInvalidValue;
  const int strips = a.cut.strips;
  if (a.m <= 8 && strips <= 4) return run<8, Crew<1, 4>>(a, sms, stream);
  if (a.m <= 8 && strips <= 8) return run<8, Crew<2, 2>>(a, sms, stream);
  if (a.m <= 16 && strips <= 4) return run<16, Crew<1, 4>>(a, sms, stream);
  if (a.m <= 16 && strips <= 8) return run<16, Crew<2, 2>>(a, sms, stream);
  if (a.m <= 32 && strips <= 4) return run<32, Crew<1, 2>>(a, sms, stream);
  if (a.m <= 32 && strips <= 8) return run<32, Crew<2, 2>>(a, sms, stream);
  if (a.m <= 32) return run<32, Crew<4, 1>>(a, sms, stream);
  if (strips <= 4) return run<64, Crew<1, 2>>(a, sms, stream);
  if (strips <= 8) return run<64, Crew<2, 2>>(a, sms, stream);
  return run<64, Crew<4, 1>>(a, sms, stream);
}

}  // namespace troupe::cuda
