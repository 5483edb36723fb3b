#include "kernels/cpu/half.hpp"
#include "kernels/cpu/plain/plain.hpp"

namespace troupe::cpu::plain {
namespace {

bool selected(const Batch& batch, RowSelect select, int64_t row) {
  if (select == RowSelect::all) return true;
  const auto modality = batch.plan.modality();
  const bool vision = !modality.empty() && modality[static_cast<size_t>(row)] != 0;
  return vision == (select == RowSelect::vision);
}

}  // namespace

void linear(const Batch& batch, const LinearArgs& a) {
  for (int64_t r = 0; r < a.input.rows; ++r) {
    if (!selected(batch, a.select, r)) continue;
    int64_t column = 0;
    for (const LinearPart& part : a.weight->parts) {
      for (int64_t n = 0; n < part.values.rows; ++n, ++column) {
        double sum = part.bias ? double{at(part.bias, 0, n)} : 0.0;
        for (int64_t k = 0; k < part.values.cols; ++k) {
          sum += double{at(a.input, r, k)} * double{at(part.values, n, k)};
        }
        put(a.output, r, column, static_cast<float>(sum));
      }
    }
  }
}

void head_linear(const HeadLinearArgs& a) {
  if (a.heads == 0) return;
  const int64_t in = a.input.cols / a.heads;
  const int64_t out = a.output.cols / a.heads;
  for (int64_t r = 0; r < a.input.rows; ++r) {
    for (int64_t h = 0; h < a.heads; ++h) {
      for (int64_t o = 0; o < out; ++o) {
        double sum = 0.0;
        for (int64_t i = 0; i < in; ++i) {
          const float w = a.transposed ? at(a.weight, h * in + i, o) : at(a.weight, h * out + o, i);
          sum += double{at(a.input, r, h * in + i)} * double{w};
        }
        put(a.output, r, h * out + o, static_cast<float>(sum));
      }
    }
  }
}

}  // namespace troupe::cpu::plain
