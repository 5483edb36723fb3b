// Additions, activations, embedding rows, gathered rows: a thread takes 16 bytes at a time where
// rows are whole 16-byte pieces.
#include "kernels/cuda/elementwise.hpp"

#include <type_traits>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/math.cuh"

namespace troupe::cuda {
namespace {

constexpr int kThreads = 256;

// kWidth elements as one access.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T at[kWidth];
};
// Elements that one thread moves at once when rows are whole 16-byte pieces; else one.
template <class T>
constexpr int kWide = 16 / sizeof(T);

template <class T>
bool wide(const Matrix& m, int64_t columns) {
  return !m || (columns % kWide<T> == 0 && m.stride % kWide<T> == 0 &&
                reinterpret_cast<uintptr_t>(m.data) % 16 == 0);
}

// One block per piece of a row: x is the row, y the piece.
template <class T, int kWidth>
LaunchShape over(const Matrix& m, int64_t columns) {
  const int64_t items = (columns + kWidth - 1) / kWidth;
  const auto threads = static_cast<unsigned>(items < kThreads ? (items + 31) / 32 * 32 : kThreads);
  const auto blocks = static_cast<unsigned>((items + threads - 1) / threads);
  return {dim3(static_cast<unsigned>(m.rows), blocks), dim3(threads)};
}
__device__ __forceinline__ int64_t my_column(int width) {
  return static_cast<int64_t>(blockIdx.y * blockDim.x + threadIdx.x) * width;
}

template <class T, int kWidth>
__device__ __forceinline__ Pack<T, kWidth> load(const Matrix& m, int64_t row, int64_t column) {
  return *reinterpret_cast<const Pack<T, kWidth>*>(static_cast<const T*>(m.data) + row * m.stride +
                                                   column);
}
template <class T, int kWidth>
__device__ __forceinline__ void store(const Matrix& m, int64_t row, int64_t column,
                                      const Pack<T, kWidth>& x) {
  *reinterpret_cast<Pack<T, kWidth>*>(static_cast<T*>(m.data) + row * m.stride + column) = x;
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) add_kernel(const __grid_constant__ Add p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t column = my_column(kWidth);
  if (column >= p.input.cols) return;
  auto x = load<T, kWidth>(p.input, blockIdx.x, column);
  Pack<T, kWidth> y = {};
  if (present(p.addend)) y = load<T, kWidth>(p.addend, blockIdx.x, column);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    x.at[i] = from_float<T>(to_float(x.at[i]) * p.scale + to_float(y.at[i]));
  }
  store<T, kWidth>(p.output, blockIdx.x, column, x);
}

// by / (1 + exp(-x)): to the last bit for f32; 16-bit results do not show the difference.
template <class T>
__device__ __forceinline__ float sigmoid_times(float x, float by) {
  if constexpr (std::is_same_v<T, float>) return by / (1.0F + expf(-x));
  return by * ptx::reciprocal_flushed(1.0F + ptx::exp2_flushed(-1.44269504F * x));
}

template <class T, Curve kCurve>
__device__ __forceinline__ float curve_at(float x) {
  if constexpr (kCurve == Curve::silu) return sigmoid_times<T>(x, x);
  if constexpr (kCurve == Curve::gelu) return 0.5F * x * (1.0F + erff(x * 0.70710678F));
  if constexpr (kCurve == Curve::gelu_tanh) {
    const float inner = 0.79788456F * (x + 0.044715F * x * x * x);
    if constexpr (std::is_same_v<T, float>) return 0.5F * x * (1.0F + tanhf(inner));
    return sigmoid_times<T>(2.0F * inner, x);  // (1 + tanh(y)) / 2
  }
  if constexpr (kCurve == Curve::gelu_quick) return sigmoid_times<T>(1.702F * x, x);
  if constexpr (kCurve == Curve::relu) return fmaxf(x, 0.0F);
  return x > 0.0F ? x * x : 0.0F;
}

struct Bend {
  Matrix input, output;
  Curve curve;
  bool gated;
};

// A thread loads all its kPacks pieces before it works on the first.
template <class T, int kWidth, int kPacks, Curve kCurve>
__device__ __forceinline__ void bend(const Bend& p) {
  const int64_t first =
      static_cast<int64_t>(blockIdx.y * blockDim.x * kPacks + threadIdx.x) * kWidth;
  const int64_t step = static_cast<int64_t>(blockDim.x) * kWidth;
  Pack<T, kWidth> x[kPacks] = {}, up[kPacks] = {};
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    const int64_t column = first + k * step;
    if (column >= p.output.cols) break;
    x[k] = load<T, kWidth>(p.input, blockIdx.x, column);
    if (p.gated) up[k] = load<T, kWidth>(p.input, blockIdx.x, p.output.cols + column);
  }
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    const int64_t column = first + k * step;
    if (column >= p.output.cols) break;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float bent = curve_at<T, kCurve>(to_float(x[k].at[i]));
      x[k].at[i] = from_float<T>(p.gated ? bent * to_float(up[k].at[i]) : bent);
    }
    store<T, kWidth>(p.output, blockIdx.x, column, x[k]);
  }
}

