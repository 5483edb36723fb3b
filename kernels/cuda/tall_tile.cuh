// The loop of gated_gemm and likeliest_gemm: a tile of up to 256 input rows by two hundred weight
// rows, the input in the place of A in the warpgroup product, the weight in B's. The fewer tiles,
// the fewer bytes come from L2 for a product: at 256 rows, where the chip's power is the limit,
// that is what tells kernels apart.
//
// 256 x 224 sums leave 31 registers a thread, so there are no threads beside the two warpgroups
// that multiply: a warp of the first also starts the weights' copies, a warp of the second the
// input's. Instructions of a warpgroup wait for one another when they are issued, not later, so a
// stage is given back between those of the next, and filled again a little after, when the others
// have left it too.
//
// The blocks of a cluster take tiles of weight rows side by side: each brings its own weights and a
// share of the input, and the copy engine writes that share into all of them. Weights and input
// have rings of their own, as weights come from memory and take longer.
#pragma once

#include <cstdint>

#include "kernels/cuda/gemm_operands.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/cluster.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/tma.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/tensor_map.hpp"

namespace troupe::cuda::tall {

constexpr int kThreads = 256;
constexpr int kCluster = 2;
constexpr int kColumnsTogether = 8;  // tiles of input rows that share the weight in L2
constexpr int kStepsLeast = 6;  // a ring's turn and some

// How a product is cut into tiles.
struct Tiles {
  int steps;  // of 64 along k
  int columns, stacks;  // tiles of input rows; stacks of a cluster's tiles of weight rows
  int count, clusters;  // stacks x columns: what a cluster takes at a time
};
inline Tiles tiles_of(int m, int n, int k, int rows, int width, int multiprocessors) {
  Tiles t;
  t.steps = (k + 63) / 64;
  t.columns = (m + rows - 1) / rows;
  t.stacks = (n + kCluster * width - 1) / (kCluster * width);
  t.count = t.columns * t.stacks;
  t.clusters = t.count < multiprocessors / kCluster ? t.count : multiprocessors / kCluster;
  return t;
}

// A ring of stages in shared memory; the parity of a stage's barriers changes with every turn.
// Places are shared addresses: sums leave few registers.
template <int kStages, int kBytes>
struct Ring {
  static constexpr int kCount = kStages, kStage = kBytes, kMemory = kStages * kBytes;
  uint32_t stages, full, empty;
  uint32_t slot = 0, parity = 0;

  __device__ __forceinline__ void next() {
    if (++slot < kStages) return;
    slot = 0;
    parity ^= 1;
  }
  [[nodiscard]] __device__ __forceinline__ Ring before() const {
    Ring r = *this;
    r.parity = slot == 0 ? parity ^ 1 : parity;
    r.slot = slot == 0 ? kStages - 1 : slot - 1;
    return r;
  }
  [[nodiscard]] __device__ __forceinline__ uint32_t stage() const { return stages + slot * kBytes; }
  [[nodiscard]] __device__ __forceinline__ uint32_t filled() const { return full + slot * 8; }
  [[nodiscard]] __device__ __forceinline__ uint32_t emptied() const { return empty + slot * 8; }
  __device__ __forceinline__ void wait_full() const { ptx::mbarrier_wait(filled(), parity); }
  __device__ __forceinline__ void wait_empty() const { ptx::mbarrier_wait(emptied(), parity); }
};

// Where a block's tile lies. Some columns go through all weights together, so that both operands of
// the tiles under way stay in L2.
struct Place {
  int weight_row, input_row;
};
template <int kRows, int kN>
__device__ __forceinline__ Place place_of(const Tiles& t, int tile) {
  const int in_group = t.stacks * kColumnsTogether;
  const int group = tile / in_group, rest = tile - group * in_group;
  const int width = min(kColumnsTogether, t.columns - group * kColumnsTogether);
  const int stack = rest / width;
  return {(stack * kCluster + static_cast<int>(ptx::cluster_rank())) * kN,
          (group * kColumnsTogether + rest - stack * width) * kRows};
}

// Two warpgroups, each with every second 64 input rows of the block's tiles.
template <class T, int kBlocks, int kN>
class Multiplier {
 public:
  static constexpr int kRows = kBlocks * 128;
  using Weights = Ring<4, kN * 128>;
  using Inputs = Ring<6 / kBlocks, kRows * 128>;
  static constexpr int kStages = Weights::kCount + Inputs::kCount;
  static constexpr int kMemory = Weights::kMemory + Inputs::kMemory;
  // Steps whose weights are asked for at a time: memory gives 256 bytes of a row for less energy
  // than twice 128. The shorter steps of fewer rows would wait for them.
  static constexpr int kTogether = kBlocks;
  using Sums = float[kBlocks][kN / 2];

