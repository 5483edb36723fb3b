// A matrix product for tens of rows and more: tiles of 128 weight rows by up to 256 input rows, the
// weight in the place of A in the warpgroup product (64 of its rows a consumer), the input in B's.
//
// Two or four blocks are a cluster and take tiles one above the other: each brings its own weights
// and a share of the input, and the copy engine writes that share into all of them. One block per
// multiprocessor stays for all of a launch; its producer runs ahead from tile to tile, and asks for
// the first weights before the kernels in front have ended.
//
// Tiles that do not come out even over the clusters are cut along k where clusters' shares end
// ("streamed"): a cluster's share begins with the end of a tile, whose sums it leaves in memory,
// and ends with the beginning of another, which it completes: by then the cluster behind has long
// left the rest. Few tiles are cut into equal parts instead ("shared out"): all parts end together,
// and each adds up some of the tile's input rows. Sums are added in the order of k either way, so
// results do not depend on timing.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/cluster.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/ring.cuh"
#include "kernels/cuda/ptx/tma.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/tensor_map.hpp"
#include "kernels/cuda/wide_gemm.hpp"
#include "kernels/cuda/wide_sums.cuh"

namespace troupe::cuda {
namespace {

using namespace wide;

constexpr int kThreads = kConsumers + 128;
constexpr int kStageMemory = 208 << 10;

template <int kN>
struct Ring {
  static constexpr int kWeight = kTileRows * 128, kInput = kN * 128;
  static constexpr int kStage = kWeight + kInput;
  static constexpr int kStages = kStageMemory / kStage;
};

// The one thread of a block that starts copies.
template <int kN>
class Producer {
 public:
  using R = Ring<kN>;
  __device__ Producer(const Params& p, const CUtensorMap& weight, const CUtensorMap& input,
                      uint8_t* stages, uint64_t* full, uint64_t* empty)
      : p_(p),
        weight_(weight),
        input_(input),
        stages_(stages),
        full_(full),
        empty_(empty),
        rank_(static_cast<int>(ptx::cluster_rank())) {}

  __device__ void run() {
    ptx::prefetch_descriptor(&weight_);
    ptx::prefetch_descriptor(&input_);
    Steps<kN> weights(p_, rank_), inputs(p_, rank_);
    int ahead = 0;
    while (ahead < R::kStages && weights.next()) load_weight(ahead++, weights);
    ptx::wait_for_earlier_kernels();
    for (int done = 0; inputs.next(); ++done) {
      if (done >= ahead) {
        ptx::mbarrier_wait(empty_ + at_.slot, at_.parity ^ 1);
        load_weight(at_.slot, inputs);
      }
      load_input(at_.slot, inputs);
      at_.next(R::kStages);
    }
  }

 private:
  __device__ __forceinline__ void load_weight(int slot, const Steps<kN>& at) {
    ptx::mbarrier_expect_bytes(full_ + slot, R::kStage);
    ptx::load_box(stages_ + slot * R::kStage, &weight_, full_ + slot,
                  p_.columns > 1 ? ptx::kEvictNormal : ptx::kEvictFirst, at.step * 64, 0, 0,
                  at.place.row / 16);
  }
  __device__ __forceinline__ void load_input(int slot, const Steps<kN>& at) {
    const int share = kN / p_.cluster, first = rank_ * share;
    const auto everyone = static_cast<uint16_t>((1 << p_.cluster) - 1);
    ptx::load_box_widely(stages_ + slot * R::kStage + R::kWeight + first * 128, &input_,
                         full_ + slot, everyone, ptx::kEvictNormal, at.step * 64,
                         at.place.column + first);
  }

