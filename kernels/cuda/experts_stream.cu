// The experts' products for the few rows of decoding, at the speed at which memory gives the chosen
// weights: one block a multiprocessor and product, both at home there at once.
//
// A unit is one number of a result: a gate's and an up's row of one item (a row and one of its
// experts), or an output's rows of all experts of a row. Blocks have an even share of them, warps
// take turns. A warp's weights come in pieces through a ring in shared memory, of which every lane
// fills and reads its own places, so nobody waits for another.
//
// Every block finds out by itself which experts were chosen; nothing else lies between the router
// and the first weights. The second kernel starts as soon as the first knows that the router has
// ended, and fills its ring with weights that depend on the choice alone while the first still
// runs. That is the one place where a kernel reads what another wrote before it has waited: the
// router's kernel had completed when the first one's blocks let the second start.
//
// An expert that all rows share, as wide as some of the others together, is so many more of them:
// its weights differ in how far apart rows lie.
#include <algorithm>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/curve.cuh"
#include "kernels/cuda/expert_choice.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/mma.cuh"
#include "kernels/cuda/ptx/warp.cuh"

namespace troupe::cuda {
namespace {


constexpr int kThreads = 512, kWarps = kThreads / 32;
constexpr int kLine = 32 * 16;  // bytes that a warp copies at once
// Rows that a block's units belong to: there are fewer units a block than an item or a row has.
constexpr int kRowsSeen = 2, kItemsMost = 128;

// How a product's pieces lie in a ring: kRows rows of the weight, kLines lines of each at most.
template <int kRowsOf, int kSlotsOf, int kLinesOf>
struct Ring {
  static constexpr int kRows = kRowsOf, kSlots = kSlotsOf, kLines = kLinesOf;
  static int lines_of(int row_bytes) {  // as even as pieces can be
    const int all = (row_bytes + kLine - 1) / kLine, pieces = (all + kLines - 1) / kLines;
    return (all + pieces - 1) / pieces;
  }
};
using UpRing = Ring<2, 3, 2>;
using DownRing = Ring<1, 4, 4>;
using ShorterDownRing = Ring<1, 3, 4>;  // where the longer leaves no room beside the other kernel

struct Params {
  ExpertsWork w;
  bool routed;  // by a kernel in front
  int lines;  // of a row in a piece
};

struct Weight {  // of one expert
  const uint8_t* rows;
  const void* bias;
  int64_t step;  // bytes from the gate's to the up's row, or from one column's row to the next
};

struct Desk {
  alignas(16) uint32_t keys[choice::kExperts];
  choice::Chosen chosen[kRowsSeen * kTopMax];
  float shares[kRowsSeen * kTopMax];
};

__host__ __device__ __forceinline__ int experts_of(const ExpertsWork& w) {  // of a row
  return w.routing.top_k + w.shared_parts;
}

// A block's dynamic memory: rings, then inputs, then all experts' weights.
struct Layout {
  int rings, inputs, table;
  [[nodiscard]] int bytes() const { return rings + inputs + table; }
};
template <class R>
__host__ __device__ __forceinline__ Layout layout_of(const Params& p, int input_bytes) {
  return {kWarps * R::kSlots * R::kRows * p.lines * kLine,
          static_cast<int>(p.w.input.rows < kRowsSeen ? p.w.input.rows : kRowsSeen) * input_bytes,
          (p.w.local + p.w.shared_parts) * static_cast<int>(sizeof(Weight))};
}

struct Span {
  int begin, end;
};
__device__ __forceinline__ Span own_share(int64_t units) {
  return {static_cast<int>(units * blockIdx.x / gridDim.x),
          static_cast<int>(units * (blockIdx.x + 1) / gridDim.x)};
}

// Which experts rows [first, first + count) go to, and with which share. All threads.
__device__ __forceinline__ void learn_choice(const Params& p, Desk& desk, int first, int count) {
  const Routing& r = p.w.routing;
  const int each = experts_of(p.w);
  const auto t = static_cast<int>(threadIdx.x);
  for (int i = 0; i < count; ++i) {
    choice::Chosen* chosen = desk.chosen + i * each;
    const int64_t row = first + i;
    if (!p.routed) {
      choice::choose(r, static_cast<const float*>(p.w.logits.data) + row * p.w.logits.stride,
                     desk.keys, chosen);
    } else if (t < r.top_k) {
      chosen[t] = {__ldcg(p.w.expert_of + row * r.top_k + t),
                   __ldcg(p.w.shares + row * r.top_k + t)};
    }
    if (t < p.w.shared_parts) chosen[r.top_k + t] = {p.w.local + t, 1.0F};
    __syncthreads();
  }
  if (t < count * each) {
    const bool final = p.routed || t % each >= r.top_k;
    const choice::Chosen* of_row = desk.chosen + t / each * each;
    desk.shares[t] = final ? desk.chosen[t].score : choice::share_of(r, of_row, t % each);
  }
}

__device__ __forceinline__ void bring_inputs(uint8_t* to, const void* from, int bytes) {
  for (int i = static_cast<int>(threadIdx.x) * 16; i < bytes; i += kThreads * 16)
    *reinterpret_cast<uint4*>(to + i) =
        __ldcg(reinterpret_cast<const uint4*>(static_cast<const uint8_t*>(from) + i));
}

struct Source {
  const uint8_t* row;
  int64_t step;
};

// A lane's places in its warp's ring, and the pieces that it asks for ahead of use.
template <class R, class Locate>
class Stream {
 public:
  // Units from `unit` on, kWarps apart, of `parts` rows each; locate(unit, part) says where a part's
  // row lies.
  __device__ Stream(uint8_t* rings, int lines, int row_bytes, int unit, int end, int parts,
                    const Locate& locate)
      : lane_(rings + static_cast<int>(threadIdx.x) / 32 * R::kSlots * R::kRows * lines * kLine +
              static_cast<int>(threadIdx.x) % 32 * 16),
        lines_(lines),
        row_bytes_(row_bytes),
        unit_(unit),
        end_(end),
        parts_(parts),
        locate_(locate) {
    if (unit_ < end_) source_ = locate_(unit_, 0);
    for (int s = 0; s < R::kSlots; ++s) ask(s);
  }

