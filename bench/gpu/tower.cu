// Every op of a vision tower's layer alone, in Qwen2-VL-7B's shape: bench_gpu_tower [JSON FILE]
// [ROWS OF A PICTURE] [PICTURES]. Products by cuBLASLt's first guess and by the algorithm that
// timing finds; the last line adds up 32 layers of the better ones.
#include <cstdio>
#include <cstdlib>

#include "bench/gpu/ceilings.cuh"
#include "bench/gpu/large_gemm.hpp"
#include "bench/gpu/measure.cuh"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/elementwise.hpp"

namespace troupe::bench {
namespace {

using namespace troupe::cuda;

constexpr int kHidden = 1280, kInner = 5120, kHeads = 16, kHeadDim = 80, kLayers = 32;

struct Bench {
  cudaStream_t stream = nullptr;
  int each, pictures, rows;
  Report report;
  Ceilings ceilings;
  double layer_us = 0;
  Memory weights = Memory::random(size_t{1} << 28, 0.02F, 2);
  Memory input, output;

  Bench(int rows_each, int count)
      : each(rows_each),
        pictures(count),
        rows(rows_each * count),
        input(Memory::random(static_cast<size_t>(rows) * kInner, 1.0F, 3)),
        output(Memory::zeros(static_cast<size_t>(rows) * kInner * 2)) {}

  Matrix matrix(const Memory& m, int columns, int stride) const {
    return {m.as(), DType::bf16, rows, columns, stride};
  }
};

void product(Bench& b, const char* name, int n, int k) {
  const double flop = 2.0 * b.rows * n * k;
  double best = 0;
  for (const bool tuned : {false, true}) {
    LargeGemm gemm;
    std::vector<const void*> weights;
    for (int i = 0; i < 8; ++i)
      weights.push_back(b.weights.as<char>() + static_cast<size_t>(i) * kInner * kHidden * 2);
    if (tuned) gemm.tune(b.rows, n, k, b.input.as(), weights, b.output.as(), b.stream);
    const double us = microseconds(b.stream, 8, [&](int i) {
      gemm.multiply(b.rows, n, k, b.input.as(), weights[static_cast<size_t>(i) % 8], b.output.as(),
                    b.stream);
    });
    b.report.add({std::string(name) + (tuned ? ", timed choice" : ", first guess"), us, flop, false,
                  b.ceilings.gemm});
    best = best > 0 ? std::min(best, us) : us;
  }
  b.layer_us += best;
}

void pass(Bench& b, const char* name, double bytes, int times, cudaError_t (*run)(Bench&)) {
  const double us = microseconds(b.stream, 8, [&](int) { check(run(b), "op"); });
  b.report.add({name, us, bytes, true, b.ceilings.read});
  b.layer_us += us * times;
}

void attention(Bench& b) {
  std::vector<AttentionSequence> sequences;
  std::vector<PrefillWork> work;
  for (int i = 0; i < b.pictures; ++i) {
    sequences.push_back({i * b.each, b.each, b.each, 0, 0, 0});
    for (int t = 0; t * 128 < b.each; ++t) work.push_back({i, t});
  }
  const Memory d_sequences = Memory::copy(sequences), d_work = Memory::copy(work);
  PrefillAttention a;
  a.shape.heads = a.layer.kv_heads = kHeads;
  a.shape.head_dim = kHeadDim;
  a.shape.scale = 0.1118F;
  const auto* qkv = b.input.as<__nv_bfloat16>();
  a.query = qkv;
  a.layer.keys = qkv + kHidden;
  a.layer.values = qkv + 2 * kHidden;
  a.query_stride = a.row_stride = 3 * kHidden;
  a.query_rows = b.rows;
  a.output = b.output.as();
  a.output_stride = kHidden;
  a.sequences = d_sequences.as<AttentionSequence>();
  a.work = d_work.as<PrefillWork>();
  a.work_count = static_cast<int>(work.size());
  cudaDeviceProp device = {};
  BENCH_CUDA(cudaGetDeviceProperties(&device, 0));
  const double us = microseconds(b.stream, 8, [&](int) {
    check(prefill_attention(a, device.multiProcessorCount, b.stream), "prefill_attention");
  });
  const double flop = 4.0 * kHidden * b.pictures * static_cast<double>(b.each) * b.each;
  b.report.add({"attention", us, flop, false, b.ceilings.gemm});
  b.layer_us += us;
}

void run(Bench& b) {
  b.ceilings = measure_ceilings(b.report, b.stream);
  product(b, "qkv 3840x1280", 3 * kHidden, kHidden);
  product(b, "out 1280x1280", kHidden, kHidden);
  product(b, "fc1 5120x1280", kInner, kHidden);
  product(b, "fc2 1280x5120", kHidden, kInner);
  attention(b);
  const double row = 2.0 * b.rows * kHidden;
  pass(b, "norm with residual", 4 * row, 2, [](Bench& x) {
    const Matrix weight{x.weights.as(), DType::bf16, 1, kHidden, kHidden};
    Matrix residual = x.matrix(x.input, kHidden, kHidden);
    residual.data = x.input.as<__nv_bfloat16>() + size_t{2} * x.rows * kHidden;
    return norm({x.matrix(x.input, kHidden, kHidden), residual, weight, weight,
                 x.matrix(x.output, kHidden, kHidden), true, 0.0F, 1e-6F, 0},
                x.stream);
  });
  pass(b, "quick gelu, in place", 8 * row, 1, [](Bench& x) {
    const Matrix m = x.matrix(x.output, kInner, kInner);
    return activation(Curve::gelu_quick, false, m, m, x.stream);
  });
  b.report.add({"32 layers (without rope)", b.layer_us * kLayers, 0, true, 0});
  std::printf("%.1f pictures/s\n", b.pictures / (b.layer_us * kLayers * 1e-6));
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  using namespace troupe::bench;
  Bench b(argc > 2 ? std::atoi(argv[2]) : 1024, argc > 3 ? std::atoi(argv[3]) : 16);
  BENCH_CUDA(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking));
  run(b);
  b.report.write(argc > 1 && argv[1][0] != '-' ? argv[1] : nullptr);
  return 0;
}
