// Many rows: weights widened and transposed panel by panel, inputs packed once.
//
// One chunk of weight rows is worked through like this, and each size is meant for one cache:
//   for each run of columns (kPanelDepth):        the chunk's panels are packed   (second level)
//     for each block of input rows (kBlockTiles): kBlockTiles * 6 * depth floats  (second level)
//       for each panel:                           16 columns * depth floats       (first level)
//         for each six rows:                      12 vectors of sums              (registers)
// While one run is multiplied, the weights of the next are fetched, a line or two per tile.
#include "kernels/cpu/linear_kernels.hpp"

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/packed_kernels.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"
#include "kernels/cpu/micro_kernel-inl.hpp"
#include "kernels/cpu/transpose-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace troupe::cpu::HWY_NAMESPACE {

constexpr F32 kD;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(kD));
constexpr int64_t kPanelWidth = 2 * kLanes;
static_assert(kPanelColumns % kPanelWidth == 0);
constexpr int64_t kLine = 64;
constexpr int64_t kBlockTiles = 16;

int64_t PanelWidth() { return kPanelWidth; }

// ---- inputs ----

// Six rows of `depth` columns side by side: to[x][row].
void pack_tile(const float* const* from, int64_t depth, float* to) {
  int64_t x = 0;
#if HWY_TARGET != HWY_SCALAR
  // Pairs of rows make 64-bit elements; three of those are a column.
  const hn::Repartition<uint64_t, F4> pairs;
  for (; x + 4 <= depth; x += 4, to += 4 * kTileRows) {
    hn::Vec<decltype(pairs)> low[3];
    hn::Vec<decltype(pairs)> high[3];
    for (int i = 0; i < 3; ++i) {
      const auto a = hn::LoadU(k4, from[2 * i] + x);
      const auto b = hn::LoadU(k4, from[2 * i + 1] + x);
      low[i] = hn::BitCast(pairs, hn::InterleaveLower(k4, a, b));
      high[i] = hn::BitCast(pairs, hn::InterleaveUpper(k4, a, b));
    }
    auto* out = reinterpret_cast<uint64_t*>(to);
    hn::StoreInterleaved3(low[0], low[1], low[2], pairs, out);
    hn::StoreInterleaved3(high[0], high[1], high[2], pairs, out + 6);
  }
#endif
  for (; x < depth; ++x, to += kTileRows) {
    for (int64_t i = 0; i < kTileRows; ++i) to[i] = from[i][x];
  }
}

void PackInputs(const LinearRows& rows, int64_t k, int64_t tile_begin, int64_t tile_end,
                float* packed) {
  const int64_t tiles = (rows.count + kTileRows - 1) / kTileRows;
  const int64_t depth = panel_depth(k);
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    for (int64_t x = 0; x < k; x += depth) {
      const float* from[kTileRows];
      for (int64_t i = 0; i < kTileRows; ++i) {  // rows beyond the last repeat it
        from[i] = rows.in(std::min(tile * kTileRows + i, rows.count - 1)) + x;
      }
      const int64_t here = std::min(depth, k - x);
      pack_tile(from, here, packed + (x * tiles + tile * here) * kTileRows);
    }
  }
}

// ---- weights ----

// Columns [k, k + depth) of up to kPanelWidth weight rows, transposed: panel[x][row].
template <class T>
void pack_panel(const WeightRows& weight, int64_t n, int64_t k, int64_t depth, float* panel) {
  const int64_t width = std::min(kPanelWidth, weight.n - n);
  const T* w = static_cast<const T*>(weight.data) + n * weight.stride + k;
  if (width < kPanelWidth) std::memset(panel, 0, static_cast<size_t>(depth * kPanelWidth) * 4);
  transpose(w, weight.stride, width, depth, panel, kPanelWidth);
}

// Fetches `depth` columns of some weight rows, one line at a call.
class Ahead {
 public:
  template <class T>
  Ahead(const WeightRows& weight, const T*, int64_t n, int64_t rows, int64_t k, int64_t depth)
      : row_(reinterpret_cast<const std::byte*>(static_cast<const T*>(weight.data) + n * weight.stride + k)),
        stride_(weight.stride * static_cast<int64_t>(sizeof(T))),
        width_(depth * static_cast<int64_t>(sizeof(T))),
        rows_(depth > 0 ? rows : 0) {}

  HWY_INLINE void fetch() {
    if (rows_ == 0) return;
    __builtin_prefetch(row_ + at_, 0, 2);
    at_ += kLine;
    if (at_ < width_) return;
    at_ = 0;
    row_ += stride_;
    --rows_;
  }

 private:
  const std::byte* row_;
  int64_t stride_;
  int64_t width_;
  int64_t rows_;
  int64_t at_ = 0;
};

// ---- the product ----

