// linear: which rows, which kernel, and how the weight rows are shared out among threads.
#include <algorithm>
#include <numeric>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/ops.hpp"

namespace troupe::cpu {
namespace {

// Rows packed at once, at most: bounds the packed inputs (rows x k floats) for long prefills.
constexpr int64_t kBlockRows = 88 * kTileRows;
// From here on packing pays; below, every weight row meets the few rows directly.
constexpr int64_t kPackFrom = 48;
static_assert(kPackFrom <= kDotRowsMax);
// Bytes of weights in one chunk of few-row work: some microseconds of streaming.
constexpr int64_t kChunkBytes = 96 * 1024;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How the weight rows of a linear layer become chunks of work: each part into whole tiles of the
// kernel, as equal as they go and a multiple of the threads in number, so that none waits long.
struct Chunking {
  int64_t tile = 1;  // weight rows
  int64_t wanted = 1;
  int32_t threads = 1;

  [[nodiscard]] int64_t count(int64_t rows) const {
    const int64_t tiles = ceil_div(rows, tile);
    const int64_t whole = std::max<int64_t>(wanted / tile, 1);
    return std::min(tiles, threads * ceil_div(tiles, threads * whole));
  }
  // First row of a chunk; of one behind the last: the number of rows.
  [[nodiscard]] int64_t begin(int64_t rows, int64_t chunk) const {
    return std::min(rows, ceil_div(rows, tile) * chunk / count(rows) * tile);
  }
};

// Calls work(slice of a part, its first output column, thread) for the chunks of all parts.
template <class Work>
void for_weight_chunks(Context& c, const LinearWeight& weight, const Chunking& cut, Work&& work) {
  int64_t chunks = 0;
  for (const LinearPart& part : weight.parts) chunks += cut.count(part.values.rows);
  c.pool.run(chunks, [&](int32_t chunk, int32_t thread) {
    int64_t left = chunk;
    int64_t column = 0;
    for (const LinearPart& part : weight.parts) {
      const Matrix& v = part.values;
      const int64_t here = cut.count(v.rows);
      if (left < here) {
        const int64_t begin = cut.begin(v.rows, left);
        const WeightRows whole{v.data, v.dtype, v.stride, v.rows, v.cols,
                               static_cast<const float*>(part.bias.data)};
        work(whole.slice(begin, cut.begin(v.rows, left + 1)), column + begin, thread);
        return;
      }
      left -= here;
      column += v.rows;
    }
  });
}

void linear_packed_rows(Context& c, const LinearRows& rows, const LinearWeight& weight) {
  const int64_t k = weight.in;
  const int64_t tiles = ceil_div(rows.count, kTileRows);
  float* packed = c.scratch.get<float>(Use::linear_inputs, tiles * kTileRows * k);
  float* panels = c.scratch.get<float>(Use::linear_panels, c.pool.threads() * kPanelFloats);
  c.pool.for_range(tiles, 4, [&](int64_t begin, int64_t end, int32_t) {
    pack_inputs(rows, k, begin, end, packed);
  });
  for_weight_chunks(c, weight, {panel_width(), kPanelColumns, c.pool.threads()},
                    [&](const WeightRows& slice, int64_t column, int32_t thread) {
                      LinearRows shifted = rows;
                      shifted.output += column;
                      linear_packed(packed, shifted, slice, panels + thread * kPanelFloats);
                    });
}

void linear_few_rows(Context& c, const LinearRows& rows, const LinearWeight& weight) {
  constexpr int64_t kTile = 12;
  const auto element = static_cast<int64_t>(dtype_bytes(weight.parts[0].values.dtype));
  const int64_t even = weight.out / (int64_t{c.pool.threads()} * 6);
  const int64_t wanted = std::min(even, kChunkBytes / std::max<int64_t>(weight.in * element, 1));
  for_weight_chunks(c, weight, {kTile, wanted, c.pool.threads()},
                    [&](const WeightRows& slice, int64_t column, int32_t) {
                      LinearRows shifted = rows;
                      shifted.output += column;
                      linear_dot(shifted, slice);
                    });
}

// Rows [begin, end) of a row block.
LinearRows slice_rows(const LinearRows& rows, int64_t begin, int64_t end) {
  LinearRows r = rows;
  r.count = end - begin;
  if (r.input_rows != nullptr) r.input_rows += begin;
  else r.input += begin * r.input_stride;
  if (r.output_rows != nullptr) r.output_rows += begin;
  else r.output += begin * r.output_stride;
  return r;
}

// The rows of one modality, listed in scratch.
int64_t list_rows(const Batch& batch, RowSelect select, int64_t rows, int32_t* list) {
  const auto modality = batch.plan.modality();
  int64_t count = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const bool vision = !modality.empty() && modality[static_cast<size_t>(r)] != 0;
    if (vision == (select == RowSelect::vision)) list[count++] = static_cast<int32_t>(r);
  }
  return count;
}

}  // namespace

