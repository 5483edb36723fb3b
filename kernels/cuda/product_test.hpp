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

inline int multiprocessors() {
  cudaDeviceProp device = {};
  return cudaGetDeviceProperties(&device, 0) == cudaSuccess ? device.multiProcessorCount : 0;
}

class ProductOnDevice {
 public:
  ProductOnDevice(const ProductCase& c, size_t partials_bytes, size_t counters)
      : c_(c),
        m_(static_cast<size_t>(c.m)),
        n_(static_cast<size_t>(c.n)),
        k_(static_cast<size_t>(c.k)),
        width_(c.gated ? n_ / 2 : n_),
        rng_(static_cast<unsigned>(c.m * 7919 + c.n * 31 + c.k)),
        x_(random_values(m_ * k_, 1.0F, c.dtype, rng_)),
        w_(random_values((n_ + 15) / 16 * 16 * k_, 0.1F, c.dtype, rng_)),
        bias_(random_values(n_, 1.0F, c.dtype, rng_)),
        input_(packed(x_, c.dtype)),
        weight_(packed(w_, c.dtype)),
        device_bias_(packed(bias_, c.dtype)),
        out32_(c.f32 ? m_ * width_ : 1),
        out16_(c.f32 ? 1 : m_ * width_),
        partials_(partials_bytes / sizeof(float)),
        counters_(counters) {
    counters_.zero();
  }

  [[nodiscard]] GemmOperands operands() const {
    GemmOperands g;
    g.m = c_.m;
    g.n = c_.n;
    g.k = c_.k;
    g.dtype = c_.dtype;
    g.weight = weight_.get();
    g.input = input_.get();
    g.input_stride = c_.k;
    g.bias = c_.bias ? device_bias_.get() : nullptr;
    g.output = c_.f32 ? static_cast<void*>(out32_.get()) : out16_.get();
    g.output_stride = static_cast<int64_t>(width_);
    g.output_f32 = c_.f32;
    g.gated_silu = c_.gated;
    g.partials = partials_.get();
    g.counters = counters_.get();
    return g;
  }

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
    const auto sums = partials_.read();
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
    for (const uint32_t counter : counters_.read())
      ASSERT_EQ(counter, 0U) << "a counter was left by " << name_of(c_);
  }

 private:
  // Some rows are enough, the last among them: all of many would take the reference minutes.
  [[nodiscard]] size_t next_row(size_t row) const {
    const size_t stride = m_ > 40 ? 7 : 1;
    return row + 1 < m_ ? std::min(row + stride, m_ - 1) : m_;
  }

  void append_plain(size_t row, std::vector<float>& out) const {
    std::vector<float> y(n_);
    for (size_t j = 0; j < n_; ++j) {
      float sum[8] = {};
      for (size_t l = 0; l < k_; ++l) sum[l % 8] += x_[row * k_ + l] * w_[j * k_ + l];
      y[j] = c_.bias ? bias_[j] : 0.0F;
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
  std::mt19937 rng_;
  const std::vector<float> x_, w_, bias_;
  OnDevice<uint16_t> input_, weight_, device_bias_;
  OnDevice<float> out32_;
  OnDevice<uint16_t> out16_;
  OnDevice<float> partials_;
  OnDevice<uint32_t> counters_;
};

}  // namespace troupe::cuda::testing