// out[6][kPanelWidth] = start (or out itself) + packed[x][6] * panel[x][kPanelWidth].
HWY_NOINLINE void full_tile(const float* packed, const float* panel, int64_t depth,
                          float* const* out, const float* start) {
  F32V sum[kTileRows][2];
#pragma GCC unroll 6
  for (int i = 0; i < kTileRows; ++i) {
    __builtin_prefetch(out[i], 1, 3);
    __builtin_prefetch(out[i] + kPanelWidth - 1, 1, 3);
    sum[i][0] = hn::Zero(kD);
    sum[i][1] = hn::Zero(kD);
  }
  multiply_steps(packed, panel, depth, sum);
#pragma GCC unroll 6
  for (int i = 0; i < kTileRows; ++i) {
    const float* from = start != nullptr ? start : out[i];
    hn::StoreU(hn::Add(sum[i][0], hn::LoadU(kD, from)), kD, out[i]);
    hn::StoreU(hn::Add(sum[i][1], hn::LoadU(kD, from + kLanes)), kD, out[i] + kLanes);
  }
}

struct Run {            // of columns
  int64_t begin = 0;
  int64_t depth = 0;
};

// One panel of weights (its first column n) times the tiles [first, last) of six rows.
void panel_times_tiles(const float* packed, int64_t first, int64_t last, const Run& run,
                       const float* panel, const LinearRows& rows, const WeightRows& weight,
                       int64_t n, Ahead& ahead) {
  const int64_t width = std::min(kPanelWidth, weight.n - n);
  HWY_ALIGN float start[kPanelWidth] = {};
  if (run.begin == 0 && weight.bias != nullptr) std::copy_n(weight.bias + n, width, start);
  HWY_ALIGN float spare[kTileRows][kPanelWidth];
  for (int64_t tile = first; tile < last; ++tile) {
    const int64_t m = tile * kTileRows;
    const int64_t height = std::min(kTileRows, rows.count - m);
    const float* a = packed + tile * run.depth * kTileRows;
    float* out[kTileRows];
    ahead.fetch();
    ahead.fetch();
    if (height == kTileRows && width == kPanelWidth) {
      for (int i = 0; i < kTileRows; ++i) out[i] = rows.out(m + i) + n;
      full_tile(a, panel, run.depth, out, run.begin == 0 ? start : nullptr);
      continue;
    }
    for (int64_t i = 0; i < kTileRows; ++i) {
      out[i] = spare[i];
      if (i < height && run.begin > 0) std::copy_n(rows.out(m + i) + n, width, spare[i]);
    }
    full_tile(a, panel, run.depth, out, run.begin == 0 ? start : nullptr);
    for (int64_t i = 0; i < height; ++i) std::copy_n(spare[i], width, rows.out(m + i) + n);
  }
}

template <class T>
void packed_all(const float* packed, const LinearRows& rows, const WeightRows& weight,
                float* panels) {
  const int64_t tiles = (rows.count + kTileRows - 1) / kTileRows;
  const int64_t depth = panel_depth(weight.k);
  for (int64_t chunk = 0; chunk < weight.n; chunk += kPanelColumns) {
    const int64_t columns = std::min(kPanelColumns, weight.n - chunk);
    for (int64_t k = 0; k < weight.k; k += depth) {
      const Run run{k, std::min(depth, weight.k - k)};
      for (int64_t n = 0; n < columns; n += kPanelWidth) {
        pack_panel<T>(weight, chunk + n, k, run.depth, panels + n * run.depth);
      }
      Ahead ahead(weight, static_cast<const T*>(nullptr), chunk, columns, k + run.depth,
                  std::min(depth, weight.k - k - run.depth));
      const float* inputs = packed + k * tiles * kTileRows;
      for (int64_t tile = 0; tile < tiles; tile += kBlockTiles) {
        const int64_t last = std::min(tile + kBlockTiles, tiles);
        for (int64_t n = 0; n < columns; n += kPanelWidth) {
          panel_times_tiles(inputs, tile, last, run, panels + n * run.depth, rows, weight,
                            chunk + n, ahead);
        }
      }
    }
  }
}

void LinearPacked(const float* packed, const LinearRows& rows, const WeightRows& weight,
                  float* panels) {
  switch (weight.dtype) {
    case DType::f32: return packed_all<float>(packed, rows, weight, panels);
    case DType::f16: return packed_all<hwy::float16_t>(packed, rows, weight, panels);
    case DType::bf16: return packed_all<hwy::bfloat16_t>(packed, rows, weight, panels);
    default: TR_ASSERT(!"placed weights are f32, f16 or bf16");
  }
}

}  // namespace troupe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::cpu {

HWY_EXPORT(PackInputs);
HWY_EXPORT(LinearPacked);
HWY_EXPORT(PanelWidth);

int64_t panel_width() { return HWY_DYNAMIC_DISPATCH(PanelWidth)(); }
void pack_inputs(const LinearRows& rows, int64_t k, int64_t tile_begin, int64_t tile_end,
                 float* packed) {
  HWY_DYNAMIC_DISPATCH(PackInputs)(rows, k, tile_begin, tile_end, packed);
}
void linear_packed(const float* packed, const LinearRows& rows, const WeightRows& weight,
                   float* panels) {
  HWY_DYNAMIC_DISPATCH(LinearPacked)(packed, rows, weight, panels);
}

}  // namespace troupe::cpu
#endif  // HWY_ONCE
