// A matrix product for few rows. The weight is read once, and everything serves that: the weight
// takes the place of A in the warpgroup product (64 of its rows at a time), the input that of B.
//
// One block per multiprocessor. The work is cut into chunks: a tile of some strips of 16 weight
// rows times a part of k. The tile's height is chosen so that chunks come out even over the blocks:
// where it is less than the 64 rows that the instruction takes, the rest is whatever lies behind
// the tile in shared memory, and its results are dropped. A block begins with the chunk of its own
// number and then takes the next free one, since multiprocessors do not get memory at the same
// speed; a tile's parts are summed by whichever block finishes it last, in the order of the parts,
// so results do not depend on timing. A producer thread keeps several steps in flight; it asks for
// weights before the kernel in front has finished (they do not depend on it), which hides part of
// the small kernels between two products. Weights pass through L2 marked as first to go.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/ring.cuh"
#include "kernels/cuda/ptx/tma.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/skinny_gemm.hpp"
#include "kernels/cuda/skinny_sums.cuh"
#include "kernels/cuda/tensor_map.hpp"

namespace troupe::cuda {
namespace {

using namespace skinny;

// A step in shared memory: kBoxes boxes of weights (64 elements of k each), then as many of input.
template <int kN, int kBoxes>
struct Stage {
  static constexpr int kInputBox = kN * 128;
  __host__ __device__ explicit Stage(int strips) : weight_box(strips * 16 * 128) {}
  __host__ __device__ int input() const { return kBoxes * weight_box; }
  __host__ __device__ int bytes() const { return kBoxes * (weight_box + kInputBox); }
  int weight_box;
};

// The instruction reads 64 weight rows per group, also where a tile has fewer: so many bytes behind
// the last stage.
__host__ __device__ constexpr int behind(int groups, int strips) {
  return (groups * 4 - strips) * 16 * 128;
}

constexpr int kNone = -1;
constexpr int kStagesMax = 12;
constexpr int kChunksMax = 1024;  // of a weight whose tiles are cut: bounds the memory for sums

// The one thread that starts copies, chunk after chunk.
template <int kN, int kBoxes>
class Producer {
 public:
  __device__ Producer(const Params& p, const CUtensorMap& weight, const CUtensorMap& input,
                      uint8_t* stages, uint64_t* full, uint64_t* empty, int* held)
      : p_(p),
        weight_(weight),
        input_(input),
        stages_(stages),
        full_(full),
        empty_(empty),
        held_(held),
        stage_(p.strips) {}

  __device__ void run() {
    ptx::prefetch_descriptor(&weight_);
    ptx::prefetch_descriptor(&input_);
    const int chunks = p_.tiles * p_.parts;
    auto chunk = static_cast<int>(blockIdx.x);
    const int first = first_step(chunk), own = end_step(chunk) - first;
    const int ahead = own < p_.stages ? own : p_.stages;
    for (int i = 0; i < ahead; ++i) load_weight(i, chunk, first + i);
    ptx::wait_for_earlier_kernels();
    for (int i = 0; i < ahead; ++i) {
      load_input(i, first + i);
      advance();
    }
    int step = first + ahead;
    while (chunk < chunks) {
      // Asked for before it is needed: the answer takes as long as a step.
      const int next = next_chunk(p_);
      for (; step < end_step(chunk); ++step) {
        const int slot = free_slot();
        load_weight(slot, chunk, step);
        load_input(slot, step);
        advance();
      }
      chunk = next;
      step = first_step(chunk);
    }
    const int slot = free_slot();
    held_[slot] = kNone;
    ptx::mbarrier_arrive(full_ + slot);
    take_no_more(p_);
  }

