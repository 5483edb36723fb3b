#include <cmath>
#include <numbers>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/plain/plain.hpp"

namespace troupe::cpu::plain {

double activate(Activation kind, double x) {
  switch (kind) {
    case Activation::silu: return x / (1.0 + std::exp(-x));
    case Activation::gelu: return 0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2));
    case Activation::gelu_tanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_quick: return x / (1.0 + std::exp(-1.702 * x));
    case Activation::relu: return x > 0.0 ? x : 0.0;
    case Activation::relu2: return x > 0.0 ? x * x : 0.0;
  }
  return 0.0;
}

void add(const AddArgs& a) {
  for (int64_t r = 0; r < a.input.rows; ++r) {
    for (int64_t c = 0; c < a.input.cols; ++c) {
      const float addend = a.addend ? at(a.addend, r, c) : 0.0F;
      put(a.output, r, c, at(a.input, r, c) * a.scale + addend);
    }
  }
}

void scale_columns(const ScaleColumnsArgs& a) {
  for (int64_t r = 0; r < a.input.rows; ++r) {
    for (int64_t c = 0; c < a.input.cols; ++c) {
      put(a.output, r, c, at(a.input, r, c) * at(a.weight, 0, c));
    }
  }
}

void mix_rows(const MixRowsArgs& a) {
  for (int64_t r = 0; r < a.output.rows; ++r) {
    for (int64_t c = 0; c < a.output.cols; ++c) {
      double sum = a.accumulate ? double{at(a.output, r, c)} : 0.0;
      for (int32_t k = 0; k < a.taps; ++k) {
        const auto i = static_cast<size_t>(r * a.taps + k);
        int64_t row = a.rows[i];
        if (row < 0) continue;
        size_t input = 0;
        while (row >= a.inputs[input].rows) row -= a.inputs[input++].rows;
        sum += (a.weights.empty() ? 1.0 : double{a.weights[i]}) * double{at(a.inputs[input], row, c)};
      }
      put(a.output, r, c, static_cast<float>(sum));
    }
  }
}

void activation(const ActivationArgs& a) {
  for (int64_t r = 0; r < a.input.rows; ++r) {
    for (int64_t c = 0; c < a.output.cols; ++c) {
      put(a.output, r, c, static_cast<float>(activate(a.kind, double{at(a.input, r, c)})));
    }
  }
}

void gated_activation(const ActivationArgs& a) {
  const int64_t n = a.output.cols;
  for (int64_t r = 0; r < a.input.rows; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      const double gate = activate(a.kind, double{at(a.input, r, c)});
      put(a.output, r, c, static_cast<float>(gate * double{at(a.input, r, n + c)}));
    }
  }
}

}  // namespace troupe::cpu::plain
