// Residual addition and RMS or layer norm in one pass over the row.
//
// norm_row keeps a row in registers: one block a row, 16 bytes a thread and step, one read and one
// write of everything. What it reads may be parts of a product's sums, which it adds up. norm_group
// serves rows cut into groups (q and k norms) and rows that are not whole 16-byte pieces: one warp a
// group, two passes.
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"

namespace troupe::cuda {
namespace {

// Blocks that start while the product in front ends would crowd on the multiprocessors that are
// free first, and share what one of them reads. Few rows ask for more than half of a
// multiprocessor's memory, so that each has one to itself.
constexpr int64_t kRowsSpread = 128;
constexpr size_t kMoreThanHalf = 116 << 10;

struct Params {
  Norm n;
  int32_t group, groups;
  bool whole_weight, whole_bias;  // of the rows' type, in whole 16-byte pieces
};

__device__ __forceinline__ float load_any(const Matrix& m, int64_t i) {
  switch (m.dtype) {
    case DType::f16:
      return to_float(static_cast<const __half*>(m.data)[i]);
    case DType::bf16:
      return to_float(static_cast<const __nv_bfloat16*>(m.data)[i]);
    default:
      return static_cast<const float*>(m.data)[i];
  }
}

template <class T>
struct Piece {  // 16 bytes of a row
  static constexpr int kCount = 16 / sizeof(T);
  uint4 bits;
  __device__ __forceinline__ T* at() { return reinterpret_cast<T*>(&bits); }
};

__device__ __forceinline__ float block_sum(float x) {
  __shared__ float of_warp[32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  x = ptx::warp_sum(x);
  __syncthreads();
  if (lane == 0) of_warp[warp] = x;
  __syncthreads();
  return ptx::warp_sum(lane < warps ? of_warp[lane] : 0.0F);
}

// 16 bytes of a row whose parts a product left apart.
template <class T>
__device__ __forceinline__ Piece<T> add_parts(const Norm& n, int64_t row, int piece) {
  constexpr int kFloats = Piece<T>::kCount / 4;
  const int64_t quads = n.input.cols / 4, plane = n.input.rows * quads;
  const auto* from = reinterpret_cast<const float4*>(n.sums) + row * quads + piece * kFloats;
  float4 part[kNormPartsMax][kFloats];
#pragma unroll
  for (int k = 0; k < kNormPartsMax; ++k) {
#pragma unroll
    for (int f = 0; f < kFloats; ++f) {
      if (k < n.parts) part[k][f] = __ldcg(from + k * plane + f);
    }
  }
  Piece<T> out;
#pragma unroll
  for (int f = 0; f < kFloats; ++f) {
    float4 sum = part[0][f];
#pragma unroll
    for (int k = 1; k < kNormPartsMax; ++k) {
      if (k >= n.parts) continue;
      sum.x += part[k][f].x;
      sum.y += part[k][f].y;
      sum.z += part[k][f].z;
      sum.w += part[k][f].w;
    }
    out.at()[f * 4] = from_float<T>(sum.x);
    out.at()[f * 4 + 1] = from_float<T>(sum.y);
    out.at()[f * 4 + 2] = from_float<T>(sum.z);
    out.at()[f * 4 + 3] = from_float<T>(sum.w);
  }
  return out;
}

template <class T, int kPieces, bool kParts>
__global__ void __launch_bounds__(1024) norm_row(const __grid_constant__ Params p) {
  using P = Piece<T>;
  const Norm& n = p.n;
  ptx::let_next_kernel_start();
  const int64_t row = blockIdx.x;
  const int pieces = static_cast<int>(n.input.cols) / P::kCount;
  float value[kPieces][P::kCount];
  // Weights do not depend on the kernels in front.
  P weight[kPieces], bias[kPieces];
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int piece = i * blockDim.x + threadIdx.x;
    if (piece >= pieces) continue;
    if (p.whole_weight) weight[i].bits = static_cast<const uint4*>(n.weight.data)[piece];
    if (p.whole_bias) bias[i].bits = static_cast<const uint4*>(n.bias.data)[piece];
  }
  ptx::wait_for_earlier_kernels();
  const T* input = static_cast<const T*>(n.input.data) + row * n.input.stride;
  T* residual =
      static_cast<T*>(n.residual.data) + (present(n.residual) ? row * n.residual.stride : 0);
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int piece = i * blockDim.x + threadIdx.x;
    P x = {}, r = {};
    if (piece < pieces && residual != nullptr)
      r.bits = reinterpret_cast<const uint4*>(residual)[piece];
    if constexpr (kParts) {
      if (piece < pieces) x = add_parts<T>(n, row, piece);
    } else if (piece < pieces) {
      x.bits = reinterpret_cast<const uint4*>(input)[piece];
    }
    if (residual != nullptr && piece < pieces) {
#pragma unroll
      for (int e = 0; e < P::kCount; ++e) {
        x.at()[e] = from_float<T>(to_float(x.at()[e]) + to_float(r.at()[e]));
      }
      reinterpret_cast<uint4*>(residual)[piece] = x.bits;
    }
#pragma unroll
    for (int e = 0; e < P::kCount; ++e) {
      value[i][e] = to_float(x.at()[e]);
      sum += n.centred ? value[i][e] : value[i][e] * value[i][e];
    }
  }
  const auto columns = static_cast<float>(n.input.cols);
  sum = block_sum(sum);
  float mean = 0.0F;
  if (n.centred) {
    mean = sum / columns;
    sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      if (i * blockDim.x + threadIdx.x >= pieces) continue;
#pragma unroll
      for (int e = 0; e < P::kCount; ++e) sum += (value[i][e] - mean) * (value[i][e] - mean);
    }
    sum = block_sum(sum);
  }
  const float factor = rsqrtf(sum / columns + n.eps);
  T* output = static_cast<T*>(n.output.data) + row * n.output.stride;
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int piece = i * blockDim.x + threadIdx.x;
    if (piece >= pieces) continue;
    P y;
#pragma unroll
    for (int e = 0; e < P::kCount; ++e) {
      const int column = piece * P::kCount + e;
      float v = (value[i][e] - mean) * factor;
      if (p.whole_weight) {
        v *= to_float(weight[i].at()[e]) + n.weight_offset;
      } else if (present(n.weight)) {
        v *= load_any(n.weight, column) + n.weight_offset;
      }
      if (p.whole_bias) {
        v += to_float(bias[i].at()[e]);
      } else if (present(n.bias)) {
        v += load_any(n.bias, column);
      }
      y.at()[e] = from_float<T>(v);
    }
    reinterpret_cast<uint4*>(output)[piece] = y.bits;
  }
}

