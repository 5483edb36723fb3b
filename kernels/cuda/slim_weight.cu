// Packs a weight, a warp a block. Runs once, when a model is placed.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/slim_block.cuh"

namespace troupe::cuda {
namespace {

constexpr int kWarps = 8;
constexpr uint32_t kRefused = 1U << 31;  // of what `listed` counts: more than any list holds
constexpr int kNoNumber = 255;  // the exponent of infinities and of what is no number

struct Params {
  SlimShape shape;
  int64_t along, blocks, list_room;  // the shape's
  const uint16_t* weight;
  uint8_t* slim;
  uint32_t *list, *listed;
};

// A thread's values of a block, as the matrix instruction has them: register r of step s holds two
// neighbours along k. What lies beyond the weight's edge counts as within the window.
struct Share {
  uint32_t value[16];
  uint32_t there;  // a bit for each of the 32

  __device__ Share(const Params& p, int64_t strip, int64_t along) : value{}, there(0) {
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const int64_t row = row_of(p.shape, strip, g + i % 2 * 8);
      const int64_t column = along * kSlimDepth + i / 4 * 16 + i / 2 % 2 * 8 + t * 2;
      for (int half = 0; half < 2; ++half) {
        if (row >= p.shape.n || column + half >= p.shape.k) continue;
        value[i] |= static_cast<uint32_t>(p.weight[row * p.shape.k + column + half]) << 16 * half;
        there |= 1U << (2 * i + half);
      }
    }
  }
  static __device__ int64_t row_of(const SlimShape& shape, int64_t strip, int row) {
    if (!shape.paired) return strip * kSlimRows + row;
    return strip * kSlimRows / 2 + row % 8 + (row < 8 ? 0 : shape.n / 2);
  }
  [[nodiscard]] __device__ uint32_t bits(int i, int half) const {
    return value[i] >> 16 * half & 0xFFFF;
  }
  [[nodiscard]] __device__ bool has(int i, int half) const {
    return (there >> (2 * i + half) & 1) != 0;
  }
};

__device__ uint32_t exponent_of(uint32_t bits) {
  return bits >> 7 & 0xFF;
}

// The lowest exponent of the window of sixteen that holds most of a block's values: each lane tries
// eight. `counts`: of each exponent in the block.
__device__ uint32_t best_window(const uint32_t* counts) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint32_t best = 0;
  for (int first = lane * 8; first < lane * 8 + 8 && first <= 240; ++first) {
    uint32_t held = 0;
    for (int e = 0; e < 16; ++e) held += counts[first + e];
    best = max(best, held << 8 | static_cast<uint32_t>(first));
  }
#pragma unroll
  for (int d = 16; d > 0; d /= 2) best = max(best, __shfl_xor_sync(0xffffffff, best, d));
  return best & 0xFF;
}

__global__ void __launch_bounds__(kWarps * 32) pack_kernel(const __grid_constant__ Params p) {
  __shared__ uint32_t all_counts[kWarps][256];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t at = int64_t{blockIdx.x} * kWarps + warp;
  ptx::wait_for_earlier_kernels();
  if (at >= p.blocks) return;
  const Share share(p, at / p.along, at % p.along);
  uint32_t* counts = all_counts[warp];
  for (int e = lane; e < 256; e += 32) counts[e] = 0;
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    for (int half = 0; half < 2; ++half)
      if (share.has(i, half)) atomicAdd(counts + exponent_of(share.bits(i, half)), 1U);
  }
  __syncwarp();
  // Blocks of the next strip may be multiplied by zeros (kSlimBehind), and these times no number
  // would be none: such a weight stays plain.
  if (lane == 0 && counts[kNoNumber] != 0) atomicOr(p.listed, kRefused);
  const uint32_t lowest = best_window(counts);

  uint32_t code[16] = {}, strays = 0;  // a bit for each of those outside
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    for (int half = 0; half < 2; ++half) {
      const uint32_t bits = share.bits(i, half), place = exponent_of(bits) - lowest;
      if (place < 16) {
        code[i] |= ((bits & 0x807F) | place << 7) << 16 * half;
      } else if (share.has(i, half)) {
        strays |= 1U << (2 * i + half);
      }
    }
  }
  uint8_t* block = p.slim + at * kSlimBlock;
  uint32_t w[12];
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    uint32_t three[3] = {code[s * 4], code[s * 4 + 1], code[s * 4 + 2]};
    slim::spread_fourth(code[s * 4 + 3], three);
    for (int i = 0; i < 3; ++i) w[s * 3 + i] = three[i];
  }
#pragma unroll
  for (int plane = 0; plane < 3; ++plane) {
    *reinterpret_cast<uint4*>(block + plane * kSlimPlane + lane * 16) =
        make_uint4(w[plane * 4], w[plane * 4 + 1], w[plane * 4 + 2], w[plane * 4 + 3]);
  }

  const auto own = static_cast<uint32_t>(__popc(strays));
  const uint32_t upto = ptx::warp_sum_upto(own), count = __shfl_sync(0xffffffff, upto, 31);
  auto* head = reinterpret_cast<uint32_t*>(block + 3 * kSlimPlane);
  uint32_t* to = head + 1;
  const bool listed = count > kSlimStrays;
  uint32_t place = 0;
  if (listed) {
    if (lane == 0) place = atomicAdd(p.listed, count);
    place = __shfl_sync(0xffffffff, place, 0);
    if (int64_t{place} + count > p.list_room) return;  // the caller hears of it
    to = p.list + place;
  }
  uint32_t next = upto - own;
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    for (int half = 0; half < 2; ++half) {
      if ((strays >> (2 * i + half) & 1) != 0)
        to[next++] = slim::Stray::of(share.bits(i, half), i, lane, half).word;
    }
  }
  if (lane != 0) return;
  head[0] = lowest | count << 16;
  if (listed) head[1] = place;
}

}  // namespace

bool slim_fits(const SlimShape& s) {
  constexpr int64_t kMost = int64_t{1} << 31;
  return s.n >= 1 && s.k >= 8 && s.blocks() < kMost && (!s.paired || s.n % 16 == 0);
}

cudaError_t slim_pack(const SlimShape& shape, const void* weight, void* slim, uint32_t* listed,
                      cudaStream_t stream) {
  if (!slim_fits(shape)) return cudaErrorInvalidValue;
  auto* bytes = static_cast<uint8_t*>(slim);
  uint8_t* behind = bytes + shape.blocks() * kSlimBlock;
  TR_CUDA_TRY(cudaMemsetAsync(behind, 0, kSlimBehind * kSlimBlock, stream));
  const Params p = {shape,
                    shape.blocks_along(),
                    shape.blocks(),
                    shape.list_room(),
                    static_cast<const uint16_t*>(weight),
                    bytes,
                    reinterpret_cast<uint32_t*>(bytes + shape.list_at()),
                    listed};
  const auto grid = static_cast<unsigned>((shape.blocks() + kWarps - 1) / kWarps);
  return launch(pack_kernel, {dim3(grid), dim3(kWarps * 32)}, stream, p);
}

}  // namespace troupe::cuda
