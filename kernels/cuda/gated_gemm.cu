// The gated product of many rows: tiles of up to 256 input rows by 224 weight rows (112 gates and
// their 112 ups), the input in the place of A in the warpgroup product, the weight in B's.
//
// A tile is whole: nothing is cut along k, no sums are exchanged, and a multiprocessor idles only
// while a tile's sums are written. Llama's 28,672 weight rows are 128 such tiles, a round of nearly
// all multiprocessors. 256 x 224 sums leave 31 registers a thread, so there are no threads beside
// the two warpgroups that multiply: a warp of the first also starts the weights' copies, a warp of
// the second the input's. Instructions of a warpgroup wait for one another when they are issued,
// not later, so a stage is given back between those of the next, and filled again a little after,
// when the others have left it too.
//
// Two blocks are a cluster and take tiles of weight rows side by side: each brings its own weights
// and half of the input, and the copy engine writes that half into both. Weights and input have
// rings of their own, as weights come from memory and take longer. The next tile's first stages
// arrive while this one's sums are written, and the first of all are asked for before the kernels
// in front end.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/gated_gemm.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/cluster.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/tma.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/tensor_map.hpp"

namespace troupe::cuda {
namespace {

constexpr int kThreads = 256, kCluster = 2;
constexpr int kN = 224;  // weight rows of a tile
constexpr int kPiece = kN / 2,
              kOutputs = kPiece / 2;  // weight rows whose sums are written at a time
constexpr int kColumnsTogether = 8;  // tiles of input rows that share the weight in L2

struct Params {
  int m, n, steps;
  int columns, stacks;  // tiles of input rows; stacks of a cluster's tiles of weight rows
  int tiles, clusters;  // stacks x columns: what a cluster takes at a time
  void* output;
  int64_t output_stride;
};

// Where a block's tile lies. Some columns go through all weights together, so that both operands of
// the tiles under way stay in L2.
struct Place {
  int weight_row, input_row;
};
template <int kRows>
__device__ __forceinline__ Place place_of(const Params& p, int tile) {
  const int in_group = p.stacks * kColumnsTogether;
  const int group = tile / in_group, rest = tile - group * in_group;
  const int width = min(kColumnsTogether, p.columns - group * kColumnsTogether);
  const int stack = rest / width;
  return {(stack * kCluster + static_cast<int>(ptx::cluster_rank())) * kN,
          (group * kColumnsTogether + rest - stack * width) * kRows};
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

__device__ __forceinline__ float gated(float gate, float up) {
  float power, share;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(gate * -1.44269504F));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(share) : "f"(1.0F + power));
  return gate * up * share;
}

// A warp's 16 input rows by 112 weight rows on their way out. All of this is written out once for
// every sum and runs once a tile: what counts is how little code it is.
template <class T>
class Writer {
 public:
  static constexpr int kPitch = kOutputs * 2, kStaging = 16 * kPitch;  // rows meet no bank twice

  __device__ __forceinline__ Writer(const Params& p, int weight_row, uint8_t* staging)
      : p_(p), staging_(staging), first_(weight_row / 2) {}

  // v: blocks of 8 weight rows, gates and ups by turns; a thread holds two of each by two input
  // rows.
  __device__ __forceinline__ void write(int row, int piece, const float* v) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint32_t put = ptx::shared_address(staging_) + lane % 16 * kPitch + lane / 16 * 16;
#pragma unroll
    for (int j = 0; j < kOutputs / 8; j += 2) {
      uint32_t r[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* from = v + (j + i / 2) * 8 + i % 2 * 2;
        if (j + i / 2 < kOutputs / 8)
          r[i] = pack<T>(gated(from[0], from[4]), gated(from[1], from[5]));
      }
      if (j + 1 < kOutputs / 8) {
        asm volatile(
            "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(put + j * 16),
            "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
            : "memory");
      } else {
        asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(put + j * 16),
                     "r"(r[0]), "r"(r[1])
                     : "memory");
      }
    }
    __syncwarp();
    const int down = lane / 8, across = lane % 8 * 8, column = first_ + piece * kOutputs + across;
    auto* to = static_cast<T*>(p_.output) + (row + down) * p_.output_stride + column;
    const bool inside = across < kOutputs && column < p_.n / 2;
#pragma unroll
    for (int i = 0; i < 16; i += 4) {
      if (inside && row + down + i < p_.m)
        *reinterpret_cast<uint4*>(to + i * p_.output_stride) =
            *reinterpret_cast<const uint4*>(staging_ + (down + i) * kPitch + across * 2);
    }
    __syncwarp();
  }

 private:
  const Params& p_;
  uint8_t* staging_;
  const int first_;
};