template <class T>
__global__ void __launch_bounds__(256) norm_group(const __grid_constant__ Params p) {
  constexpr int kEarly = 8;
  const Norm& n = p.n;
  ptx::let_next_kernel_start();
  const int64_t item = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (item >= n.input.rows * p.groups) return ptx::wait_for_earlier_kernels();
  const int64_t row = item / p.groups;
  const int begin = static_cast<int>(item % p.groups) * p.group;
  // Weights do not depend on the kernels in front: those of small groups come before these end.
  const bool early = p.group <= 32 * kEarly && present(n.weight);
  float weight[kEarly];
#pragma unroll
  for (int k = 0; k < kEarly; ++k) {
    const int i = k * 32 + static_cast<int>(threadIdx.x) % 32;
    if (early && i < p.group)
      weight[k] = load_any(n.weight, n.weight.cols == p.group ? i : begin + i) + n.weight_offset;
  }
  ptx::wait_for_earlier_kernels();
  const T* input = static_cast<const T*>(n.input.data) + row * n.input.stride + begin;
  T* residual = present(n.residual)
                    ? static_cast<T*>(n.residual.data) + row * n.residual.stride + begin
                    : nullptr;
  T* output = static_cast<T*>(n.output.data) + row * n.output.stride + begin;
  const int lane = threadIdx.x % 32;
  float sum = 0.0F;
  for (int i = lane; i < p.group; i += 32) {
    float x = to_float(input[i]);
    if (residual != nullptr) {
      residual[i] = from_float<T>(x + to_float(residual[i]));
      x = to_float(residual[i]);
    }
    sum += n.centred ? x : x * x;
  }
  sum = ptx::warp_sum(sum);
  const T* from = residual != nullptr ? residual : input;
  float mean = 0.0F;
  if (n.centred) {
    mean = sum / static_cast<float>(p.group);
    sum = 0.0F;
    for (int i = lane; i < p.group; i += 32) {
      const float x = to_float(from[i]) - mean;
      sum += x * x;
    }
    sum = ptx::warp_sum(sum);
  }
  const float factor = rsqrtf(sum / static_cast<float>(p.group) + n.eps);
  // The weight is one per column of the row, or one group's that all groups share.
  const auto finish = [&](int i, float scale) {
    float v = (to_float(from[i]) - mean) * factor * scale;
    if (present(n.bias)) v += load_any(n.bias, n.bias.cols == p.group ? i : begin + i);
    output[i] = from_float<T>(v);
  };
  if (early) {
#pragma unroll
    for (int k = 0; k < kEarly; ++k) {
      if (k * 32 + lane < p.group) finish(k * 32 + lane, weight[k]);
    }
    return;
  }
  for (int i = lane; i < p.group; i += 32) {
    const int column = n.weight.cols == p.group ? i : begin + i;
    finish(i, present(n.weight) ? load_any(n.weight, column) + n.weight_offset : 1.0F);
  }
}