  const Params& p_;
  const CUtensorMap &weight_, &input_;
  uint8_t* stages_;
  uint64_t *full_, *empty_;
  const int rank_;
  ptx::RingPlace at_;
};

// T, kN: ToRows, ToGatedRows or ToLikeliest.
template <class T, int kN, template <class, int> class WayOut>
__device__ void consume(const Params& p, uint8_t* stages, uint8_t* staging, uint64_t* full,
                        uint64_t* empty) {
  using R = Ring<kN>;
  // An instruction of so few columns is over long before its sums can be added to again.
  constexpr int kChains = kN <= 64 ? 2 : 1;
  const auto rank = static_cast<int>(ptx::cluster_rank());
  const int group = static_cast<int>(threadIdx.x) / 128 - 1;
  // A lane for every block of the cluster: all of them write into this one's stages.
  const uint32_t lane = threadIdx.x % 32;
  const bool gives = lane < static_cast<uint32_t>(p.cluster);
  const auto give_back = [&](int slot) {
    if (gives) ptx::mbarrier_arrive_at(empty + slot, lane);
  };
  ptx::RingPlace at;
  Walk walk(p);
  WayOut<T, kN> way_out(p, staging);
  Segment s;
  while (walk.next(s)) {
    float sum[kChains][kN / 2];
    int before = 0;
    for (int step = s.begin; step < s.end; ++step) {
      ptx::mbarrier_wait(full + at.slot, at.parity);
      const uint8_t* stage = stages + at.slot * R::kStage;
      const uint64_t weight = ptx::swizzled_operand(stage + group * 64 * 128);
      const uint64_t input = ptx::swizzled_operand(stage + R::kWeight);
      ptx::wgmma_begin();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        ptx::wgmma_ss<T, kN>(sum[k % kChains], weight + k * 2, input + k * 2,
                             step > s.begin || k >= kChains);
      }
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
      if (step > s.begin) give_back(before);
      before = at.slot;
      at.next(R::kStages);
    }
    ptx::wgmma_wait<0>();
    give_back(before);
    if constexpr (kChains > 1) {
#pragma unroll
      for (int j = 0; j < kN / 2; ++j) sum[0][j] += sum[1][j];
    }
    Parts<kN> parts(p, s, rank);
    if (s.parts > 1) parts.meet(sum[0]);
    way_out.take(place_of<kN>(p, s.tile, rank), parts, sum[0]);
  }
}

template <class T, int kN, template <class, int> class WayOut>
__global__ void __launch_bounds__(kThreads, 1)
    wide_gemm_kernel(const __grid_constant__ CUtensorMap weight,
                     const __grid_constant__ CUtensorMap input, const __grid_constant__ Params p) {
#if __CUDA_ARCH__ >= 900
  using R = Ring<kN>;
  extern __shared__ uint8_t dynamic[];
  uint8_t* stages = dynamic + (1024 - ptx::shared_address(dynamic) % 1024) % 1024;
  uint8_t* staging = stages + R::kStages * R::kStage;
  __shared__ uint64_t full[R::kStages], empty[R::kStages];
  if (threadIdx.x == 0) {
    for (int s = 0; s < R::kStages; ++s) {
      ptx::mbarrier_init(full + s, 1);
      ptx::mbarrier_init(empty + s, static_cast<uint32_t>(p.cluster * kConsumers / 32));
    }
    ptx::fence_barrier_init();
  }
  ptx::cluster_meet();
  ptx::let_next_kernel_start();
  if (threadIdx.x < 128) {
    ptx::shrink_registers<40>();
    if (threadIdx.x == 0) Producer<kN>(p, weight, input, stages, full, empty).run();
  } else {
    ptx::grow_registers<232>();
    ptx::wait_for_earlier_kernels();
    consume<T, kN, WayOut>(p, stages, staging, full, empty);
  }
  __syncwarp();
  ptx::cluster_meet();  // others may still arrive at this one's barriers
#endif
}

// ---- the host ----

template <class T, int kN, template <class, int> class WayOut>
constexpr size_t kSharedOf = 1024 + Ring<kN>::kStages* Ring<kN>::kStage + WayOut<T, kN>::kShared;

// How many clusters run at once: the multiprocessors of a group that a cluster must fit into are
// not always a multiple of its blocks.
int clusters_of(int cluster, int multiprocessors) {
  if (cluster == 2) return multiprocessors / 2;
  static const int of_four = [] {
    const auto kernel = wide_gemm_kernel<__nv_bfloat16, 256, ToRows>;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(4);
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = kSharedOf<__nv_bfloat16, 256, ToRows>;
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {4, 1, 1};
    config.attrs = &attribute;
    config.numAttrs = 1;
    int count = 0;
    if (allow_shared(kernel, config.dynamicSmemBytes) != cudaSuccess ||
        cudaOccupancyMaxActiveClusters(&count, kernel, &config) != cudaSuccess) {
      cudaGetLastError();
      return 0;
    }
    return count;
  }();
  return cluster == 4 ? of_four : 0;
}

struct Grid {
  int columns, stacks, tiles, clusters, steps;
};
Grid grid_of(const WideGemm& a, int multiprocessors) {
  const int columns = (a.m + a.cut.tokens - 1) / a.cut.tokens;
  const int stack = a.cut.cluster * kTileRows, stacks = (a.n + stack - 1) / stack;
  return {columns, stacks, columns * stacks, clusters_of(a.cut.cluster, multiprocessors),
          (a.k + 63) / 64};
}

void cut_tiles(Params& p, const WideGemm& a, const Grid& g) {
  constexpr int kStepsLeast = 4;  // of a share
  p.clusters = g.clusters;
  if (a.cut.parts > 1) {
    p.cut_tiles = g.tiles;
    p.shares = g.tiles * a.cut.parts;
    p.shared_out = true;
  } else if (a.cut.parts == 0 && g.tiles % g.clusters != 0) {
    const bool few = g.tiles < g.clusters;
    p.cut_tiles = few ? g.tiles : g.tiles % g.clusters + g.clusters;
    p.shares = std::min(g.clusters, std::max(g.tiles, g.tiles * g.steps / kStepsLeast));
    if (!few) p.shares = g.clusters;
  }
}

template <class T, int kN, template <class, int> class WayOut>
cudaError_t run(const WideGemm& a, int multiprocessors, cudaStream_t stream) {
  CUtensorMap weight, input;
  TR_CUDA_TRY(
      map_operands(a, kTileRows / 16, static_cast<uint32_t>(kN / a.cut.cluster), &weight, &input));
  const Grid g = grid_of(a, multiprocessors);
  Params p = {};
  p.m = a.m;
  p.n = a.n;
  p.steps = g.steps;
  p.columns = g.columns;
  p.stacks = g.stacks;
  p.cluster = a.cut.cluster;
  p.tiles = g.tiles;
  cut_tiles(p, a, g);
  p.bias = a.bias;
  p.output = a.output;
  p.output_stride = a.output_stride;
  p.likeliest = a.likeliest;
  p.partials = reinterpret_cast<float4*>(a.partials);
  p.counters = a.counters;
  p.output_f32 = a.output_f32;
  const int busy = std::min(std::max(p.shares, p.tiles - p.cut_tiles), g.clusters);
  const auto kernel = wide_gemm_kernel<T, kN, WayOut>;
  constexpr size_t kShared = kSharedOf<T, kN, WayOut>;
  TR_CUDA_TRY(allow_shared(kernel, kShared));
  return launch(kernel,
                {dim3(static_cast<unsigned>(busy * p.cluster)), dim3(kThreads), kShared,
                 static_cast<unsigned>(p.cluster)},
                stream, weight, input, p);
}

template <class T, template <class, int> class WayOut>
cudaError_t choose(const WideGemm& a, int multiprocessors, cudaStream_t stream) {
  switch (a.cut.tokens) {
    case 64:
      return run<T, 64, WayOut>(a, multiprocessors, stream);
    case 128:
      return run<T, 128, WayOut>(a, multiprocessors, stream);
    case 192:
      return run<T, 192, WayOut>(a, multiprocessors, stream);
    default:
      return run<T, 256, WayOut>(a, multiprocessors, stream);
  }
}
template <class T>
cudaError_t choose(const WideGemm& a, int multiprocessors, cudaStream_t stream) {
  switch (a.sums_to()) {
    case SumsTo::gate:
      return choose<T, ToGatedRows>(a, multiprocessors, stream);
    case SumsTo::likeliest:
      return choose<T, ToLikeliest>(a, multiprocessors, stream);
    default:
      return choose<T, ToRows>(a, multiprocessors, stream);
  }
}

}  // namespace