  // One thread of the block, before the cluster meets.
  static __device__ __forceinline__ void make_barriers(uint64_t* full, uint64_t* empty) {
    for (int s = 0; s < kStages; ++s) {
      const int blocks = s < Weights::kCount ? 1 : kCluster;
      ptx::mbarrier_init(full + s, 1);
      ptx::mbarrier_init(empty + s, static_cast<uint32_t>(blocks * kThreads / 32));
    }
    ptx::fence_barrier_init();
  }

  __device__ Multiplier(const Tiles& tiles, const CUtensorMap& weight, const CUtensorMap& input,
                        uint32_t stages, uint32_t full, uint32_t empty)
      : tiles_(tiles),
        weight_map_(weight),
        input_map_(input),
        weights_{stages, full, empty},
        inputs_{stages + Weights::kMemory, full + Weights::kCount * 8,
                empty + Weights::kCount * 8} {}

  // The first tile's first stages: weights before the kernels in front have ended, input behind.
  __device__ __forceinline__ void start(const Place& first) {
    now_ = first;
    if (threadIdx.x == 0) {
      Weights to = weights_;
      for (int step = 0; step < Weights::kCount; ++step, to.next())
        bring_weight(to, step, now_.weight_row);
    }
    ptx::wait_for_earlier_kernels();
    if (threadIdx.x == 128) {
      Inputs to = inputs_;
      for (int step = 0; step < Inputs::kCount; ++step, to.next())
        bring_input(to, step, now_.input_row);
    }
    __syncwarp();
  }

  // The tile at hand; the first stages of `next` arrive while its sums are written.
  __device__ __forceinline__ void multiply(Sums& sum, const Place& next, bool last) {
    next_ = next;
    last_ = last;
    const uint32_t own = threadIdx.x / 128 * 64 * 128;
    for (int step = 0; step < tiles_.steps; ++step) {
      weights_.wait_full();
      inputs_.wait_full();
      const uint64_t weight = ptx::swizzled_operand(weights_.stage());
      const uint64_t input = ptx::swizzled_operand(inputs_.stage() + own);
      const auto part = [&](int k) {
#pragma unroll
        for (int b = 0; b < kBlocks; ++b)
          ptx::wgmma_ss<T, kN>(sum[b], input + b * 1024 + k * 2, weight + k * 2, step > 0 || k > 0);
      };
      ptx::wgmma_begin();
      part(0);
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
      if (step > 0) leave();
      ptx::wgmma_begin();
      part(1);
      if (step > 0) fill(step - 1);
      ptx::wgmma_begin();
      part(2);
      part(3);
      ptx::wgmma_commit();
      weights_.next();
      inputs_.next();
    }
    ptx::wgmma_wait<0>();
    leave();
    fill(tiles_.steps - 1);
    now_ = next_;
  }

 private:
  __device__ __forceinline__ void bring_weight(const Weights& to, int step, int row) const {
    ptx::mbarrier_expect_bytes(to.filled(), Weights::kStage);
    ptx::load_box(to.stage(), &weight_map_, to.filled(),
                  tiles_.columns > 1 ? ptx::kEvictNormal : ptx::kEvictFirst, step * 64, 0, 0,
                  row / 16);
  }
  __device__ __forceinline__ void bring_input(const Inputs& to, int step, int row) const {
    constexpr int kShare = kRows / kCluster;
    const int first = static_cast<int>(ptx::cluster_rank()) * kShare;
    ptx::mbarrier_expect_bytes(to.filled(), Inputs::kStage);
    ptx::load_box_widely(to.stage() + first * 128, &input_map_, to.filled(), (1 << kCluster) - 1,
                         ptx::kEvictNormal, step * 64, row + first);
  }

  // The stage before has been multiplied.
  __device__ __forceinline__ void leave() const {
    const uint32_t lane = threadIdx.x % 32;
    // A lane for every block of the cluster: all of them write into this one's input stages.
    if (lane < kCluster) ptx::mbarrier_arrive_at(inputs_.before().emptied(), lane);
    if (lane == 0) ptx::mbarrier_arrive(weights_.before().emptied());
  }
  // What comes into it next is a ring's turn ahead of `step`.
  __device__ __forceinline__ void fill(int step) const {
    if (threadIdx.x == 0) fill_weights(step);
    if (threadIdx.x == 128) {
      const Inputs to = inputs_.before();
      const int ahead = step + Inputs::kCount - tiles_.steps;
      if (ahead < 0 || !last_) {
        to.wait_empty();
        bring_input(to, ahead < 0 ? step + Inputs::kCount : ahead,
                    ahead < 0 ? now_.input_row : next_.input_row);
      }
    }
    __syncwarp();
  }