template <class T, int kWidth, int kPacks>
__global__ void __launch_bounds__(kThreads) activation_kernel(const __grid_constant__ Bend p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  switch (p.curve) {  // out here: a choice for every element costs more than its curve
    case Curve::silu:
      return bend<T, kWidth, kPacks, Curve::silu>(p);
    case Curve::gelu:
      return bend<T, kWidth, kPacks, Curve::gelu>(p);
    case Curve::gelu_tanh:
      return bend<T, kWidth, kPacks, Curve::gelu_tanh>(p);
    case Curve::gelu_quick:
      return bend<T, kWidth, kPacks, Curve::gelu_quick>(p);
    case Curve::relu:
      return bend<T, kWidth, kPacks, Curve::relu>(p);
    case Curve::relu2:
      return bend<T, kWidth, kPacks, Curve::relu2>(p);
  }
}

// Many rows: few threads each, with much to do.
constexpr int kPacksMany = 2;
constexpr int64_t kManyRows = 1024;

LaunchShape over_many(const Matrix& m, int64_t items) {
  const int64_t blocks = (items + kThreads * kPacksMany - 1) / (kThreads * kPacksMany);
  const int64_t each = (items + blocks * kPacksMany - 1) / (blocks * kPacksMany);
  return {dim3(static_cast<unsigned>(m.rows), static_cast<unsigned>(blocks)),
          dim3(static_cast<unsigned>((each + 31) / 32 * 32))};
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) embed_kernel(const __grid_constant__ Embed p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t column = my_column(kWidth);
  if (column >= p.output.cols) return;
  int32_t token = p.tokens[blockIdx.x];
  if (token == -1) token = p.slot_tokens[p.slots[blockIdx.x]];  // what the last step drew
  const int64_t row = static_cast<int64_t>(token) - p.first_token;
  Pack<T, kWidth> x = {};
  if (row >= 0 && row < p.table.rows) x = load<T, kWidth>(p.table, row, column);
  if (p.scale != 1.0F) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x.at[i] = from_float<T>(to_float(x.at[i]) * p.scale);
  }
  store<T, kWidth>(p.output, blockIdx.x, column, x);
}

struct Pick {
  Matrix input, output;
  const int32_t* rows;
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) gather_kernel(const __grid_constant__ Pick p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t column = my_column(kWidth);
  if (column >= p.output.cols) return;
  store<T, kWidth>(p.output, blockIdx.x, column,
                   load<T, kWidth>(p.input, p.rows[blockIdx.x], column));
}

struct ScaleBy {
  Matrix input, weight, output;
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) scale_kernel(const __grid_constant__ ScaleBy p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t column = my_column(kWidth);
  if (column >= p.input.cols) return;
  auto x = load<T, kWidth>(p.input, blockIdx.x, column);
  const auto w = load<T, kWidth>(p.weight, 0, column);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) x.at[i] = from_float<T>(to_float(x.at[i]) * to_float(w.at[i]));
  store<T, kWidth>(p.output, blockIdx.x, column, x);
}

template <class T>
__global__ void __launch_bounds__(kThreads) mix_kernel(const __grid_constant__ MixRows p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t column = my_column(1);
  if (column >= p.output.cols) return;
  T* out = static_cast<T*>(p.output.data) + blockIdx.x * p.output.stride + column;
  float sum = p.accumulate ? to_float(*out) : 0.0F;
  for (int32_t k = 0; k < p.taps; ++k) {
    const int64_t at = static_cast<int64_t>(blockIdx.x) * p.taps + k;
    const int32_t row = p.rows[at];
    if (row < 0) continue;
    int32_t s = 0;
    while (s + 1 < p.source_count && row >= p.sources[s + 1].first) ++s;
    const MixSource source = p.sources[s];
    const float x =
        to_float(static_cast<const T*>(source.data)[(row - source.first) * source.stride + column]);
    sum += p.weights != nullptr ? p.weights[at] * x : x;
  }
  *out = from_float<T>(sum);
}

template <class T, class U>
__global__ void __launch_bounds__(kThreads) copy_kernel(const __grid_constant__ CopyRows p) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int64_t row = blockIdx.x, column = my_column(1);
  if (column >= p.output.cols) return;
  if (p.marks != nullptr && p.marks[row] != p.keep) return;
  static_cast<U*>(p.output.data)[row * p.output.stride + column] =
      from_float<U>(to_float(static_cast<const T*>(p.input.data)[row * p.input.stride + column]));
}