// Two warpgroups, each with every second 64 input rows of the block's tiles.
template <class T, int kBlocks>
class Block {
 public:
  static constexpr int kRows = kBlocks * 128;
  using Weights = Ring<4, kN * 128>;
  using Inputs = Ring<6 / kBlocks, kRows * 128>;
  static constexpr int kStages = Weights::kCount + Inputs::kCount;
  static constexpr int kMemory = Weights::kMemory + Inputs::kMemory;

  __device__ Block(const Params& p, const CUtensorMap& weight, const CUtensorMap& input,
                   uint32_t stages, uint32_t full, uint32_t empty)
      : p_(p),
        weight_map_(weight),
        input_map_(input),
        weights_{stages, full, empty},
        inputs_{stages + Weights::kMemory, full + Weights::kCount * 8,
                empty + Weights::kCount * 8} {}

  __device__ void run(uint8_t* staging) {
    int tile = static_cast<int>(blockIdx.x) / kCluster;
    now_ = place_of<kRows>(p_, tile);
    start();
    const int warp = static_cast<int>(threadIdx.x) / 32;
    while (tile < p_.tiles) {
      tile += p_.clusters;
      last_ = tile >= p_.tiles;
      next_ = place_of<kRows>(p_, min(tile, p_.tiles - 1));
      float sum[kBlocks][kN / 2];
      multiply(sum);
      const Writer<T> writer(p_, now_.weight_row, staging + warp * Writer<T>::kStaging);
      const int row = now_.input_row + warp * 16;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
        for (int piece = 0; piece < 2; ++piece)
          writer.write(row + b * 128, piece, sum[b] + piece * kPiece / 2);
      }
      now_ = next_;
    }
  }

 private:
  __device__ __forceinline__ void bring_weight(const Weights& to, int step, int row) const {
    ptx::mbarrier_expect_bytes(to.filled(), Weights::kStage);
    ptx::load_box(to.stage(), &weight_map_, to.filled(),
                  p_.columns > 1 ? ptx::kEvictNormal : ptx::kEvictFirst, step * 64, 0, 0, row / 16);
  }
  __device__ __forceinline__ void bring_input(const Inputs& to, int step, int row) const {
    constexpr int kShare = kRows / kCluster;
    const int first = static_cast<int>(ptx::cluster_rank()) * kShare;
    ptx::mbarrier_expect_bytes(to.filled(), Inputs::kStage);
    ptx::load_box_widely(to.stage() + first * 128, &input_map_, to.filled(), (1 << kCluster) - 1,
                         ptx::kEvictNormal, step * 64, row + first);
  }

  __device__ __forceinline__ void start() {
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

  __device__ __forceinline__ void multiply(float (&sum)[kBlocks][kN / 2]) {
    const uint32_t own = threadIdx.x / 128 * 64 * 128;
    for (int step = 0; step < p_.steps; ++step) {
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
    fill(p_.steps - 1);
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
    if (threadIdx.x == 0) {
      const Weights to = weights_.before();
      const int ahead = step + Weights::kCount - p_.steps;
      if (ahead < 0 || !last_) {
        to.wait_empty();
        bring_weight(to, ahead < 0 ? step + Weights::kCount : ahead,
                     ahead < 0 ? now_.weight_row : next_.weight_row);
      }
    }
    if (threadIdx.x == 128) {
      const Inputs to = inputs_.before();
      const int ahead = step + Inputs::kCount - p_.steps;
      if (ahead < 0 || !last_) {
        to.wait_empty();
        bring_input(to, ahead < 0 ? step + Inputs::kCount : ahead,
                    ahead < 0 ? now_.input_row : next_.input_row);
      }
    }
    __syncwarp();
  }

  const Params& p_;
  const CUtensorMap &weight_map_, &input_map_;
  Weights weights_;
  Inputs inputs_;
  Place now_ = {}, next_ = {};
  bool last_ = false;
};

template <class T, int kBlocks>
__global__ void __launch_bounds__(kThreads, 1)
    gated_gemm_kernel(const __grid_constant__ CUtensorMap weight,
                      const __grid_constant__ CUtensorMap input, const __grid_constant__ Params p) {
#if __CUDA_ARCH__ >= 900
  using B = Block<T, kBlocks>;
  extern __shared__ uint8_t dynamic[];
  __shared__ uint64_t full[B::kStages], empty[B::kStages];
  if (threadIdx.x == 0) {
    ptx::prefetch_descriptor(&weight);
    ptx::prefetch_descriptor(&input);
    for (int s = 0; s < B::kStages; ++s) {
      const int blocks = s < B::Weights::kCount ? 1 : kCluster;
      ptx::mbarrier_init(full + s, 1);
      ptx::mbarrier_init(empty + s, static_cast<uint32_t>(blocks * kThreads / 32));
    }
    ptx::fence_barrier_init();
  }
  ptx::cluster_meet();
  ptx::let_next_kernel_start();
  const uint32_t start = ptx::shared_address(dynamic), stages = (start + 1023) / 1024 * 1024;
  B block(p, weight, input, stages, ptx::shared_address(full), ptx::shared_address(empty));
  block.run(dynamic + (stages - start) + B::kMemory);
  ptx::cluster_meet();  // the other may still arrive at this one's barriers
#endif
}

// ---- the host ----

template <class T, int kBlocks>
cudaError_t run(const GatedGemm& a, int multiprocessors, cudaStream_t stream) {
  constexpr int kRows = kBlocks * 128;
  CUtensorMap weight, input;
  TR_CUDA_TRY(map_operands(a, kN / 16, kRows / kCluster, &weight, &input));
  Params p = {};
  p.m = a.m;
  p.n = a.n;
  p.steps = (a.k + 63) / 64;
  p.columns = (a.m + kRows - 1) / kRows;
  p.stacks = (a.n + kCluster * kN - 1) / (kCluster * kN);
  p.tiles = p.columns * p.stacks;
  p.clusters = std::min(p.tiles, multiprocessors / kCluster);
  p.output = a.output;
  p.output_stride = a.output_stride;
  const auto kernel = gated_gemm_kernel<T, kBlocks>;
  constexpr size_t kShared =
      1024 + Block<T, kBlocks>::kMemory + kThreads / 32 * Writer<T>::kStaging;
  TR_CUDA_TRY(allow_shared(kernel, kShared));
  return launch(
      kernel,
      {dim3(static_cast<unsigned>(p.clusters * kCluster)), dim3(kThreads), kShared, kCluster},
      stream, weight, input, p);
}

template <class T>
cudaError_t choose(const GatedGemm& a, int multiprocessors, cudaStream_t stream) {
  return a.tile.rows <= 128 ? run<T, 1>(a, multiprocessors, stream)
                            : run<T, 2>(a, multiprocessors, stream);
}

}  // namespace

