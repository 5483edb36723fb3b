// The experts' products for more rows than a decode step of a few sequences has, on tensor cores.
// Items (a row and one of its experts) are put in order of experts and cut into tiles of at most
// kRows; a block multiplies one tile by kColumns rows of its expert's weight. Rows of the input are
// gathered on their way into shared memory, so nothing is copied in between. What experts make of a
// row is added up last, in the order of its choice. An item's sums run over k in one order wherever
// it stands, so they depend neither on the rows around it nor on the size of tiles.
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/curve.cuh"
#include "kernels/cuda/experts.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/tile_product.cuh"

namespace troupe::cuda {
namespace {

using namespace tiles;

constexpr int kFewRows = 32, kManyRows = 128;  // of a tile
constexpr int kGroupThreads = 1024;
// Fewer rows touch most of their experts once: then a warp a row of the weight is as quick or
// quicker.
constexpr int64_t kRowsLeast = 8;

// ---- the order ----

// The lanes of a warp that hold the same expert; the first of them speaks for all.
struct Peers {
  int first, before, count;
};
__device__ __forceinline__ Peers peers_of(int32_t expert) {
  const unsigned all = __match_any_sync(0xffffffff, expert);
  const unsigned earlier = all & ((1U << threadIdx.x % 32) - 1);
  return {__ffs(static_cast<int>(all)) - 1, __popc(earlier), __popc(all)};
}

static_assert(kExpertsMax == kGroupThreads, "a thread for each expert");
__global__ void __launch_bounds__(kGroupThreads)
    group_kernel(const __grid_constant__ ExpertsWork p, int rows_per_tile) {
  __shared__ int32_t counts[kExpertsMax];  // items of each expert, then its next free place
  __shared__ unsigned long long of_warp[32];
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const auto thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const auto items = static_cast<int32_t>(p.input.rows) * p.routing.top_k;
  const int32_t rounded = (items + 31) / 32 * 32;
  counts[thread] = 0;
  __syncthreads();
  for (int32_t i = thread; i < rounded; i += kGroupThreads) {
    const int32_t expert = i < items ? p.expert_of[i] : -1;
    const Peers peers = peers_of(expert);
    if (expert >= 0 && peers.before == 0) atomicAdd(counts + expert, peers.count);
  }
  __syncthreads();
  // Items before this thread's expert in the low half, tiles in the high one.
  const int32_t count = counts[thread], tiles = (count + rows_per_tile - 1) / rows_per_tile;
  const auto own = static_cast<unsigned long long>(tiles) << 32 | static_cast<uint32_t>(count);
  unsigned long long upto = ptx::warp_sum_upto(own);
  if (lane == 31) of_warp[warp] = upto;
  __syncthreads();
  for (int w = 0; w < warp; ++w) upto += of_warp[w];
  const auto begin = static_cast<int32_t>(static_cast<uint32_t>(upto - own));
  const auto first_tile = static_cast<int32_t>((upto - own) >> 32);
  for (int32_t t = 0; t < tiles; ++t) {
    const int32_t from = begin + t * rows_per_tile;
    p.tiles.tiles[first_tile + t] = {thread, from, min(from + rows_per_tile, begin + count)};
  }
  if (thread == kGroupThreads - 1) *p.tiles.count = static_cast<int32_t>(upto >> 32);
  counts[thread] = begin;
  __syncthreads();
  for (int32_t i = thread; i < rounded; i += kGroupThreads) {
    const int32_t expert = i < items ? p.expert_of[i] : -1;
    const Peers peers = peers_of(expert);
    int32_t place = 0;
    if (expert >= 0 && peers.before == 0) place = atomicAdd(counts + expert, peers.count);
    place = __shfl_sync(0xffffffff, place, peers.first) + peers.before;
    if (i >= items) continue;
    p.tiles.place_of[i] = expert >= 0 ? place : -1;
    if (expert >= 0) p.tiles.order[place] = i;
  }
}

// ---- the products ----

using Few = Share<kFewRows, 4, 2>;
using Many = Share<kManyRows, 3, 2>;
// Where a block may have 64 KiB alone.
using ShallowFew = Share<kFewRows, 3, 1>;
using ShallowMany = Share<kManyRows, 2, 1>;

// The tile of this block and its columns; false: there are fewer tiles than blocks. Blocks that run
// together take the same few tiles of rows and neighbouring columns: both stay in the second-level
// cache.
__device__ __forceinline__ bool find_tile(const ExpertsWork& p, int columns, ExpertTile& tile,
                                          int& column) {
  constexpr int kTogether = 8;
  const int32_t tiles = *p.tiles.count;
  const auto block = static_cast<int32_t>(blockIdx.x);
  const int32_t group = block / (kTogether * columns);
  const int32_t height = min(kTogether, tiles - group * kTogether);
  if (height <= 0) return false;
  const int32_t within = block - group * kTogether * columns;
  if (within >= height * columns) return false;
  tile = p.tiles.tiles[group * kTogether + within % height];
  column = within / height;
  return true;
}

// between[place] = curve(gate) * up. Eight rows of the gate's weight and eight of the other's come
// by turns, so a thread has both sums of a column.
template <class T, class S>
__global__ void __launch_bounds__(kThreads, S::kBlocks)
    up_tiles(const __grid_constant__ ExpertsWork p) {
  extern __shared__ __align__(128) char shared[];
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  ExpertTile tile;
  int column = 0;
  constexpr int kMade = kColumns / 2;
  if (!find_tile(p, (p.inner + kMade - 1) / kMade, tile, column)) return;
  using Product = TileProduct<T, S>;
  const ExpertWeights w = p.weights[tile.expert];
  const auto hidden = static_cast<int>(p.input.cols);
  const int own = static_cast<int>(threadIdx.x) / kPieces, first = column * kMade;
  typename Product::Inputs x = {static_cast<const T*>(p.input.data), {}};
  find_rows(x, own, [&](int row) {
    const int place = tile.begin + row;
    return place < tile.end ? begin_of(p.tiles.order[place] / p.routing.top_k, p.input.stride)
                            : kNone;
  });
  typename Product::Weights rows = {static_cast<const T*>(w.gate_up), {}};
  find_rows(rows, own, [&](int at) {
    const int c = first + at / 16 * 8 + at % 8;
    return c < p.inner ? begin_of(at % 16 < 8 ? c : p.inner + c, hidden) : kNone;
  });
  Product product(static_cast<uint32_t>(__cvta_generic_to_shared(shared)), x, rows, hidden);
  product.run();
  const T* bias = static_cast<const T*>(w.gate_up_bias);
  product.each([&](int row, int band, int half) {
    const int place = tile.begin + row;
    if (place >= tile.end) return;
#pragma unroll
    for (int strip = 0; strip < S::kStrips; strip += 2) {
      const int at = product.column_of(strip), c = first + at / 16 * 8 + at % 8;
      if (c >= p.inner) continue;
      float made[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float gate = product.sum(band, strip, half, e), up = product.sum(band, strip + 1, half, e);
        if (bias != nullptr) {
          gate += to_float(bias[c + e]);
          up += to_float(bias[p.inner + c + e]);
        }
        made[e] = bent(p.curve, gate) * up;
      }
      *reinterpret_cast<uint32_t*>(static_cast<T*>(p.between) +
                                   static_cast<int64_t>(place) * p.inner + c) =
          pack<T>(made[0], made[1]);
    }
  });
}

// results[place] = the expert's second product.
template <class T, class S>
__global__ void __launch_bounds__(kThreads, S::kBlocks)
    down_tiles(const __grid_constant__ ExpertsWork p) {
  extern __shared__ __align__(128) char shared[];
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  ExpertTile tile;
  int column = 0;
  const auto columns = static_cast<int>(p.output.cols);
  if (!find_tile(p, (columns + kColumns - 1) / kColumns, tile, column)) return;
  using Product = TileProduct<T, S>;
  const ExpertWeights w = p.weights[tile.expert];
  const int own = static_cast<int>(threadIdx.x) / kPieces, first = column * kColumns;
  typename Product::Inputs x = {static_cast<const T*>(p.between), {}};
  find_rows(x, own, [&](int row) {
    const int place = tile.begin + row;
    return place < tile.end ? begin_of(place, p.inner) : kNone;
  });
  typename Product::Weights rows = {static_cast<const T*>(w.down), {}};
  find_rows(rows, own, [&](int row) {
    const int c = first + row;
    return c < columns ? begin_of(c, p.inner) : kNone;
  });
  Product product(static_cast<uint32_t>(__cvta_generic_to_shared(shared)), x, rows, p.inner);
  product.run();
  const T* bias = static_cast<const T*>(w.down_bias);
  product.each([&](int row, int band, int half) {
    const int64_t place = tile.begin + row;
    if (place >= tile.end) return;
#pragma unroll
    for (int strip = 0; strip < S::kStrips; ++strip) {
      const int c = first + product.column_of(strip);
      if (c >= columns) continue;
      float made[2];
#pragma unroll
      for (int e = 0; e < 2; ++e)
        made[e] = product.sum(band, strip, half, e) + (bias != nullptr ? to_float(bias[c + e]) : 0);
      *reinterpret_cast<uint32_t*>(static_cast<T*>(p.tiles.results) + place * columns + c) =
          pack<T>(made[0], made[1]);
    }
  });
}

// ---- a row's experts together ----

template <class T>
__global__ void __launch_bounds__(kThreads) add_up_kernel(const __grid_constant__ ExpertsWork p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t row = blockIdx.x, columns = p.output.cols;
  const int64_t c = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * 8;
  if (c >= columns) return;
  float sums[8] = {};
  for (int k = 0; k < p.routing.top_k; ++k) {
    const int64_t item = row * p.routing.top_k + k, place = p.tiles.place_of[item];
    if (place < 0) continue;
    const float share = p.shares[item];
    const uint4 bits = *reinterpret_cast<const uint4*>(static_cast<const T*>(p.tiles.results) +
                                                       place * columns + c);
    const T* part = reinterpret_cast<const T*>(&bits);
#pragma unroll
    for (int e = 0; e < 8; ++e) sums[e] += share * to_float(part[e]);
  }
  T* out = static_cast<T*>(p.output.data) + row * p.output.stride + c;
  *reinterpret_cast<uint4*>(out) = {pack<T>(sums[0], sums[1]), pack<T>(sums[2], sums[3]),
                                    pack<T>(sums[4], sums[5]), pack<T>(sums[6], sums[7])};
}

int64_t items_of(const ExpertsWork& p) {
  return p.input.rows * p.routing.top_k;
}

// Tiles as small as what an expert has to do on average; sums are the same in either.
int rows_per_tile(const ExpertsWork& p) {
  return items_of(p) <= int64_t{kFewRows} * p.local ? kFewRows : kManyRows;
}

template <class T, class S>
cudaError_t multiply_tiles(const ExpertsWork& p, cudaStream_t stream) {
  constexpr size_t kShared = size_t{S::kStages} * S::kStageBytes;
  const auto blocks = [&](int64_t n, int each) {
    return dim3(static_cast<unsigned>(expert_tiles_max(p) * ((n + each - 1) / each)));
  };
  TR_CUDA_TRY(allow_shared(up_tiles<T, S>, kShared));
  TR_CUDA_TRY(allow_shared(down_tiles<T, S>, kShared));
  TR_CUDA_TRY(
      launch(up_tiles<T, S>, {blocks(p.inner, kColumns / 2), dim3(kThreads), kShared}, stream, p));
  return launch(down_tiles<T, S>, {blocks(p.output.cols, kColumns), dim3(kThreads), kShared},
                stream, p);
}

template <class T, class Deep, class Shallow>
cudaError_t multiply_tiles(const ExpertsWork& p, cudaStream_t stream) {
  const bool deep = p.shared_max >= size_t{Deep::kStages} * Deep::kStageBytes;
  return deep ? multiply_tiles<T, Deep>(p, stream) : multiply_tiles<T, Shallow>(p, stream);
}

template <class T>
cudaError_t tiles_of(const ExpertsWork& p, cudaStream_t stream) {
  const int rows = rows_per_tile(p);
  TR_CUDA_TRY(launch(group_kernel, {dim3(1), dim3(kGroupThreads)}, stream, p, rows));
  TR_CUDA_TRY(rows == kFewRows ? (multiply_tiles<T, Few, ShallowFew>(p, stream))
                               : (multiply_tiles<T, Many, ShallowMany>(p, stream)));
  const dim3 grid(static_cast<unsigned>(p.input.rows),
                  static_cast<unsigned>((p.output.cols + kThreads * 8 - 1) / (kThreads * 8)));
  return launch(add_up_kernel<T>, {grid, dim3(kThreads)}, stream, p);
}

// Whether enough items share their experts' weights, which tiles read once for all of them.
bool experts_return(const ExpertsWork& p) {
  return p.input.rows >= kRowsLeast || (p.input.rows > 1 && items_of(p) >= p.routing.experts);
}

}  // namespace

bool experts_in_tiles(const ExpertsWork& p) {
  const bool halves = p.dtype == DType::f16 || p.dtype == DType::bf16;
  return halves && p.local > 0 && p.input.dtype == p.dtype && p.output.dtype == p.dtype &&
         p.inner % 8 == 0 && p.input.cols % 8 == 0 && p.output.cols % 8 == 0 &&
         is_aligned(p.input) && is_aligned(p.output) && (p.rows_independent || experts_return(p));
}

int64_t expert_tiles_max(const ExpertsWork& p) {
  const int64_t items = items_of(p);
  return items / rows_per_tile(p) + (items < p.local ? items : p.local);
}

cudaError_t expert_tiles(const ExpertsWork& p, cudaStream_t stream) {
  if (p.dtype == DType::f16) return tiles_of<__half>(p, stream);
  return tiles_of<__nv_bfloat16>(p, stream);
}

}  // namespace troupe::cuda