  // Who has left a stage has left the one before; that may have been the last of another tile.
  __device__ __forceinline__ void fill_weights(int step) const {
    static_assert(Weights::kCount % kTogether == 0, "places tell pairs of steps apart");
    const Weights to = weights_.before();
    const int next = step + Weights::kCount;
    if (to.slot % kTogether != kTogether - 1) return;
    if (next - kTogether + 1 >= tiles_.steps && last_) return;
    to.wait_empty();
    if constexpr (kTogether == 2) refill(to.before(), next - 1);
    refill(to, next);
  }
  // With the weights of a step of this tile, or of the next.
  __device__ __forceinline__ void refill(const Weights& to, int step) const {
    const bool now = step < tiles_.steps;
    if (now || !last_)
      bring_weight(to, now ? step : step - tiles_.steps, now ? now_.weight_row : next_.weight_row);
  }

  const Tiles& tiles_;
  const CUtensorMap &weight_map_, &input_map_;
  Weights weights_;
  Inputs inputs_;
  Place now_ = {}, next_ = {};
  bool last_ = false;
};

// A block's tiles, one after the other: what a kernel does. WayOut is made of the kernel's Params
// (of which `tiles` is one) and of the memory behind the stages; it hears of each tile before it is
// multiplied (begin) and gets its sums (take).
template <class T, int kBlocks, int kN, class WayOut, class Params>
__device__ __forceinline__ void take_tiles(const CUtensorMap& weight, const CUtensorMap& input,
                                           const Params& p) {
  using M = Multiplier<T, kBlocks, kN>;
  extern __shared__ uint8_t dynamic[];
  __shared__ uint64_t full[M::kStages], empty[M::kStages];
  if (threadIdx.x == 0) {
    ptx::prefetch_descriptor(&weight);
    ptx::prefetch_descriptor(&input);
    M::make_barriers(full, empty);
  }
  ptx::cluster_meet();
  ptx::let_next_kernel_start();
  const uint32_t start = ptx::shared_address(dynamic), stages = (start + 1023) / 1024 * 1024;
  M multiplier(p.tiles, weight, input, stages, ptx::shared_address(full),
               ptx::shared_address(empty));
  WayOut way_out(p, dynamic + (stages - start) + M::kMemory);
  int tile = static_cast<int>(blockIdx.x) / kCluster;
  Place now = place_of<M::kRows, kN>(p.tiles, tile);
  multiplier.start(now);
  while (tile < p.tiles.count) {
    tile += p.tiles.clusters;
    const Place next = place_of<M::kRows, kN>(p.tiles, min(tile, p.tiles.count - 1));
    way_out.begin(now);
    typename M::Sums sum;
    multiplier.multiply(sum, next, tile >= p.tiles.count);
    way_out.take(now, sum);
    now = next;
  }
  ptx::cluster_meet();  // the other may still arrive at this one's barriers
}

// ---- the host ----

// What every such product asks for.
inline bool fits(const GemmOperands& a, int rows) {
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  return a.m >= 1 && a.n >= 16 && a.n % 8 == 0 && a.k % 8 == 0 && a.k > (kStepsLeast - 1) * 64 &&
         a.input_stride % 8 == 0 && aligned(a.input) && aligned(a.weight) && a.bias == nullptr &&
         a.dtype != DType::f32 && (rows == 128 || rows == 256);
}

// kernel: one that takes tiles as above; p: all of its Params but the tiles.
template <class T, int kBlocks, int kN, class WayOut, class Params>
cudaError_t launch_tiles(void (*kernel)(CUtensorMap, CUtensorMap, Params), const GemmOperands& a,
                         Params p, int multiprocessors, cudaStream_t stream) {
  using M = Multiplier<T, kBlocks, kN>;
  CUtensorMap weight, input;
  TR_CUDA_TRY(map_operands(a, kN / 16, M::kRows / kCluster, &weight, &input));
  p.tiles = tiles_of(a.m, a.n, a.k, M::kRows, kN, multiprocessors);
  constexpr size_t kShared = 1024 + M::kMemory + WayOut::kShared;
  TR_CUDA_TRY(allow_shared(kernel, kShared));
  const auto blocks = static_cast<unsigned>(p.tiles.clusters * kCluster);
  return launch(kernel, {dim3(blocks), dim3(kThreads), kShared, kCluster}, stream, weight, input,
                p);
}

}  // namespace troupe::cuda::tall
