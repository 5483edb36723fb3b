#include "bench/gpu/large_gemm.hpp"

#include <cstdio>
#include <cstdlib>

#include "kernels/cuda/cublaslt.hpp"

namespace troupe::bench {

namespace {
constexpr size_t kWorkspace = size_t{64} << 20;
[[noreturn]] void stop(const Status& s) {
  std::fprintf(stderr, "%s\n", s.message().c_str());
  std::exit(1);
}
}  // namespace

struct LargeGemm::Held {
  std::unique_ptr<cuda::CublasLt> lt;
  void* workspace = nullptr;
};

LargeGemm::LargeGemm() : held_(std::make_unique<Held>()) {
  auto lt = cuda::CublasLt::open();
  if (!lt.ok()) stop(lt.status());
  held_->lt = std::move(*lt);
  if (cudaMalloc(&held_->workspace, kWorkspace) != cudaSuccess) std::exit(1);
}
LargeGemm::~LargeGemm() {
  cudaFree(held_->workspace);
}

namespace {
cuda::Gemm gemm_of(int m, int n, int k, const void* input, const void* weight, void* output,
                   bool f32_output) {
  cuda::Gemm g;
  g.m = m;
  g.n = n;
  g.k = k;
  g.output_dtype = f32_output ? DType::f32 : DType::bf16;
  g.weight = weight;
  g.input = input;
  g.input_stride = k;
  g.output = output;
  g.output_stride = n;
  return g;
}
}  // namespace

void LargeGemm::tune(int m, int n, int k, const void* input,
                     const std::vector<const void*>& weights, void* output, cudaStream_t stream,
                     bool f32_output) {
  cuda::LaunchClock clock(weights, stream);
  const cuda::Gemm g = gemm_of(m, n, k, input, weights[0], output, f32_output);
  const auto best = held_->lt->tune(g, held_->workspace, kWorkspace, clock, stream);
  if (!best.ok()) stop(best.status());
}

void LargeGemm::multiply(int m, int n, int k, const void* input, const void* weight, void* output,
                         cudaStream_t stream, bool f32_output) {
  const cuda::Gemm g = gemm_of(m, n, k, input, weight, output, f32_output);
  const Status s = held_->lt->multiply(g, held_->workspace, kWorkspace, stream);
  if (!s.ok()) stop(s);
}

}  // namespace troupe::bench
