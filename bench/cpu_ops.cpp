// How near the CPU ops come to what the machine can do: each op's bytes per second over the read
// bandwidth and its operations per second over the multiply-add rate, both measured in this run.
//
//   cpu_ops [--threads N] [--cpu] [--only TEXT]
//     --cpu   in CPU seconds of the process, with one thread, where others use the machine too
//     --only  ops whose name contains this
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "bench/cpu_ceilings.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cpu/half.hpp"

namespace troupe::bench {
namespace {

std::vector<float> randoms(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  uint32_t state = 1;
  for (float& v : x) {
    state = state * 1664525U + 1013904223U;
    v = static_cast<float>(state >> 8) / 16777216.0F - 0.5F;
  }
  return x;
}
std::vector<uint16_t> halves(int64_t n) {
  std::vector<uint16_t> x;
  for (float v : randoms(n)) x.push_back(cpu::f16_from_float(v));
  return x;
}
Matrix view(std::vector<float>& x, int64_t rows, int64_t cols) {
  return {x.data(), DType::f32, rows, cols, cols};
}

class Bench {
 public:
  Bench(Backend& backend, const Ceilings& ceilings, clockid_t clock, std::string only)
      : backend_(backend), ceilings_(ceilings), clock_(clock), only_(std::move(only)) {}

  // Best of several runs: on a machine that others use too, the others are not the op's affair.
  void run(const std::string& name, double bytes, double flops, const std::function<void()>& op) {
    if (name.find(only_) == std::string::npos) return;
    op();
    double best = 1e30;
    double spent = 0.0;
    for (int i = 0; i < 200 && spent < 1.0; ++i) {
      const double start = seconds_of(clock_);
      op();
      const double took = seconds_of(clock_) - start;
      best = std::min(best, took);
      spent += took;
    }
    const double gbs = bytes / best / 1e9;
    const double gflops = flops / best / 1e9;
    std::printf("%-36s %10.1f us  %7.1f GB/s  %4.0f %%  %7.1f GFLOP/s  %4.0f %%\n", name.c_str(), best * 1e6, gbs,
                100.0 * gbs / ceilings_.read_gbs, gflops, 100.0 * gflops / ceilings_.fma_gflops);
    json_ += (json_.empty() ? "" : ", ") + ("\"" + name + "\": {\"us\": " + std::to_string(best * 1e6) +
             ", \"of_bandwidth\": " + std::to_string(gbs / ceilings_.read_gbs) +
             ", \"of_fma\": " + std::to_string(gflops / ceilings_.fma_gflops) + "}");
  }
  void finish() const {
    std::printf("{\"read_gbs\": %.2f, \"fma_gflops\": %.1f, \"ops\": {%s}}\n", ceilings_.read_gbs,
                ceilings_.fma_gflops, json_.c_str());
  }

  Batch begin(StepPlanDraft draft, std::vector<KvCache*> caches) {
    if (caches.empty()) {  // ops that look at no cache
      draft.groups = 0;
      draft.tables.clear();
    }
    draft.seal(plan_);
    auto view = PlanView::parse(plan_);
    TR_ASSERT(view.ok());
    auto batch = backend_.begin_step(*view, caches);
    TR_ASSERT(batch.ok());
    return *batch;
  }
  Backend& backend() { return backend_; }

