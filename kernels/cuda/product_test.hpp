// A product on the device beside its plain definition: what the products' own tests share.
#pragma once

#include <string>

#include "kernels/cuda/gemm_operands.hpp"
#include "kernels/cuda/test_support.hpp"

namespace troupe::cuda::testing {

struct ProductCase {
  int m, n, k;
  DType dtype = DType::bf16;
  bool bias = false, gated = false, f32 = false;
};

inline std::string name_of(const ProductCase& c) {
  return "m " + std::to_string(c.m) + " n " + std::to_string(c.n) + " k " + std::to_string(c.k) +
         " " + std::string(dtype_name(c.dtype));
}

// Where a shape's operands come from.
inline std::mt19937 numbers_of(int m, int n, int k) {
  return std::mt19937(static_cast<unsigned>(m * 7919 + n * 31 + k));
}
// That kernels may read.
inline size_t weight_rows(int n) {
  return (static_cast<size_t>(n) + 15) / 16 * 16;
}

inline int multiprocessors() {
  cudaDeviceProp device = {};
  return cudaGetDeviceProperties(&device, 0) == cudaSuccess ? device.multiProcessorCount : 0;
}

// What a product reads, and where its parts meet; where its sums go is for each test to say.
class OperandsOnDevice {
 public:
  struct Values {
    std::vector<float> input, weight, bias;  // no bias: none is added
  };
  OperandsOnDevice(const GemmOperands& shape, const Values& values, size_t partials_bytes,
                   size_t counters)
      : shape_(shape),
        biased_(!values.bias.empty()),
        input_(packed(values.input, shape.dtype)),
        weight_(packed(values.weight, shape.dtype)),
        bias_(packed(values.bias, shape.dtype)),
        partials_(partials_bytes / sizeof(float)),
        counters_(counters) {
    counters_.zero();
  }

  [[nodiscard]] GemmOperands operands() const {
    GemmOperands g = shape_;
    g.weight = weight_.get();
    g.input = input_.get();
    g.input_stride = g.k;
    g.bias = biased_ ? bias_.get() : nullptr;
    g.partials = partials_.get();
    g.counters = counters_.get();
    return g;
  }

  [[nodiscard]] std::vector<float> partials() const { return partials_.read(); }
  [[nodiscard]] std::vector<uint32_t> counters() const { return counters_.read(); }

 private:
  const GemmOperands shape_;
  const bool biased_;
  OnDevice<uint16_t> input_, weight_, bias_;
  OnDevice<float> partials_;
  OnDevice<uint32_t> counters_;
};

class ProductOnDevice {
 public:
  ProductOnDevice(const ProductCase& c, size_t partials_bytes, size_t counters)
      : c_(c),
        m_(static_cast<size_t>(c.m)),
        n_(static_cast<size_t>(c.n)),
        k_(static_cast<size_t>(c.k)),
        width_(c.gated ? n_ / 2 : n_),
        values_(random_operands(c)),
        on_device_({.m = c.m, .n = c.n, .k = c.k, .dtype = c.dtype}, values_, partials_bytes,
                   counters),
        out32_(c.f32 ? m_ * width_ : 1),
        out16_(c.f32 ? 1 : m_ * width_) {}

  [[nodiscard]] GemmOperands operands() const {
    GemmOperands g = on_device_.operands();
    g.output = c_.f32 ? static_cast<void*>(out32_.get()) : out16_.get();
    g.output_stride = static_cast<int64_t>(width_);
    g.output_f32 = c_.f32;
    g.gated_silu = c_.gated;
    return g;
  }

  // What was written as f32, row by row.
  [[nodiscard]] std::vector<float> sums() const { return out32_.read(); }
  void forget() { out32_.zero(); }

  void expect_the_plain_product(const std::string& how) const {
    const auto wide = out32_.read();
    const auto bits = out16_.read();
    std::vector<float> got, want;
    for (size_t row = 0; row < m_; row = next_row(row)) {
      for (size_t at = row * width_; at < (row + 1) * width_; ++at)
        got.push_back(c_.f32 ? wide[at] : from_bits(bits[at], c_.dtype));
      append_plain(row, want);
    }
    EXPECT_LT(relative_error(got, want), c_.f32 ? 1e-5 : 5e-3) << name_of(c_) << " " << how;
  }

  // What a product left apart adds up to.
  void expect_parts_of_the_plain_product(int parts) const {
    const auto sums = on_device_.partials();
    std::vector<float> got, want;
    for (size_t row = 0; row < m_; row = next_row(row)) {
      for (size_t at = row * n_; at < (row + 1) * n_; ++at) {
        got.push_back(0.0F);
        for (size_t part = 0; part < static_cast<size_t>(parts); ++part)
          got.back() += sums[part * m_ * n_ + at];
      }
      append_plain(row, want);
    }
    EXPECT_LT(relative_error(got, want), 1e-5) << name_of(c_) << " in " << parts << " parts";
  }

  void expect_no_counter_left() const {
    for (const uint32_t counter : on_device_.counters())
      ASSERT_EQ(counter, 0U) << "a counter was left by " << name_of(c_);
  }

 private:
  static OperandsOnDevice::Values random_operands(const ProductCase& c) {
    std::mt19937 numbers = numbers_of(c.m, c.n, c.k);
    const auto m = static_cast<size_t>(c.m), k = static_cast<size_t>(c.k);
    return {random_values(m * k, 1.0F, c.dtype, numbers),
            random_values(weight_rows(c.n) * k, 0.1F, c.dtype, numbers),
            random_values(c.bias ? static_cast<size_t>(c.n) : 0, 1.0F, c.dtype, numbers)};
  }

  // Some rows are enough, the last among them: all of many would take the reference minutes.
  [[nodiscard]] size_t next_row(size_t row) const {
    const size_t stride = m_ > 40 ? 7 : 1;
    return row + 1 < m_ ? std::min(row + stride, m_ - 1) : m_;
  }

  void append_plain(size_t row, std::vector<float>& out) const {
    std::vector<float> y(n_);
    for (size_t j = 0; j < n_; ++j) {
      float sum[8] = {};
      for (size_t l = 0; l < k_; ++l)
        sum[l % 8] += values_.input[row * k_ + l] * values_.weight[j * k_ + l];
      y[j] = c_.bias ? values_.bias[j] : 0.0F;
      for (const float s : sum) y[j] += s;
    }
    if (!c_.gated) {
      out.insert(out.end(), y.begin(), y.end());
      return;
    }
    for (size_t j = 0; j < width_; ++j)
      out.push_back(y[j] / (1.0F + std::exp(-y[j])) * y[width_ + j]);
  }

  const ProductCase c_;
  const size_t m_, n_, k_, width_;
  const OperandsOnDevice::Values values_;
  const OperandsOnDevice on_device_;
  OnDevice<float> out32_;
  OnDevice<uint16_t> out16_;
};

}  // namespace troupe::cuda::testing