template <class T>
cudaError_t copy_from(const CopyRows& p, cudaStream_t stream) {
  const LaunchShape shape = over<T, 1>(p.output, p.output.cols);
  TR_DISPATCH_FLOAT_AS(U, p.output.dtype, return launch(copy_kernel<T, U>, shape, stream, p));
}

// Small normal numbers of random sign and digits, whether read as f16 or as bf16.
__global__ void __launch_bounds__(256) noise_kernel(uint16_t* to, size_t count) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < count;
       i += stride) {
    uint64_t z = (i + 1) * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    to[i] = static_cast<uint16_t>((z >> 40 & 0x83FF) | 0x3800);
  }
}

}  // namespace

cudaError_t copy_rows(const CopyRows& p, cudaStream_t stream) {
  if (p.output.rows == 0 || p.output.cols == 0) return cudaSuccess;
  TR_DISPATCH_FLOAT(p.input.dtype, return copy_from<T>(p, stream));
}

cudaError_t add(const Add& p, cudaStream_t stream) {
  if (p.input.rows == 0) return cudaSuccess;
  TR_DISPATCH_FLOAT(
      p.input.dtype, const int64_t n = p.input.cols;
      if (wide<T>(p.input, n) && wide<T>(p.addend, n) && wide<T>(p.output, n)) {
        return launch(add_kernel<T, kWide<T>>, over<T, kWide<T>>(p.output, n), stream, p);
      } return launch(add_kernel<T, 1>, over<T, 1>(p.output, n), stream, p));
}

cudaError_t scale_columns(const Matrix& input, const Matrix& weight, const Matrix& output,
                          cudaStream_t stream) {
  if (input.rows == 0) return cudaSuccess;
  const ScaleBy p = {input, weight, output};
  TR_DISPATCH_FLOAT(
      input.dtype, const int64_t n = input.cols;
      if (wide<T>(input, n) && wide<T>(weight, n) && wide<T>(output, n)) {
        return launch(scale_kernel<T, kWide<T>>, over<T, kWide<T>>(output, n), stream, p);
      } return launch(scale_kernel<T, 1>, over<T, 1>(output, n), stream, p));
}

cudaError_t mix_rows(const MixRows& p, cudaStream_t stream) {
  if (p.output.rows == 0) return cudaSuccess;
  TR_DISPATCH_FLOAT(p.output.dtype,
                    return launch(mix_kernel<T>, over<T, 1>(p.output, p.output.cols), stream, p));
}

cudaError_t activation(Curve curve, bool gated, const Matrix& input, const Matrix& output,
                       cudaStream_t stream) {
  if (output.rows == 0) return cudaSuccess;
  const Bend p = {input, output, curve, gated};
  TR_DISPATCH_FLOAT(
      input.dtype, const int64_t n = output.cols; if (wide<T>(input, n) && wide<T>(output, n)) {
        if (output.rows >= kManyRows)
          return launch(activation_kernel<T, kWide<T>, kPacksMany>, over_many(output, n / kWide<T>),
                        stream, p);
        return launch(activation_kernel<T, kWide<T>, 1>, over<T, kWide<T>>(output, n), stream, p);
      } return launch(activation_kernel<T, 1, 1>, over<T, 1>(output, n), stream, p));
}

cudaError_t embed(const Embed& p, cudaStream_t stream) {
  if (p.output.rows == 0) return cudaSuccess;
  TR_DISPATCH_FLOAT(
      p.table.dtype, const int64_t n = p.output.cols;
      if (wide<T>(p.table, n) && wide<T>(p.output, n)) {
        return launch(embed_kernel<T, kWide<T>>, over<T, kWide<T>>(p.output, n), stream, p);
      } return launch(embed_kernel<T, 1>, over<T, 1>(p.output, n), stream, p));
}

cudaError_t fill_noise(void* to, size_t halves, cudaStream_t stream) {
  noise_kernel<<<1056, 256, 0, stream>>>(static_cast<uint16_t*>(to), halves);
  return cudaGetLastError();
}

cudaError_t gather(const Matrix& input, const int32_t* rows, const Matrix& output,
                   cudaStream_t stream) {
  if (output.rows == 0) return cudaSuccess;
  const Pick p = {input, output, rows};
  TR_DISPATCH_FLOAT(
      input.dtype, const int64_t n = output.cols; if (wide<T>(input, n) && wide<T>(output, n)) {
        return launch(gather_kernel<T, kWide<T>>, over<T, kWide<T>>(output, n), stream, p);
      } return launch(gather_kernel<T, 1>, over<T, 1>(output, n), stream, p));
}

}  // namespace troupe::cuda
