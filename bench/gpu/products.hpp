// The products of an 8B model's layer and its head, and the memory that benches run them in.
#pragma once

#include <algorithm>

#include "bench/gpu/measure.cuh"
#include "kernels/cuda/gemm_operands.hpp"
#include "kernels/cuda/skinny_gemm.hpp"
#include "kernels/cuda/wide_gemm.hpp"

namespace troupe::bench {

constexpr int kHead = 128256;

struct Product {
  const char* name;
  int n, k;
  bool gated;
  [[nodiscard]] bool is_head() const { return n == kHead; }
  [[nodiscard]] size_t bytes() const { return static_cast<size_t>(n) * static_cast<size_t>(k) * 2; }
};
constexpr Product kProducts[] = {{"qkv 6144x4096", 6144, 4096, false},
                                 {"o 4096x4096", 4096, 4096, false},
                                 {"gate_up 28672x4096", 28672, 4096, true},
                                 {"down 4096x14336", 4096, 14336, false},
                                 {"head 128256x4096", kHead, 4096, false}};

// Weights lie behind one another in far more memory than L2 holds, and take turns.
class ProductPool {
 public:
  explicit ProductPool(int multiprocessors)
      : partials_(Memory::zeros(std::max(cuda::skinny_gemm_partials_bytes(64),
                                         cuda::wide_gemm_partials_bytes(multiprocessors)))),
        counters_(Memory::zeros(4 * std::max(cuda::skinny_gemm_counters(kHead),
                                             cuda::wide_gemm_counters(multiprocessors)))) {}

  [[nodiscard]] size_t slots(const Product& p) const { return weights.bytes() / p.bytes(); }
  [[nodiscard]] const void* weight(const Product& p, int i) const {
    return weights.as<char>() + static_cast<size_t>(i) % slots(p) * p.bytes();
  }
  // All but the weight.
  [[nodiscard]] cuda::GemmOperands operands(const Product& p, int m) const {
    cuda::GemmOperands g;
    g.m = m;
    g.n = p.n;
    g.k = p.k;
    g.input = input.as();
    g.input_stride = p.k;
    g.output = output.as();
    g.gated_silu = p.gated;
    g.output_f32 = p.is_head();
    g.output_stride = p.gated ? p.n / 2 : p.n;
    g.partials = partials_.as<float>();
    g.counters = counters_.as<uint32_t>();
    return g;
  }

  Memory weights = Memory::random(size_t{3} << 29, 0.02F, 2);
  Memory input = Memory::random(size_t{8192} * 14336, 1.0F, 3);
  Memory output = Memory::zeros(size_t{8192} * 28672 * 2);

 private:
  Memory partials_, counters_;
};

}  // namespace troupe::bench
