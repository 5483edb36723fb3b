#include "bench/cpu_ceilings.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/cpu_ceilings.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr hn::ScalableTag<float> kD;

// 12 chains: enough to hide the latency of a multiply-add. Returns the operations done.
double Multiply(int64_t rounds, float* sink) {
  auto s0 = hn::Set(kD, 1.0F), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0;
  auto t0 = s0, t1 = s0, t2 = s0, t3 = s0, t4 = s0, t5 = s0;
  const auto a = hn::Set(kD, 0.999F);
  const auto b = hn::Set(kD, 0.001F);
  for (int64_t i = 0; i < rounds; ++i) {
    s0 = hn::MulAdd(s0, a, b);
    s1 = hn::MulAdd(s1, a, b);
    s2 = hn::MulAdd(s2, a, b);
    s3 = hn::MulAdd(s3, a, b);
    s4 = hn::MulAdd(s4, a, b);
    s5 = hn::MulAdd(s5, a, b);
    t0 = hn::MulAdd(t0, a, b);
    t1 = hn::MulAdd(t1, a, b);
    t2 = hn::MulAdd(t2, a, b);
    t3 = hn::MulAdd(t3, a, b);
    t4 = hn::MulAdd(t4, a, b);
    t5 = hn::MulAdd(t5, a, b);
  }
  const auto s = hn::Add(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)), hn::Add(s4, s5));
  const auto t = hn::Add(hn::Add(hn::Add(t0, t1), hn::Add(t2, t3)), hn::Add(t4, t5));
  *sink = hn::GetLane(hn::Add(s, t));
  return static_cast<double>(rounds) * 12 * 2 * static_cast<double>(hn::Lanes(kD));
}

float Read(const float* from, int64_t count) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(kD));
  auto a = hn::Zero(kD), b = a, c = a, d = a;
  for (int64_t i = 0; i + 4 * lanes <= count; i += 4 * lanes) {
    a = hn::Or(a, hn::LoadU(kD, from + i));
    b = hn::Or(b, hn::LoadU(kD, from + i + lanes));
    c = hn::Or(c, hn::LoadU(kD, from + i + 2 * lanes));
    d = hn::Or(d, hn::LoadU(kD, from + i + 3 * lanes));
  }
  return hn::GetLane(hn::Or(hn::Or(a, b), hn::Or(c, d)));
}

}  // namespace troupe::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::bench {

HWY_EXPORT(Multiply);
HWY_EXPORT(Read);

namespace {

template <class Body>
double best_seconds(int runs, clockid_t clock, Body&& body) {
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const double start = seconds_of(clock);
    body();
    best = std::min(best, seconds_of(clock) - start);
  }
  return best;
}

}  // namespace

double seconds_of(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

Ceilings measure_ceilings(cpu::ThreadPool& pool, clockid_t clock) {
  constexpr int kRuns = 7;
  constexpr int64_t kRounds = 4'000'000;
  std::vector<float> sinks(static_cast<size_t>(pool.threads()) * 16);
  Ceilings c;
  std::atomic<double> operations{0.0};
  const double multiply = best_seconds(kRuns, clock, [&] {
    operations = 0.0;
    pool.run(pool.threads(), [&](int32_t, int32_t thread) {
      operations += HWY_DYNAMIC_DISPATCH(Multiply)(kRounds, &sinks[static_cast<size_t>(thread) * 16]);
    });
  });
  c.fma_gflops = operations.load() / multiply / 1e9;
  const std::vector<float> memory(size_t{64} << 20, 1.0F);  // 256 MiB: far beyond any cache
  const auto count = static_cast<int64_t>(memory.size());
  const double read = best_seconds(kRuns, clock, [&] {
    pool.for_range(count, int64_t{1} << 18, [&](int64_t begin, int64_t end, int32_t thread) {
      sinks[static_cast<size_t>(thread) * 16] +=
          HWY_DYNAMIC_DISPATCH(Read)(memory.data() + begin, end - begin);
    });
  });
  c.read_gbs = static_cast<double>(count) * sizeof(float) / read / 1e9;
  return c;
}

}  // namespace troupe::bench
#endif  // HWY_ONCE