 private:
  __device__ __forceinline__ int first_step(int chunk) const {
    return p_.steps * (chunk % p_.parts) / p_.parts;
  }
  __device__ __forceinline__ int end_step(int chunk) const {
    return p_.steps * (chunk % p_.parts + 1) / p_.parts;
  }
  __device__ __forceinline__ void advance() {
    at_.next(p_.stages);
    fresh_ = fresh_ && at_.slot != 0;
  }
  __device__ __forceinline__ int free_slot() {
    if (!fresh_) ptx::mbarrier_wait(empty_ + at_.slot, at_.parity ^ 1);
    return at_.slot;
  }
  __device__ __forceinline__ void load_weight(int slot, int chunk, int step) {
    uint8_t* to = stages_ + slot * stage_.bytes();
    held_[slot] = chunk;
    ptx::mbarrier_expect_bytes(full_ + slot, p_.step_bytes);
#pragma unroll
    for (int b = 0; b < kBoxes; ++b) {
      ptx::load_box(to + b * stage_.weight_box, &weight_, full_ + slot, ptx::kEvictFirst,
                    (step * kBoxes + b) * 64, 0, 0, chunk / p_.parts * p_.strips);
    }
  }
  __device__ __forceinline__ void load_input(int slot, int step) {
    uint8_t* to = stages_ + slot * stage_.bytes() + stage_.input();
#pragma unroll
    for (int b = 0; b < kBoxes; ++b) {
      ptx::load_box(to + b * stage_.kInputBox, &input_, full_ + slot, ptx::kEvictNormal,
                    (step * kBoxes + b) * 64, 0);
    }
  }

  const Params& p_;
  const CUtensorMap &weight_, &input_;
  uint8_t* stages_;
  uint64_t *full_, *empty_;
  int* held_;
  Stage<kN, kBoxes> stage_;
  ptx::RingPlace at_;
  bool fresh_ = true;  // the ring has not been round yet: stages are free without waiting
};

template <class T, int kN, int kGroups, int kBoxes>
__global__ void __launch_bounds__(kGroups * 128 + 32)
    skinny_gemm_kernel(const __grid_constant__ CUtensorMap weight,
                       const __grid_constant__ CUtensorMap input,
                       const __grid_constant__ Params p) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ uint8_t dynamic[];
  uint8_t* stages = dynamic + (1024 - ptx::shared_address(dynamic) % 1024) % 1024;
  __shared__ uint64_t full[kStagesMax], empty[kStagesMax];
  __shared__ int held[kStagesMax];  // the chunk that a stage belongs to, or kNone: no more work
  const int warp = threadIdx.x / 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < p.stages; ++s) {
      ptx::mbarrier_init(full + s, 1);
      ptx::mbarrier_init(empty + s, kGroups * 4);
    }
    ptx::fence_barrier_init();
  }
  __syncthreads();
  ptx::let_next_kernel_start();
  if (warp == kGroups * 4) {
    if (threadIdx.x % 32 == 0)
      Producer<kN, kBoxes>(p, weight, input, stages, full, empty, held).run();
    return;
  }

  ptx::wait_for_earlier_kernels();
  const Stage<kN, kBoxes> stage(p.strips);
  const uint8_t* rows = stages + warp / 4 * 64 * 128;
  likeliest::Found<kN> found(stages + p.stages * stage.bytes() + behind(kGroups, p.strips),
                             kGroups * 4);
  if (p.likeliest != nullptr) found.clear(threadIdx.x);
  if (p.likeliest != nullptr) meet<kGroups * 128>();
  // An instruction of so few columns is over long before its sums can be added to again, so the
  // boxes of a step go to sums of their own.
  constexpr int kChains = kN <= 32 || kBoxes < 2 ? kBoxes : 2;
  ptx::RingPlace at;
  for (;;) {
    ptx::mbarrier_wait(full + at.slot, at.parity);
    const int chunk = ptx::read_once(held + at.slot);
    if (chunk == kNone) break;
    const int part = chunk % p.parts;
    const int steps = p.steps * (part + 1) / p.parts - p.steps * part / p.parts;
    float sum[kChains][kN / 2];
#pragma unroll
    for (int c = 0; c < kChains; ++c) {
#pragma unroll
      for (int j = 0; j < kN / 2; ++j) sum[c][j] = 0.0F;
    }
    int before = 0;  // the step that may still be under way
    for (int step = 0; step < steps; ++step) {
      const int from = at.slot * stage.bytes();
      ptx::mbarrier_wait(full + at.slot, at.parity);
      ptx::wgmma_begin();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int b = 0; b < kBoxes; ++b) {
          const uint64_t weights = ptx::swizzled_operand(rows + from + b * stage.weight_box);
          const uint64_t inputs =
              ptx::swizzled_operand(stages + from + stage.input() + b * stage.kInputBox);
          ptx::wgmma_ss<T, kN>(sum[b % kChains], weights + k * 2, inputs + k * 2, true);
        }
      }
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
      if (step > 0 && threadIdx.x % 32 == 0) ptx::mbarrier_arrive(empty + before);
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
    end_chunk<T, kN, kGroups>(p, chunk, sum[0], found);
  }
  if (p.likeliest == nullptr) return;
  meet<kGroups * 128>();
  found.hand_over(threadIdx.x, p.likeliest, p.m);