 private:
  Backend& backend_;
  Ceilings ceilings_;
  clockid_t clock_;
  std::string only_;
  std::string json_;
  std::vector<std::byte> plan_;
};

StepPlanDraft rows_of(int32_t sequences, int32_t rows, int32_t past, int32_t block_tokens) {
  StepPlanDraft d;
  d.groups = 1;
  const int32_t blocks = (past + rows + block_tokens - 1) / block_tokens;
  for (int32_t s = 0; s < sequences; ++s) {
    d.sequences.push_back({s, static_cast<int32_t>(d.token_ids.size()), rows, past + rows, 0, 0});
    d.tables.push_back({static_cast<int32_t>(d.blocks.size()), blocks, 0});
    for (int32_t b = 0; b < blocks; ++b) d.blocks.push_back(s * blocks + b);
    for (int32_t r = 0; r < rows; ++r) {
      d.token_ids.push_back(0);
      d.positions.push_back(past + r);
    }
  }
  return d;
}

void bench_linear(Bench& bench) {
  constexpr int64_t kIn = 2048;
  constexpr int64_t kOut = 24576;  // 100 MB of f16: no cache holds it
  std::vector<uint16_t> w = halves(kIn * kOut);
  LinearWeight weight;
  weight.in = kIn;
  weight.out = kOut;
  weight.parts.emplace_back().values = {w.data(), DType::f16, kOut, kIn, kIn};
  for (int64_t rows : {1, 2, 4, 8, 16, 32, 64, 512}) {
    std::vector<float> x = randoms(rows * kIn);
    std::vector<float> y(static_cast<size_t>(rows * kOut));
    const Batch batch = bench.begin(rows_of(1, static_cast<int32_t>(rows), 0, 16), {});
    bench.run("linear f16 2048x24576, rows " + std::to_string(rows), 2.0 * kIn * kOut,
              2.0 * static_cast<double>(rows) * kIn * kOut, [&] {
                bench.backend().linear(batch, {view(x, rows, kIn), &weight, RowSelect::all, view(y, rows, kOut)});
              });
  }
}

void bench_attention(Bench& bench, int32_t sequences, int32_t rows, int32_t past) {
  constexpr int32_t kHeads = 32;
  constexpr int32_t kKvHeads = 8;
  constexpr int32_t kDim = 64;
  const int32_t blocks = sequences * ((past + rows + 15) / 16);
  auto cache = bench.backend().create_cache({1, kKvHeads, kDim, kDim, false, DType::f16, 16, blocks});
  TR_ASSERT(cache.ok());
  const Batch batch = bench.begin(rows_of(sequences, rows, past, 16), {cache->get()});
  const int64_t count = int64_t{sequences} * rows;
  std::vector<float> q = randoms(count * kHeads * kDim);
  std::vector<float> out(q.size());
  AttentionArgs a;
  a.query = view(q, count, kHeads * kDim);
  a.cache = cache->get();
  a.heads = kHeads;
  a.scale = 0.125F;
  a.output = view(out, count, kHeads * kDim);
  const double seen = rows == 1 ? past + 1.0 : rows * (past + rows / 2.0);
  bench.run("attention " + std::to_string(sequences) + "x" + std::to_string(rows) + " after " + std::to_string(past),
            2.0 * 2.0 * sequences * (past + rows) * kKvHeads * kDim, 4.0 * sequences * seen * kHeads * kDim,
            [&] { bench.backend().attention(batch, a); });
}

// A vision tower's attention: one picture of `rows` patches, every head with keys of its own.
void bench_packed(Bench& bench, int64_t rows, int32_t heads, int32_t dim) {
  std::vector<float> qkv = randoms(rows * 3 * heads * dim);
  std::vector<float> out(static_cast<size_t>(rows * heads * dim));
  const Matrix all = view(qkv, rows, int64_t{3} * heads * dim);
  const int64_t width = int64_t{heads} * dim;
  const std::vector<int32_t> ends = {static_cast<int32_t>(rows)};
  bench.run("packed attention " + std::to_string(rows) + ", " + std::to_string(heads) + " heads of " + std::to_string(dim),
            4.0 * 4.0 * static_cast<double>(rows * width), 4.0 * static_cast<double>(rows * rows * width), [&] {
              bench.backend().packed_attention({all.columns(0, width), all.columns(width, width), all.columns(2 * width, width),
                                                ends, heads, heads, 0.1F, view(out, rows, width)});
            });
}

void bench_rows(Bench& bench, int64_t rows) {
  constexpr int64_t kHidden = 2048;
  std::vector<float> x = randoms(rows * kHidden * 2);
  std::vector<float> y(static_cast<size_t>(rows * kHidden));
  std::vector<float> w = randoms(kHidden);
  const double bytes = 4.0 * static_cast<double>(rows * kHidden);
  const std::string suffix = ", rows " + std::to_string(rows);
  bench.run("norm 2048" + suffix, 2 * bytes, 0, [&] {
    bench.backend().norm({NormKind::rms, view(x, rows, kHidden), {}, view(w, 1, kHidden), {}, 0.0F, 1e-5F, 0, view(y, rows, kHidden)});
  });
  bench.run("silu gate 2048" + suffix, 3 * bytes, 0, [&] {
    bench.backend().gated_activation({Activation::silu, view(x, rows, 2 * kHidden), view(y, rows, kHidden)});
  });
}

void bench_sample(Bench& bench, float temperature, float top_p, const std::string& name) {
  constexpr int32_t kVocab = 128256;
  StepPlanDraft d = rows_of(8, 1, 0, 16);
  for (int32_t s = 0; s < 8; ++s) {
    d.logit_rows.push_back({s, s, s, -1, -1});
    PlanSampling p;
    p.slot = s;
    p.temperature = temperature;
    p.top_p = top_p;
    d.sampling.push_back(p);
  }
  std::vector<float> logits = randoms(8 * int64_t{kVocab});
  for (float& x : logits) x *= 24.0F;
  const Batch batch = bench.begin(d, {});
  bench.run("sample 8 x 128256, " + name, 4.0 * 8 * kVocab, 0,
            [&] { bench.backend().sample(batch, {view(logits, 8, kVocab), 1.0F, 0.0F, {}}); });
}

int run(int32_t threads, clockid_t clock, const std::string& only) {
  auto backend = cpu::open_cpu_backend({.threads = threads});
  if (!backend.ok() || !(*backend)->reserve_steps(64, 8192, 64, 128256).ok()) return 1;
  Ceilings ceilings;
  {
    cpu::ThreadPool pool(threads, {});
    ceilings = measure_ceilings(pool, clock);
  }
  std::printf("%s, %d threads: reads %.1f GB/s, multiplies %.1f GFLOP/s\n", (*backend)->info().description.c_str(), threads,
              ceilings.read_gbs, ceilings.fma_gflops);
  Bench bench(**backend, ceilings, clock, only);
  bench_linear(bench);
  bench_attention(bench, 1, 1, 4000);
  bench_attention(bench, 16, 1, 1000);
  bench_attention(bench, 1, 512, 0);
  bench_attention(bench, 1, 512, 2000);
  bench_packed(bench, 1024, 16, 64);
  bench_packed(bench, 1024, 16, 72);
  bench_packed(bench, 1024, 16, 80);
  bench_packed(bench, 4096, 4, 128);
  bench_rows(bench, 1);
  bench_rows(bench, 512);
  bench_sample(bench, 0.0F, 1.0F, "greedy");
  bench_sample(bench, 1.0F, 1.0F, "temperature");
  bench_sample(bench, 1.0F, 0.95F, "top-p");
  bench.finish();
  return 0;
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  int32_t threads = 2;
  clockid_t clock = CLOCK_MONOTONIC;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--cpu") clock = CLOCK_PROCESS_CPUTIME_ID;
    else if (flag == "--threads" && i + 1 < argc) threads = std::atoi(argv[++i]);
    else if (flag == "--only" && i + 1 < argc) only = argv[++i];
    else {
      std::fprintf(stderr, "usage: cpu_ops [--threads N] [--cpu] [--only TEXT]\n");
      return 2;
    }
  }
  return troupe::bench::run(threads, clock, only);
}
