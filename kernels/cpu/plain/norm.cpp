#include <cmath>
#include <vector>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/plain/plain.hpp"

namespace troupe::cpu::plain {

void norm(const NormArgs& a) {
  const int64_t cols = a.input.cols;
  const int64_t group = a.group > 0 ? a.group : cols;
  std::vector<double> x(static_cast<size_t>(group));
  for (int64_t r = 0; r < a.input.rows; ++r) {
    for (int64_t begin = 0; begin < cols; begin += group) {
      double mean = 0.0;
      for (int64_t i = 0; i < group; ++i) {
        const int64_t c = begin + i;
        if (a.residual) put(a.residual, r, c, at(a.residual, r, c) + at(a.input, r, c));
        x[static_cast<size_t>(i)] = at(a.residual ? a.residual : a.input, r, c);
        mean += x[static_cast<size_t>(i)] / static_cast<double>(group);
      }
      if (a.kind == NormKind::rms) mean = 0.0;
      double variance = 0.0;
      for (double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(group);
      for (int64_t i = 0; i < group; ++i) {
        const int64_t c = begin + i;
        double y = (x[static_cast<size_t>(i)] - mean) / std::sqrt(variance + double{a.eps});
        // A weight as wide as a group serves all of them.
        if (a.weight) y *= double{at(a.weight, 0, a.weight.cols == group ? i : c)} + double{a.weight_offset};
        if (a.bias) y += double{at(a.bias, 0, a.bias.cols == group ? i : c)};
        put(a.output, r, c, static_cast<float>(y));
      }
    }
  }
}

}  // namespace troupe::cpu::plain