double gated_gemm_evenness(const GatedGemm& a, int multiprocessors) {
  const int columns = (a.m + a.tile.rows - 1) / a.tile.rows, clusters = multiprocessors / kCluster;
  const int tiles = columns * ((a.n + kCluster * kN - 1) / (kCluster * kN));
  const int rounds = (tiles + clusters - 1) / clusters;
  return static_cast<double>(a.m) * a.n /
         (static_cast<double>(rounds) * clusters * kCluster * a.tile.rows * kN);
}

bool gated_gemm_fits(const GatedGemm& a) {
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  constexpr int kStepsLeast = 6;  // a ring's turn
  return a.gated_silu && a.m >= 1 && a.n >= 16 && a.n % 16 == 0 && a.k % 8 == 0 &&
         a.k > (kStepsLeast - 1) * 64 && a.input_stride % 8 == 0 && a.output_stride % 8 == 0 &&
         aligned(a.input) && aligned(a.weight) && aligned(a.output) && a.bias == nullptr &&
         a.dtype != DType::f32 && !a.output_f32 && (a.tile.rows == 128 || a.tile.rows == 256);
}

cudaError_t gated_gemm(const GatedGemm& a, int multiprocessors, cudaStream_t stream) {
  if (!gated_gemm_fits(a)) return cudaErrorInvalidValue;
  return a.dtype == DType::f16 ? choose<__half>(a, multiprocessors, stream)
                               : choose<__nv_bfloat16>(a, multiprocessors, stream);
}

}  // namespace troupe::cuda