const float* as_f32(Context& c, Use use, const Matrix& vector) {
  if (!vector) return nullptr;
  if (vector.dtype == DType::f32) return static_cast<const float*>(vector.data);
  float* wide = c.scratch.get<float>(use, vector.cols);
  for (int64_t i = 0; i < vector.cols; ++i) wide[i] = at(vector, 0, i);
  return wide;
}

void linear_rows(Context& c, const LinearRows& rows, const LinearWeight& weight) {
  for (const LinearPart& part : weight.parts) {
    TR_ASSERT(part.values.cols == weight.in && (!part.bias || part.bias.dtype == DType::f32));
  }
  if (rows.count >= 1 && rows.count < kPackFrom) return linear_few_rows(c, rows, weight);
  const int64_t blocks = ceil_div(rows.count, kBlockRows);
  for (int64_t b = 0; b < blocks; ++b) {
    linear_packed_rows(c, slice_rows(rows, rows.count * b / blocks, rows.count * (b + 1) / blocks), weight);
  }
}

void linear(Context& c, const Batch& batch, const LinearArgs& a) {
  TR_ASSERT(a.input.dtype == DType::f32 && a.output.dtype == DType::f32);
  LinearRows rows{a.input.row<float>(0), a.input.stride, nullptr, a.output.row<float>(0),
                  a.output.stride, nullptr, a.input.rows};
  if (a.select != RowSelect::all) {
    int32_t* list = c.scratch.get<int32_t>(Use::row_list, a.input.rows);
    rows.count = list_rows(batch, a.select, a.input.rows, list);
    rows.input_rows = rows.output_rows = list;
  }
  if (rows.count > 0) linear_rows(c, rows, *a.weight);
}

void head_linear(Context& c, const HeadLinearArgs& a) {
  if (a.heads == 0 || a.input.rows == 0) return;
  const int64_t in = a.input.cols / a.heads;
  const int64_t out = a.output.cols / a.heads;
  const int64_t rows = a.input.rows;
  if (a.transposed) return head_linear_transposed(c, a);
  const bool few = rows < kPackFrom;
  const int64_t tiles = ceil_div(rows, kTileRows);
  const int64_t packed_size = few ? 0 : tiles * kTileRows * in;
  float* packed = c.scratch.get<float>(Use::linear_inputs, packed_size * c.pool.threads());
  float* panels = c.scratch.get<float>(Use::linear_panels, c.pool.threads() * kPanelFloats);
  c.pool.run(a.heads, [&](int32_t h, int32_t thread) {
    const LinearRows head{a.input.row<float>(0) + h * in, a.input.stride, nullptr,
                          a.output.row<float>(0) + h * out, a.output.stride, nullptr, rows};
    const WeightRows weight =
        WeightRows{a.weight.data, a.weight.dtype, a.weight.stride, a.weight.rows, in, nullptr}
            .slice(h * out, (h + 1) * out);
    if (few) return linear_dot(head, weight);
    float* own = packed + thread * packed_size;
    pack_inputs(head, in, 0, tiles, own);
    linear_packed(own, head, weight, panels + thread * kPanelFloats);
  });
}

}  // namespace troupe::cpu