#endif
}

// How a product is cut: strips of 16 rows in a tile, and parts of k.
struct Cut {
  int strips, parts;
};

// A multiprocessor alone can take steps about 1.7 times as fast as memory feeds all of them, so a
// last round that leaves some idle still runs faster than its share; sums of parts cost about one
// and a half steps. Times are in units of the whole weight at memory's speed.
Cut cut_of(int strips_all, int steps, int strips_max, int strips_least, int rows, int blocks,
           double strip_us) {
  constexpr double kAlone = 0.6, kSums_us = 3.0, kRound_us = 0.4;
  constexpr double kInput = 0.4 / 16.0;  // the input comes from L2, again for every tile
  Cut best = {strips_max, 1};
  double best_cost = 1e30;
  for (int strips = strips_max; strips >= strips_least; --strips) {
    const int tiles = (strips_all + strips - 1) / strips;
    for (int parts = 1; parts <= 16 && parts * 2 <= steps; parts *= 2) {
      if (parts > 1 && tiles * parts > kChunksMax / (strips_max > 8 ? 2 : 1)) break;
      const int chunks = tiles * parts, rounds = chunks / blocks, rest = chunks % blocks;
      const double chunk_us = strip_us * (strips + kInput * rows) * steps / parts;
      const double last = rest == 0 ? 0.0 : std::max(static_cast<double>(rest) / blocks, kAlone);
      const double cost = chunk_us * (rounds + last) + kRound_us * rounds +
                          (parts > 1 ? kSums_us + 0.4 * rounds : 0.0);
      if (cost < best_cost - 1e-9) {
        best_cost = cost;
        best = {strips, parts};
      }
    }
  }
  return best;
}

template <class T, int kN, int kGroups, int kBoxes>
cudaError_t run(const SkinnyGemm& a, int multiprocessors, cudaStream_t stream) {
  constexpr int kSharedMax = 226 << 10;  // the kernel's own variables take the rest
  constexpr double kStrip_us = 16 * 128 * kBoxes / 34'000.0;  // a step's, all multiprocessors busy
  const int steps = (a.k + 64 * kBoxes - 1) / (64 * kBoxes);
  // Tiles of four warpgroups may end a good deal short of 256 rows: there one round is the aim.
  constexpr int kStrips = kGroups * 4, kStripsLeast = kGroups > 2 ? kStrips * 3 / 4 : kStrips - 1;
  Cut cut = cut_of((a.n + 15) / 16, steps, kStrips, kStripsLeast, a.fixed_cut ? kN : a.m,
                   multiprocessors, kStrip_us);
  if (a.strips > 0) cut.strips = a.strips < kGroups * 4 ? a.strips : kGroups * 4;
  if (a.parts > 0) cut.parts = a.parts < steps ? a.parts : steps;
  // Rows that are not there are not brought: what lies in their place makes sums that nobody reads.
  // (Likeliest tokens are looked for in all columns: there they are zeros.)
  const int rows = a.likeliest != nullptr ? kN : std::min(kN, (a.m + 7) / 8 * 8);
  CUtensorMap weight, input;
  TR_CUDA_TRY(map_operands(a, static_cast<uint32_t>(cut.strips), static_cast<uint32_t>(rows),
                           &weight, &input));

  Params p = {};
  p.m = a.m;
  p.n = a.n;
  p.steps = steps;
  p.strips = cut.strips;
  p.step_bytes = static_cast<uint32_t>(kBoxes * (cut.strips * 16 + rows) * 128);
  p.tiles = ((a.n + 15) / 16 + cut.strips - 1) / cut.strips;
  constexpr int kChunks = kGroups > 2 ? kChunksMax / 2 : kChunksMax;  // theirs are twice as large
  p.parts = p.tiles * cut.parts <= kChunks ? cut.parts : 1;
  p.bias = a.bias;
  p.output = a.output;
  p.output_stride = a.output_stride;
  p.output_f32 = a.output_f32;
  p.gated = p.paired = a.gated_silu;
  p.likeliest = a.likeliest;
  p.partials = a.partials;
  p.counters = a.counters;
  if (a.parts_apart) {
    if (p.parts != a.parts) return cudaErrorInvalidValue;
    p.output = a.partials;
    p.output_stride = a.n;
    p.plane = int64_t{a.m} * a.n;
  }
  const int chunks = p.tiles * p.parts;
  const auto grid = static_cast<unsigned>(chunks < multiprocessors ? chunks : multiprocessors);
  const int bytes = Stage<kN, kBoxes>(cut.strips).bytes();
  const int found = a.likeliest != nullptr ? likeliest::Found<kN>::bytes(kGroups * 4) : 0;
  const int rest = behind(kGroups, cut.strips) + found;
  const int fit = (kSharedMax - 2048 - rest) / bytes;
  p.stages = fit < kStagesMax ? fit : kStagesMax;
  // More than half of a multiprocessor's memory: two blocks of one product on one multiprocessor
  // would leave another without any, and all would wait for these two.
  constexpr size_t kMoreThanHalf = 116 << 10;
  const size_t needed = static_cast<size_t>(bytes * p.stages + rest + 1024);
  const size_t shared = needed < kMoreThanHalf ? kMoreThanHalf : needed;
  const auto kernel = skinny_gemm_kernel<T, kN, kGroups, kBoxes>;
  TR_CUDA_TRY(allow_shared(kernel, kSharedMax));
  return launch(kernel, {dim3(grid), dim3(kGroups * 128 + 32), shared}, stream, weight, input, p);
}