  // Adds this lane's part of the product of the next piece with x, the whole row's input; true at
  // the end of a row.
  template <class T>
  __device__ __forceinline__ bool take(const uint8_t* x, float (&sums)[R::kRows]) {
    ptx::wait_copies<R::kSlots - 1>();
    const uint8_t* slot = lane_ + slot_ * R::kRows * lines_ * kLine;
    uint4 y[R::kLines] = {}, bits[R::kLines][R::kRows] = {};
#pragma unroll
    for (int i = 0; i < R::kLines; ++i) {
      const int at = taken_ + i * kLine + static_cast<int>(threadIdx.x) % 32 * 16;
      if (i >= lines_ || at >= row_bytes_) continue;
      y[i] = *reinterpret_cast<const uint4*>(x + at);
#pragma unroll
      for (int r = 0; r < R::kRows; ++r)
        bits[i][r] = *reinterpret_cast<const uint4*>(slot + (r * lines_ + i) * kLine);
    }
    float odd[R::kRows] = {};
#pragma unroll
    for (int i = 0; i < R::kLines; ++i) {
      const uint32_t v[4] = {y[i].x, y[i].y, y[i].z, y[i].w};
#pragma unroll
      for (int r = 0; r < R::kRows; ++r) {
        const uint32_t u[4] = {bits[i][r].x, bits[i][r].y, bits[i][r].z, bits[i][r].w};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float2 a = unpack<T>(u[e]), b = unpack<T>(v[e]);
          sums[r] += a.x * b.x;
          odd[r] += a.y * b.y;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < R::kRows; ++r) sums[r] += odd[r];
    ask(slot_);
    slot_ = slot_ + 1 == R::kSlots ? 0 : slot_ + 1;
    taken_ += lines_ * kLine;
    if (taken_ < row_bytes_) return false;
    taken_ = 0;
    return true;
  }

 private:
  // For the next piece, if there is one; a group of copies is committed in any case.
  __device__ __forceinline__ void ask(int slot) {
    if (unit_ < end_) {
      const uint32_t to = static_cast<uint32_t>(
          __cvta_generic_to_shared(lane_ + slot * R::kRows * lines_ * kLine));
#pragma unroll
      for (int i = 0; i < R::kLines; ++i) {
        const int at = asked_ + i * kLine + static_cast<int>(threadIdx.x) % 32 * 16;
        if (i >= lines_ || at >= row_bytes_) break;
#pragma unroll
        for (int r = 0; r < R::kRows; ++r) {
          ptx::copy16_async(to + static_cast<uint32_t>((r * lines_ + i) * kLine),
                            source_.row + r * source_.step + at, true);
        }
      }
      asked_ += lines_ * kLine;
      if (asked_ >= row_bytes_) next_row();
    }
    ptx::commit_copies();
  }
  __device__ __forceinline__ void next_row() {
    asked_ = 0;
    if (++part_ == parts_) {
      part_ = 0;
      unit_ += kWarps;
    }
    if (unit_ < end_) source_ = locate_(unit_, part_);
  }

  uint8_t* lane_;
  const int lines_, row_bytes_;
  int unit_;
  const int end_, parts_;
  const Locate& locate_;
  Source source_ = {};
  int part_ = 0, asked_ = 0;  // of the piece that will be asked for; bytes of a row
  int slot_ = 0, taken_ = 0;  // of the piece that is taken next
};

// between[row, k, column] = curve(gate) * up of the row's k-th expert.
template <class T>
__global__ void __launch_bounds__(kThreads, 2) stream_up(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) uint8_t dynamic[];
  __shared__ Desk desk;
  const ExpertsWork& w = p.w;
  const int each = experts_of(w), inner = w.inner, row_bytes = static_cast<int>(w.input.cols) * 2;
  const Layout at = layout_of<UpRing>(p, row_bytes);
  uint8_t* inputs = dynamic + at.rings;
  auto* table = reinterpret_cast<Weight*>(inputs + at.inputs);
  const int64_t height = static_cast<int64_t>(inner) * row_bytes;
  for (int e = threadIdx.x; e < w.local; e += kThreads) {
    table[e] = {static_cast<const uint8_t*>(w.weights[e].gate_up), w.weights[e].gate_up_bias,
                height};
  }
  if (threadIdx.x < static_cast<unsigned>(w.shared_parts)) {
    table[w.local + static_cast<int>(threadIdx.x)] = {
        static_cast<const uint8_t*>(w.shared.gate_up) + threadIdx.x * height, nullptr,
        w.shared_parts * height};
  }
  ptx::wait_for_earlier_kernels();
  ptx::let_next_kernel_start();  // what is chosen can be known from here on
  const Span units = own_share(w.input.rows * each * inner);
  if (units.begin >= units.end) return;
  const int first_item = units.begin / inner / each * each, first_row = first_item / each,
            last_row = (units.end - 1) / inner / each;
  for (int row = first_row; row <= last_row; ++row) {
    bring_inputs(inputs + (row - first_row) * row_bytes,
                 static_cast<const T*>(w.input.data) + row * w.input.stride, row_bytes);
  }
  learn_choice(p, desk, first_row, last_row - first_row + 1);
  const auto weight_of = [&](int item) -> const Weight& {
    return table[desk.chosen[item - first_item].expert];
  };
  const auto locate = [&](int unit, int) -> Source {
    const int item = unit / inner;
    const Weight& of = weight_of(item);
    return {of.rows + static_cast<int64_t>(unit - item * inner) * row_bytes, of.step};
  };
  int unit = units.begin + static_cast<int>(threadIdx.x) / 32;
  Stream<UpRing, decltype(locate)> stream(dynamic, p.lines, row_bytes, unit, units.end, 1, locate);
  for (; unit < units.end; unit += kWarps) {
    const int item = unit / inner, column = unit - item * inner;
    const uint8_t* x = inputs + (item / each - first_row) * row_bytes;
    float sums[2] = {};
    while (!stream.template take<T>(x, sums)) {
    }
    float gate = ptx::warp_sum(sums[0]), up = ptx::warp_sum(sums[1]);
    if (const T* bias = static_cast<const T*>(weight_of(item).bias)) {
      gate += to_float(bias[column]);
      up += to_float(bias[inner + column]);
    }
    if (threadIdx.x % 32 == 0)
      static_cast<T*>(w.between)[static_cast<int64_t>(item) * inner + column] =
          from_float<T>(bent(w.curve, gate) * up);
  }
}

// output[row, column]: its experts' second products, each with its share.
template <class T, class R>
__global__ void __launch_bounds__(kThreads, 2) stream_down(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) uint8_t dynamic[];
  __shared__ Desk desk;
  const ExpertsWork& w = p.w;
  const int each = experts_of(w), row_bytes = w.inner * 2, input_bytes = each * row_bytes;
  const auto columns = static_cast<int>(w.output.cols);
  const Layout at = layout_of<R>(p, input_bytes);
  uint8_t* inputs = dynamic + at.rings;
  auto* table = reinterpret_cast<Weight*>(inputs + at.inputs);
  ptx::let_next_kernel_start();
  for (int e = threadIdx.x; e < w.local; e += kThreads)
    table[e] = {static_cast<const uint8_t*>(w.weights[e].down), w.weights[e].down_bias, row_bytes};
  if (threadIdx.x < static_cast<unsigned>(w.shared_parts)) {
    const auto part = static_cast<int>(threadIdx.x);
    table[w.local + part] = {static_cast<const uint8_t*>(w.shared.down) + part * row_bytes, nullptr,
                             int64_t{w.shared_parts} * row_bytes};
  }
  const Span units = own_share(w.input.rows * columns);
  if (units.begin >= units.end) return ptx::wait_for_earlier_kernels();
  const int first_row = units.begin / columns, last_row = (units.end - 1) / columns;
  learn_choice(p, desk, first_row, last_row - first_row + 1);
  const auto weight_of = [&](int row, int k) -> const Weight& {
    return table[desk.chosen[(row - first_row) * each + k].expert];
  };
  const auto locate = [&](int unit, int k) -> Source {
    const int row = unit / columns;
    const Weight& of = weight_of(row, k);
    return {of.rows + (unit - row * columns) * of.step, 0};
  };
  int unit = units.begin + static_cast<int>(threadIdx.x) / 32;
  Stream<R, decltype(locate)> stream(dynamic, p.lines, row_bytes, unit, units.end, each, locate);
  ptx::wait_for_earlier_kernels();
  bring_inputs(inputs, static_cast<const uint8_t*>(w.between) + first_row * int64_t{input_bytes},
               (last_row - first_row + 1) * input_bytes);
  __syncthreads();
  for (; unit < units.end; unit += kWarps) {
    const int row = unit / columns, column = unit - row * columns;
    const uint8_t* x = inputs + (row - first_row) * input_bytes;
    float sum = 0.0F;
    for (int k = 0; k < each; ++k, x += row_bytes) {
      float part[1] = {};
      while (!stream.template take<T>(x, part)) {
      }
      const T* bias = static_cast<const T*>(weight_of(row, k).bias);
      if (bias != nullptr && threadIdx.x % 32 == 0) part[0] += to_float(bias[column]);
      sum += desk.shares[(row - first_row) * each + k] * part[0];
    }
    sum = ptx::warp_sum(sum);
    if (threadIdx.x % 32 == 0)
      static_cast<T*>(w.output.data)[row * w.output.stride + column] = from_float<T>(sum);
  }
}

template <class Kernel>
cudaError_t go(Kernel* kernel, const Params& p, int bytes, cudaStream_t stream) {
  TR_CUDA_TRY(allow_shared(kernel, static_cast<size_t>(bytes)));
  return launch(kernel,
                {dim3(static_cast<unsigned>(p.w.multiprocessors)), dim3(kThreads),
                 static_cast<size_t>(bytes)},
                stream, p);
}

template <class T>
cudaError_t run(const ExpertsWork& w, bool routed, cudaStream_t stream) {
  // Of a multiprocessor, less what two blocks have beside their dynamic memory.
  constexpr int kTogether = (228 << 10) - 2 * static_cast<int>(sizeof(Desk) + 1024);
  const int hidden_bytes = static_cast<int>(w.input.cols) * 2, inner_bytes = w.inner * 2,
            between_bytes = experts_of(w) * inner_bytes;
  const Params up = {w, routed, UpRing::lines_of(hidden_bytes)},
               down = {w, routed, DownRing::lines_of(inner_bytes)};
  const int first = layout_of<UpRing>(up, hidden_bytes).bytes(),
            longer = layout_of<DownRing>(down, between_bytes).bytes(),
            shorter = layout_of<ShorterDownRing>(down, between_bytes).bytes();
  TR_CUDA_TRY(go(stream_up<T>, up, first, stream));
  if (first + longer > kTogether && first + shorter <= kTogether)
    return go(stream_down<T, ShorterDownRing>, down, shorter, stream);
  return go(stream_down<T, DownRing>, down, longer, stream);
}

}  // namespace

