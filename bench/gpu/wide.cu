// Products of tens to thousands of rows, every way the backend has: bench_gpu_wide [JSON FILE]
// [ROWS ...]. Each line is a way for one shape; a gate apart costs cuBLASLt's and is counted.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bench/gpu/large_gemm.hpp"
#include "bench/gpu/measure.cuh"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/skinny_gemm.hpp"
#include "kernels/cuda/wide_gemm.hpp"

namespace troupe::bench {
namespace {

using namespace troupe::cuda;

struct Product {
  const char* name;
  int n, k;
  bool gated;
};
constexpr Product kProducts[] = {{"qkv 6144x4096", 6144, 4096, false},
                                 {"o 4096x4096", 4096, 4096, false},
                                 {"gate_up 28672x4096", 28672, 4096, true},
                                 {"down 4096x14336", 4096, 14336, false},
                                 {"head 128256x4096", 128256, 4096, false}};
constexpr int kHead = 128256;

struct Bench {
  cudaStream_t stream = nullptr;
  int sms = 0;
  double read_ceiling = 4.43e12, gemm_ceiling = 787e12;
  Report report;
  Memory weights = Memory::random(size_t{3} << 29, 0.02F, 2);
  Memory input = Memory::random(size_t{8192} * 14336, 1.0F, 3);
  Memory output = Memory::zeros(size_t{8192} * 28672 * 2);
  Memory gated = Memory::zeros(size_t{8192} * 14336 * 2);
  Memory partials = Memory::zeros(skinny_gemm_partials_bytes(64));
  Memory counters = Memory::zeros(skinny_gemm_counters(kHead) * 4);

  const void* weight(const Product& p, int i) const {
    const size_t bytes = static_cast<size_t>(p.n) * static_cast<size_t>(p.k) * 2;
    return weights.as<char>() + static_cast<size_t>(i) % (weights.bytes() / bytes) * bytes;
  }
};

void ceilings(Bench& b) {
  LargeGemm gemm;
  const int n = 8192;
  const double us = microseconds(b.stream, 3, [&](int) {
    gemm.multiply(n, n, n, b.weights.as(), b.input.as(), b.output.as(), b.stream);
  });
  b.gemm_ceiling = 2.0 * n * n * n / (us * 1e-6);
  b.report.add({"ceiling: bf16 GEMM 8192 (cuBLASLt)", us, 2.0 * n * n * n, false, 787e12});
  const double copy = microseconds(b.stream, 1, [&](int) {
    cudaMemcpyAsync(b.weights.as<char>() + (size_t{1} << 30), b.weights.as(), size_t{1} << 30,
                    cudaMemcpyDeviceToDevice, b.stream);
  });
  b.report.add({"ceiling: copy 1 GiB", copy, static_cast<double>(size_t{2} << 30), true, 4.25e12});
}

void add(Bench& b, const Product& p, int m, const std::string& how, double us) {
  const std::string name = std::string(p.name) + " m " + std::to_string(m) + " " + how;
  const double bytes = 2.0 * p.n * p.k, flop = bytes * m;
  if (m <= 128) {
    b.report.add({name, us, bytes, true, b.read_ceiling});
  } else {
    b.report.add({name, us, flop, false, b.gemm_ceiling});
  }
}

void library(Bench& b, const Product& p, int m, int launches) {
  LargeGemm tuned;
  std::vector<const void*> weights;
  for (int i = 0; i < 12; ++i) weights.push_back(b.weight(p, i));
  if (m <= 512) {
    tuned.tune(m, p.n, p.k, b.input.as(), weights, b.output.as(), b.stream, p.n == kHead);
  }
  const double us = microseconds(b.stream, launches, [&](int i) {
    tuned.multiply(m, p.n, p.k, b.input.as(), b.weight(p, i), b.output.as(), b.stream,
                   p.n == kHead);
    if (!p.gated) return;
    const Matrix from{b.output.as(), DType::bf16, m, p.n, p.n},
        to{b.gated.as(), DType::bf16, m, p.n / 2, p.n / 2};
    check(activation(Curve::silu, true, from, to, b.stream), "activation");
  });
  add(b, p, m, p.gated ? "cuBLASLt, gate apart" : "cuBLASLt", us);
}

GemmOperands operands_of(Bench& b, const Product& p, int m) {
  GemmOperands g;
  g.m = m;
  g.n = p.n;
  g.k = p.k;
  g.input = b.input.as();
  g.input_stride = p.k;
  g.output = b.output.as();
  g.gated_silu = p.gated;
  g.output_f32 = p.n == kHead;
  g.output_stride = p.gated ? p.n / 2 : p.n;
  g.partials = b.partials.as<float>();
  g.counters = b.counters.as<uint32_t>();
  return g;
}

void skinny(Bench& b, const Product& p, int m, int launches) {
  SkinnyGemm g{operands_of(b, p, m)};
  add(b, p, m, "skinny", microseconds(b.stream, launches, [&](int i) {
        g.weight = b.weight(p, i);
        check(skinny_gemm(g, b.sms, b.stream), "skinny_gemm");
      }));
}

void wide(Bench& b, const Product& p, int m, int launches) {
  WideGemm g{operands_of(b, p, m)};
  const int most = m > 256 ? 256 : (m + 63) / 64 * 64;
  for (const int tokens : {64, 128, 192, 256}) {
    if (tokens > most || tokens * 2 < most || (m > 512 && tokens < 192)) continue;
    for (int i = 0; i < 5 * 2; ++i) {
      const int parts = i / 2, cluster = i % 2 == 0 ? 2 : 4;
      g.cut = {tokens, parts, cluster};
      g.weight = b.weight(p, 0);
      if (!wide_cut_fits(g, b.sms) || (parts == 1 && (m <= 256 && p.n <= 8192 && tokens == most)))
        continue;
      const double us = microseconds(b.stream, launches, [&](int call) {
        g.weight = b.weight(p, call);
        check(wide_gemm(g, b.sms, b.stream), "wide_gemm");
      });
      add(b, p, m,
          "wide " + std::to_string(tokens) + " x " + std::to_string(parts) + " by " +
              std::to_string(cluster),
          us);
    }
  }
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  using namespace troupe::bench;
  Bench b;
  cudaDeviceProp device = {};
  BENCH_CUDA(cudaGetDeviceProperties(&device, 0));
  b.sms = device.multiProcessorCount;
  BENCH_CUDA(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking));
  ceilings(b);
  std::vector<int> rows;
  for (int i = 2; i < argc; ++i) rows.push_back(std::atoi(argv[i]));
  if (rows.empty()) rows = {64, 128, 192, 256, 512, 2048, 8192};
  for (const int m : rows) {
    for (const Product& p : kProducts) {
      if (m > 512 && p.n == kHead) continue;
      const int launches = m > 1000 ? 4 : 12;
      library(b, p, m, launches);
      if (m <= kSkinnyRowsMax) skinny(b, p, m, launches);
      wide(b, p, m, launches);
    }
  }
  b.report.write(argc > 1 ? argv[1] : nullptr);
  return 0;
}
