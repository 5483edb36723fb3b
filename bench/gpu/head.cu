// The head of an 8B model and the drawing of likeliest tokens: logits written and read again, or
// tokens drawn in the product's own sums. bench_gpu_head [JSON FILE] [ROWS ...]
#include <functional>

#include "bench/gpu/ceilings.cuh"
#include "bench/gpu/large_gemm.hpp"
#include "bench/gpu/measure.cuh"
#include "bench/gpu/products.hpp"
#include "kernels/cuda/likeliest_gemm.hpp"
#include "kernels/cuda/sampling.hpp"

namespace troupe::bench {
namespace {

using namespace troupe::cuda;

constexpr int kRowsMax = 512, kLaunches = 6;
constexpr Product kHeadProduct = {"head 128256x4096", kHead, 4096, false};

std::vector<LogitRow> logit_rows() {
  std::vector<LogitRow> rows;
  for (int i = 0; i < kRowsMax; ++i) rows.push_back({i, i, i, -1, -1});
  return rows;
}
std::vector<DrawRule> rules() {
  std::vector<DrawRule> all(kRowsMax);
  for (int i = 0; i < kRowsMax; ++i) all[static_cast<size_t>(i)].slot = i;
  return all;
}

struct Bench : DeviceBench {
  Memory rows = Memory::copy(logit_rows()), draws = Memory::copy(rules());
  Memory last = Memory::zeros(kRowsMax * 4), tails = Memory::zeros(kRowsMax * kTail * 4),
         counts = Memory::zeros(kRowsMax * 4), best = Memory::zeros(kRowsMax * sizeof(GreedyRow)),
         drawn = Memory::zeros(kRowsMax * sizeof(Drawn));
  Memory target = Memory::copy(std::vector<DrawTarget>{{drawn.as<Drawn>(), nullptr}});

  [[nodiscard]] Sampling sampling(const ProductPool& pool, int m) const {
    Sampling s;
    s.logits = {pool.output.as(), DType::f32, m, kHead, kHead};
    s.rows = rows.as<LogitRow>();
    s.draws = draws.as<DrawRule>();
    s.slots = {last.as<int32_t>(), tails.as<int32_t>(), counts.as<int32_t>(), nullptr, kHead};
    s.target = target.as<DrawTarget>();
    s.greedy = best.as<GreedyRow>();
    return s;
  }

  void add(int m, const std::string& how, const std::function<void(const void*)>& step,
           const ProductPool& pool) {
    const double us =
        microseconds(stream, kLaunches, [&](int i) { step(pool.weight(kHeadProduct, i)); });
    const double bytes = 2.0 * kHead * 4096;
    const bool few = m <= 128;
    report.add({"head m " + std::to_string(m) + " " + how, us, few ? bytes : bytes * m, few,
                few ? ceilings.read : ceilings.gemm});
  }
};

void apart(Bench& b, const ProductPool& pool, int m) {
  const Sampling s = b.sampling(pool, m);
  LargeGemm tuned;
  std::vector<const void*> weights;
  for (int i = 0; i < 4; ++i) weights.push_back(pool.weight(kHeadProduct, i));
  tuned.tune(m, kHead, 4096, pool.input.as(), weights, pool.output.as(), b.stream, true);
  const auto product = [&](const void* weight) {
    tuned.multiply(m, kHead, 4096, pool.input.as(), weight, pool.output.as(), b.stream, true);
  };
  b.add(m, "cuBLASLt", product, pool);
  b.add(
      m, "cuBLASLt, tokens behind it",
      [&](const void* weight) {
        product(weight);
        check(sample_greedy(s, b.sms, b.stream), "sample_greedy");
      },
      pool);
}

void draw_along(Bench& b, const ProductPool& pool, int m, const std::string& how,
                const std::function<cudaError_t(const GemmOperands&)>& multiply) {
  const Sampling s = b.sampling(pool, m);
  GemmOperands g = pool.operands(kHeadProduct, m);
  g.likeliest = b.best.as<GreedyRow>();
  b.add(
      m, how + ", tokens drawn along",
      [&](const void* weight) {
        g.weight = weight;
        check(multiply(g), "the head");
        check(give_likeliest(s, b.stream), "give_likeliest");
      },
      pool);
}

template <class Multiply>
void both(Bench& b, const ProductPool& pool, int m, const std::string& how,
          const Multiply& multiply) {
  GemmOperands g = pool.operands(kHeadProduct, m);
  b.add(
      m, how,
      [&](const void* weight) {
        g.weight = weight;
        check(multiply(g), "the head");
      },
      pool);
  draw_along(b, pool, m, how, multiply);
}

void measure(Bench& b, const ProductPool& pool, int m) {
  apart(b, pool, m);
  if (m <= kSkinnyRowsMax) {
    both(b, pool, m, "skinny",
         [&](const GemmOperands& g) { return skinny_gemm(SkinnyGemm{g}, b.sms, b.stream); });
  }
  const int most = m > 256 ? 256 : (m + 63) / 64 * 64;
  for (const int tokens : {64, 128, 192, 256}) {
    if (tokens > most || tokens * 2 < most || m <= 16) continue;
    for (const int parts : {0, 1}) {
      both(b, pool, m, "wide " + std::to_string(tokens) + " x " + std::to_string(parts),
           [&](const GemmOperands& g) {
             return wide_gemm({g, {tokens, parts}}, b.sms, b.stream);
           });
    }
  }
  for (const int rows : {128, 256}) {
    if (rows == 128 ? m > 64 : m > 128)
      draw_along(b, pool, m, "tall " + std::to_string(rows), [&](const GemmOperands& g) {
        return likeliest_gemm({g, {rows}}, b.sms, b.stream);
      });
  }
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  using namespace troupe::bench;
  Bench b;
  b.open();
  const ProductPool pool(b.sms);
  for (const int m : rows_of(argc, argv, {1, 16, 64, 128, 192, 256, 512})) measure(b, pool, m);
  b.report.write(argc > 1 ? argv[1] : nullptr);
  return 0;
}