size_t wide_gemm_partials_bytes(int multiprocessors) {
  return static_cast<size_t>(multiprocessors) * kTileRows * 256 * sizeof(float);
}
size_t wide_gemm_counters(int multiprocessors) {
  return static_cast<size_t>(multiprocessors) * 4;  // less than two rounds of pairs are cut
}

bool wide_gemm_fits(const WideGemm& a) {
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  return a.m >= 1 && a.n >= 16 && a.n % (a.gated_silu ? 16 : 8) == 0 && a.k >= 8 && a.k % 8 == 0 &&
         a.input_stride % 8 == 0 && a.output_stride % 8 == 0 && aligned(a.input) &&
         aligned(a.weight) && aligned(a.output) && a.dtype != DType::f32 &&
         !(a.gated_silu && a.output_f32);
}

bool wide_cut_fits(const WideGemm& a, int multiprocessors) {
  const WideCut& c = a.cut;
  if (c.tokens < 64 || c.tokens > 256 || c.tokens % 64 != 0 || c.parts < 0) return false;
  if (c.cluster != 2 && c.cluster != 4) return false;
  const Grid g = grid_of(a, multiprocessors);
  if (g.clusters == 0) return false;
  return c.parts <= 1 || (g.tiles * c.parts <= g.clusters && c.parts <= g.steps);
}

cudaError_t wide_gemm(const WideGemm& a, int multiprocessors, cudaStream_t stream) {
  if (!wide_gemm_fits(a) || !wide_cut_fits(a, multiprocessors)) return cudaErrorInvalidValue;
  return a.dtype == DType::f16 ? choose<__half>(a, multiprocessors, stream)
                               : choose<__nv_bfloat16>(a, multiprocessors, stream);
}

}  // namespace troupe::cuda