template <class T>
cudaError_t choose(const SkinnyGemm& a, int sms, cudaStream_t stream) {
  if (a.fixed_cut) return run<T, 64, 1, 4>(a, sms, stream);
  if (a.m <= 8) return run<T, 8, 1, 4>(a, sms, stream);
  if (a.m <= 16 && a.strips > 4) return run<T, 16, 2, 2>(a, sms, stream);
  if (a.m <= 16) return run<T, 16, 1, 4>(a, sms, stream);
  if (a.m <= 32 && a.strips > 8) return run<T, 32, 4, 1>(a, sms, stream);
  if (a.m <= 32 && a.strips > 4) return run<T, 32, 2, 2>(a, sms, stream);
  if (a.m <= 32) return run<T, 32, 1, 4>(a, sms, stream);
  constexpr int kManyOutputs = 65536;
  if (a.variant == 1 || (a.variant < 0 && a.n >= kManyOutputs))
    return run<T, 64, 2, 2>(a, sms, stream);
  return run<T, 64, 1, 4>(a, sms, stream);
}

}  // namespace

size_t skinny_gemm_partials_bytes(int rows) {
  const size_t share =
      rows <= 8 ? 64 * 8 : rows <= 16 ? 128 * 16 : rows <= 32 ? 128 * 32 : 128 * 64;
  return kChunksMax * share * sizeof(float);
}
size_t skinny_gemm_counters(int64_t n_max) {
  return static_cast<size_t>(n_max / 16 + 3);
}

bool skinny_gemm_fits(const SkinnyGemm& a) {
  return a.m >= 1 && a.m <= kSkinnyRowsMax && a.n >= 1 && a.k >= 8 && a.k % 8 == 0 &&
         a.input_stride % 8 == 0 && reinterpret_cast<uintptr_t>(a.input) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(a.weight) % 16 == 0 && a.dtype != DType::f32 &&
         (!a.gated_silu || a.n % 16 == 0) &&
         (!a.parts_apart || (a.parts > 0 && !a.gated_silu && a.bias == nullptr));
}

cudaError_t skinny_gemm(const SkinnyGemm& a, int multiprocessors, cudaStream_t stream) {
  if (!skinny_gemm_fits(a)) return cudaErrorInvalidValue;
  return a.dtype == DType::f16 ? choose<__half>(a, multiprocessors, stream)
                               : choose<__nv_bfloat16>(a, multiprocessors, stream);
}

}  // namespace troupe::cuda
