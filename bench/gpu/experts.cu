// A mixture of experts' products over numbers of rows, in the shapes of Mixtral 8x7B, Qwen3-30B-A3B
// and DeepSeek-V2-Lite, against the ceilings measured in the same run: experts [JSON FILE].
// The ceiling of few rows is the memory of the experts they touch, of many the bf16 product.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "bench/gpu/ceilings.cuh"
#include "bench/gpu/measure.cuh"
#include "kernels/cuda/experts.hpp"

namespace troupe::bench {
namespace {

using namespace troupe::cuda;

struct Shape {
  const char* name;
  int hidden, inner, experts, top_k;
};
constexpr Shape kShapes[] = {{"Mixtral 8x7B", 4096, 14336, 8, 2},
                             {"Qwen3-30B-A3B", 2048, 768, 128, 8},
                             {"DeepSeek-V2-Lite", 2048, 1408, 64, 6}};

// Bytes of the experts that so many rows are likely to touch.
double touched_bytes(const Shape& s, int rows) {
  const double missed = std::pow(1.0 - static_cast<double>(s.top_k) / s.experts, rows);
  return s.experts * (1.0 - missed) * 6.0 * s.hidden * s.inner;
}

void measure(Report& report, const Ceilings& ceilings, const Shape& s, int rows,
             cudaStream_t stream) {
  const size_t up = size_t{2} * static_cast<size_t>(s.inner) * static_cast<size_t>(s.hidden),
               down = up / 2;
  const Memory weights = Memory::random(static_cast<size_t>(s.experts) * (up + down), 0.02F, 3);
  std::vector<ExpertWeights> table;
  for (int e = 0; e < s.experts; ++e) {
    const auto* first = weights.as<__nv_bfloat16>() + static_cast<size_t>(e) * (up + down);
    table.push_back({first, nullptr, first + up, nullptr});
  }
  const Memory placed = Memory::copy(table);
  const auto rows_size = static_cast<size_t>(rows),
             items = rows_size * static_cast<size_t>(s.top_k);
  const Memory x = Memory::random(rows_size * static_cast<size_t>(s.hidden), 1.0F, 4),
               y = Memory::zeros(rows_size * static_cast<size_t>(s.hidden) * 2);
  // Random bf16 pairs read as f32: the upper one decides.
  const Memory logits = Memory::random(rows_size * static_cast<size_t>(s.experts) * 2, 1.0F, 5);
  ExpertsWork w;
  w.input = {x.as(), DType::bf16, rows, s.hidden, s.hidden};
  w.logits = {logits.as(), DType::f32, rows, s.experts, s.experts};
  w.output = {y.as(), DType::bf16, rows, s.hidden, s.hidden};
  w.routing.experts = s.experts;
  w.routing.top_k = s.top_k;
  w.weights = placed.as<ExpertWeights>();
  w.dtype = DType::bf16;
  w.local = s.experts;
  w.inner = s.inner;
  cudaDeviceProp device = {};
  BENCH_CUDA(cudaGetDeviceProperties(&device, 0));
  w.shared_max = device.sharedMemPerBlockOptin;
  w.multiprocessors = device.multiProcessorCount;
  const Memory chosen = Memory::zeros(items * sizeof(ExpertWeights)),
               numbers = Memory::zeros(items * 16), count = Memory::zeros(256),
               between = Memory::zeros(items * static_cast<size_t>(s.inner) * 2),
               results = Memory::zeros(items * static_cast<size_t>(s.hidden) * 2),
               tiles = Memory::zeros(static_cast<size_t>(expert_tiles_max(w) + s.experts) *
                                     sizeof(ExpertTile));
  w.chosen = chosen.as<ExpertWeights>();
  w.expert_of = numbers.as<int32_t>();
  w.shares = reinterpret_cast<float*>(w.expert_of + items);
  w.between = between.as();
  w.tiles = {w.expert_of + 2 * items, w.expert_of + 3 * items, tiles.as<ExpertTile>(),
             count.as<int32_t>(), results.as()};
  const double bytes = touched_bytes(s, rows),
               operations = 6.0 * s.hidden * s.inner * static_cast<double>(items);
  const bool memory_bound = bytes / ceilings.read > operations / ceilings.gemm;
  for (const bool tiles_only : {false, true}) {
    if (tiles_only && rows > 16) continue;
    w.rows_independent = tiles_only;
    const double us = microseconds(stream, rows > 256 ? 2 : 4,
                                   [&](int) { check(experts(w, stream), "experts"); });
    report.add({std::string(s.name) + ", " + std::to_string(rows) + " rows" +
                    (tiles_only ? ", by tiles" : ""),
                us, memory_bound ? bytes : operations, memory_bound,
                memory_bound ? ceilings.read : ceilings.gemm});
  }
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  using namespace troupe::bench;
  cudaStream_t stream = nullptr;
  BENCH_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  Report report;
  const Ceilings ceilings = measure_ceilings(report, stream);
  for (const Shape& s : kShapes) {
    for (const int rows : {1, 2, 4, 8, 16, 64, 256, 2048, 8192})
      measure(report, ceilings, s, rows, stream);
  }
  if (argc > 1) report.write(argv[1]);
}
