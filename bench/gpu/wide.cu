// Products of tens to thousands of rows, every way the backend has: bench_gpu_wide [JSON FILE]
// [ROWS ...]. Each line is a way for one shape; a gate apart costs cuBLASLt's and is counted.
#include <cstdio>
#include <cstring>

#include "bench/gpu/ceilings.cuh"
#include "bench/gpu/large_gemm.hpp"
#include "bench/gpu/measure.cuh"
#include "bench/gpu/products.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/gated_gemm.hpp"

namespace troupe::bench {
namespace {

using namespace troupe::cuda;

struct Bench : DeviceBench {
  Memory gated = Memory::zeros(size_t{8192} * 14336 * 2);
  Memory residual = Memory::zeros(size_t{64} * 4096 * 2);
};

void add(Bench& b, const Product& p, int m, const std::string& how, double us) {
  const std::string name = std::string(p.name) + " m " + std::to_string(m) + " " + how;
  const double bytes = 2.0 * p.n * p.k, flop = bytes * m;
  if (m <= 128) {
    b.report.add({name, us, bytes, true, b.ceilings.read});
  } else {
    b.report.add({name, us, flop, false, b.ceilings.gemm});
  }
}

void library(Bench& b, const ProductPool& pool, const Product& p, int m, int launches) {
  LargeGemm tuned;
  std::vector<const void*> weights;
  for (int i = 0; i < 12; ++i) weights.push_back(pool.weight(p, i));
  if (m <= 512) {
    tuned.tune(m, p.n, p.k, pool.input.as(), weights, pool.output.as(), b.stream, p.is_head());
  }
  const double us = microseconds(b.stream, launches, [&](int i) {
    tuned.multiply(m, p.n, p.k, pool.input.as(), pool.weight(p, i), pool.output.as(), b.stream,
                   p.is_head());
    if (!p.gated) return;
    const Matrix from{pool.output.as(), DType::bf16, m, p.n, p.n},
        to{b.gated.as(), DType::bf16, m, p.n / 2, p.n / 2};
    check(activation(Curve::silu, true, from, to, b.stream), "activation");
  });
  add(b, p, m, p.gated ? "cuBLASLt, gate apart" : "cuBLASLt", us);
}

void skinny(Bench& b, const ProductPool& pool, const Product& p, int m, int launches) {
  SkinnyGemm g{pool.operands(p, m)};
  add(b, p, m, "skinny", microseconds(b.stream, launches, [&](int i) {
        g.weight = pool.weight(p, i);
        check(skinny_gemm(g, b.sms, b.stream), "skinny_gemm");
      }));
}

void wide(Bench& b, const ProductPool& pool, const Product& p, int m, int launches) {
  WideGemm g{pool.operands(p, m)};
  const int most = m > 256 ? 256 : (m + 63) / 64 * 64;
  for (const int tokens : {64, 128, 192, 256}) {
    if (tokens > most || tokens * 2 < most || (m > 512 && tokens < 192)) continue;
    for (int i = 0; i < 5 * 2; ++i) {
      const int parts = i / 2, cluster = i % 2 == 0 ? 2 : 4;
      g.cut = {tokens, parts, cluster};
      g.weight = pool.weight(p, 0);
      if (!wide_cut_fits(g, b.sms) || (parts == 1 && (m <= 256 && p.n <= 8192 && tokens == most)))
        continue;
      const double us = microseconds(b.stream, launches, [&](int call) {
        g.weight = pool.weight(p, call);
        check(wide_gemm(g, b.sms, b.stream), "wide_gemm");
      });
      add(b, p, m,
          "wide " + std::to_string(tokens) + " x " + std::to_string(parts) + " by " +
              std::to_string(cluster),
          us);
    }
  }
}

void gated(Bench& b, const ProductPool& pool, const Product& p, int m, int launches) {
  GatedGemm g{pool.operands(p, m)};
  for (const int rows : {128, 256}) {
    g.tile = {rows};
    if (rows == 128 ? m > 512 : m <= 128) continue;
    add(b, p, m, "gated " + std::to_string(rows), microseconds(b.stream, launches, [&](int i) {
          g.weight = pool.weight(p, i);
          check(gated_gemm(g, b.sms, b.stream), "gated_gemm");
        }));
  }
}

// A product into a residual with the norm behind it: written by cuBLASLt, or its parts left apart.
void with_norm(Bench& b, const ProductPool& pool, const Product& p, int m, int launches) {
  const auto rows = [&](const Memory& of) { return Matrix{of.as(), DType::bf16, m, p.n, p.n}; };
  Norm n = {rows(pool.output), rows(b.residual), {pool.input.as(), DType::bf16, 1, p.n, p.n}, {},
            rows(b.gated)};
  LargeGemm tuned;
  std::vector<const void*> weights;
  for (int i = 0; i < 12; ++i) weights.push_back(pool.weight(p, i));
  tuned.tune(m, p.n, p.k, pool.input.as(), weights, pool.output.as(), b.stream, false);
  add(b, p, m, "cuBLASLt and norm", microseconds(b.stream, launches, [&](int i) {
        tuned.multiply(m, p.n, p.k, pool.input.as(), pool.weight(p, i), pool.output.as(), b.stream,
                       false);
        check(norm(n, b.stream), "norm");
      }));
  n.sums = pool.operands(p, m).partials;
  for (const int parts : {2, 3, 4}) {
    n.parts = parts;
    for (const int strips : {2, 3, 4, 6, 8, 12, 16}) {
      SkinnyGemm g{pool.operands(p, m)};
      g.parts_apart = true;
      g.parts = parts;
      g.strips = strips;
      if ((strips > 4 && (m <= 8 || m > 32)) || (strips > 8 && m <= 16)) continue;
      add(b, p, m, "skinny " + std::to_string(strips) + " x " + std::to_string(parts) + ", norm",
          microseconds(b.stream, launches, [&](int i) {
            g.weight = pool.weight(p, i);
            check(skinny_gemm(g, b.sms, b.stream), "skinny_gemm");
            check(norm(n, b.stream), "norm");
          }));
    }
  }
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  using namespace troupe::bench;
  Bench b;
  b.open();
  const ProductPool pool(b.sms);
  for (const int m : rows_of(argc, argv, {64, 128, 192, 256, 512, 2048, 8192})) {
    for (const Product& p : kProducts) {
      if (m > 512 && p.is_head()) continue;
      const int launches = m > 1000 ? 4 : 12;
      library(b, pool, p, m, launches);
      if (m <= kSkinnyRowsMax) skinny(b, pool, p, m, launches);
      wide(b, pool, p, m, launches);
      if (p.gated) gated(b, pool, p, m, launches);
      if (p.n <= p.k && m <= 64) with_norm(b, pool, p, m, launches);
    }
  }
  b.report.write(argc > 1 ? argv[1] : nullptr);
  return 0;
}