bool experts_stream_fits(const ExpertsWork& w) {
  const bool halves = w.dtype == DType::f16 || w.dtype == DType::bf16;
  const int64_t items = w.input.rows * experts_of(w), inner = w.inner;
  if (!runs_hopper_code() || w.rows_independent || experts_in_tiles(w) || !halves ||
      w.input.dtype != w.dtype || w.output.dtype != w.dtype || !is_aligned(w.input) ||
      w.input.cols % 8 != 0 || inner % 8 != 0 || inner == 0 || items > kItemsMost ||
      items > w.multiprocessors || w.first != 0 || w.local != w.routing.experts ||
      w.routing.top_k > w.local || experts_of(w) > kTopMax)
    return false;
  constexpr int64_t kStatic = 4 << 10, kInputsMost = 128 << 10;
  const int64_t hidden_bytes = w.input.cols * 2, between_bytes = experts_of(w) * inner * 2;
  if (std::max(hidden_bytes, between_bytes) > kInputsMost) return false;
  const Params up = {w, false, UpRing::kLines}, down = {w, false, DownRing::kLines};
  const int most = std::max(layout_of<UpRing>(up, static_cast<int>(hidden_bytes)).bytes(),
                            layout_of<DownRing>(down, static_cast<int>(between_bytes)).bytes());
  return static_cast<size_t>(most + kStatic) <= w.shared_max;
}

cudaError_t expert_streams(const ExpertsWork& w, bool routed, cudaStream_t stream) {
  return w.dtype == DType::f16 ? run<__half>(w, routed, stream)
                               : run<__nv_bfloat16>(w, routed, stream);
}

}  // namespace troupe::cuda