bool aligned(const Matrix& m) {
  return !m || (reinterpret_cast<uintptr_t>(m.data) % 16 == 0 &&
                static_cast<size_t>(m.stride) * dtype_bytes(m.dtype) % 16 == 0);
}

// Whether rows are taken whole, in pieces of 16 bytes.
bool takes_whole_rows(const Norm& n) {
  const auto count = static_cast<int64_t>(16 / dtype_bytes(n.input.dtype));
  return (n.group == 0 || n.group == n.input.cols) && n.input.cols % count == 0 &&
         n.input.cols / count <= 4096 && aligned(n.residual) && aligned(n.output) &&
         (n.parts > 0 || aligned(n.input));
}

template <class T, bool kParts>
auto kernel_of(int per_thread) {
  return per_thread == 1   ? norm_row<T, 1, kParts>
         : per_thread == 2 ? norm_row<T, 2, kParts>
                           : norm_row<T, 4, kParts>;
}

template <class T>
cudaError_t run(const Norm& n, cudaStream_t stream) {
  constexpr int kCount = Piece<T>::kCount;
  const auto columns = static_cast<int32_t>(n.input.cols);
  const auto as_pieces = [&](const Matrix& m) {
    return static_cast<bool>(m) && m.dtype == n.input.dtype &&
           reinterpret_cast<uintptr_t>(m.data) % 16 == 0;
  };
  Params p = {n, n.group == 0 ? columns : n.group, 1, as_pieces(n.weight), as_pieces(n.bias)};
  p.groups = columns / p.group;
  const int pieces = columns / kCount;
  if (!takes_whole_rows(n)) {
    const int64_t items = n.input.rows * p.groups;
    return launch(norm_group<T>, {dim3(static_cast<unsigned>((items + 7) / 8)), dim3(256)}, stream,
                  p);
  }
  const int per_thread = pieces <= 1024 ? 1 : pieces <= 2048 ? 2 : 4;
  const int threads = ((pieces + per_thread - 1) / per_thread + 31) / 32 * 32;
  LaunchShape shape = {dim3(static_cast<unsigned>(n.input.rows)),
                       dim3(static_cast<unsigned>(threads))};
  auto kernel = kernel_of<T, false>(per_thread);
  if constexpr (sizeof(T) == 2) {
    if (n.parts > 0) kernel = kernel_of<T, true>(per_thread);
  }
  if (n.input.rows <= kRowsSpread && runs_hopper_code()) {
    shape.shared_bytes = kMoreThanHalf;
    TR_CUDA_TRY(allow_shared(kernel, kMoreThanHalf));
  }
  return launch(kernel, shape, stream, p);
}

}  // namespace

bool norm_adds_parts(const Norm& n) {
  return n.parts > 0 && n.parts <= kNormPartsMax && n.input.dtype != DType::f32 &&
         takes_whole_rows(n);
}

cudaError_t norm(const Norm& args, cudaStream_t stream) {
  if (args.parts > 0 && !norm_adds_parts(args)) return cudaErrorInvalidValue;
  if (args.input.rows == 0) return cudaSuccess;
  TR_DISPATCH_FLOAT(args.input.dtype, return run<T>(args, stream));
}

}  // namespace troupe::cuda
