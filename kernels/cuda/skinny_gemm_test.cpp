#include "kernels/cuda/skinny_gemm.hpp"

#include <thread>

#include "kernels/cuda/test_support.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

struct Case {
  int m, n, k;
  DType dtype = DType::bf16;
  bool bias = false, gated = false, f32 = false;
  int variant = -1, strips = -1, parts = -1;
};

std::vector<float> product(const Case& c, const std::vector<float>& x, const std::vector<float>& w,
                           const std::vector<float>& bias) {
  std::vector<float> y(static_cast<size_t>(c.m) * static_cast<size_t>(c.n));
  for (int i = 0; i < c.m; ++i) {
    for (int j = 0; j < c.n; ++j) {
      float sum = 0;
      const float* a = x.data() + static_cast<size_t>(i) * static_cast<size_t>(c.k);
      const float* b = w.data() + static_cast<size_t>(j) * static_cast<size_t>(c.k);
      for (int l = 0; l < c.k; ++l) sum += a[l] * b[l];
      y[static_cast<size_t>(i) * static_cast<size_t>(c.n) + static_cast<size_t>(j)] =
          sum + (c.bias ? bias[static_cast<size_t>(j)] : 0.0F);
    }
  }
  return y;
}

std::vector<float> gate(const Case& c, const std::vector<float>& y) {
  const auto half = static_cast<size_t>(c.n / 2), n = static_cast<size_t>(c.n);
  std::vector<float> out(static_cast<size_t>(c.m) * half);
  for (size_t i = 0; i < static_cast<size_t>(c.m); ++i) {
    for (size_t j = 0; j < half; ++j) {
      const float g = y[i * n + j];
      out[i * half + j] = g / (1.0F + std::exp(-g)) * y[i * n + half + j];
    }
  }
  return out;
}

void check(const Case& c) {
  std::mt19937 rng(static_cast<unsigned>(c.m * 7919 + c.n * 31 + c.k));
  const auto m = static_cast<size_t>(c.m), n = static_cast<size_t>(c.n),
             k = static_cast<size_t>(c.k);
  const auto x = random_values(m * k, 1.0F, c.dtype, rng);
  auto w = random_values((n + 15) / 16 * 16 * k, 0.1F, c.dtype, rng);
  const auto bias = random_values(n, 1.0F, c.dtype, rng);
  const size_t width = c.gated ? n / 2 : n;
  OnDevice<uint16_t> dx(packed(x, c.dtype)), dw(packed(w, c.dtype)), db(packed(bias, c.dtype));
  OnDevice<float> out32(m * width);
  OnDevice<uint16_t> out16(m * width);
  cudaDeviceProp device = {};
  TR_CUDA_OK(cudaGetDeviceProperties(&device, 0));
  const int sms = device.multiProcessorCount;
  OnDevice<float> partials(skinny_gemm_partials_bytes(c.m) / sizeof(float));
  OnDevice<uint32_t> counters(skinny_gemm_counters(c.n));
  counters.zero();
  SkinnyGemm g;
  g.partials = partials.get();
  g.counters = counters.get();
  g.m = c.m;
  g.n = c.n;
  g.k = c.k;
  g.dtype = c.dtype;
  g.weight = dw.get();
  g.input = dx.get();
  g.input_stride = c.k;
  g.bias = c.bias ? db.get() : nullptr;
  g.output = c.f32 ? static_cast<void*>(out32.get()) : out16.get();
  g.output_stride = static_cast<int64_t>(width);
  g.output_f32 = c.f32;
  g.gated_silu = c.gated;
  g.variant = c.variant;
  g.strips = c.strips;
  g.parts = c.parts;
  for (int repeat = 0; repeat < 2; ++repeat) TR_CUDA_OK(skinny_gemm(g, sms, nullptr));
  TR_CUDA_OK(cudaDeviceSynchronize());
  std::vector<float> got = out32.read();
  if (!c.f32) {
    const auto bits = out16.read();
    std::transform(bits.begin(), bits.end(), got.begin(),
                   [&](uint16_t b) { return from_bits(b, c.dtype); });
  }
  auto want = product(c, x, w, bias);
  if (c.gated) want = gate(c, want);
  EXPECT_LT(relative_error(got, want), c.f32 ? 1e-5 : 5e-3)
      << "m " << c.m << " n " << c.n << " k " << c.k << " " << dtype_name(c.dtype) << " variant "
      << c.variant << " strips " << c.strips << " parts " << c.parts;
}

TEST(SkinnyGemm, EqualsThePlainProduct) {
  TR_NEEDS_SM90();
  for (const int m : {1, 2, 7, 8, 9, 16, 17, 32, 33, 64}) {
    check({m, 1024, 512});
    check({m, 80, 264, DType::f16, true});
  }
}

TEST(SkinnyGemm, TakesOddSizes) {
  TR_NEEDS_SM90();
  check({3, 1, 8, DType::bf16, false, false, true});
  check({1, 17, 4096});
  check({5, 130, 8, DType::bf16, true});
  check({8, 1003, 1000, DType::f16, false, false, true});
  check({1, 64, 16384});
  check({2, 100, 64, DType::f16});  // fewer steps along k than blocks of a cluster
  check({64, 48, 16384});
}

TEST(SkinnyGemm, GatesInPlaceOfASecondKernel) {
  TR_NEEDS_SM90();
  for (const int m : {1, 8, 16, 64}) check({m, 2 * 352, 512, DType::bf16, true, true});
  check({2, 32, 64, DType::f16, false, true});
}

TEST(SkinnyGemm, EveryVariantAgrees) {
  TR_NEEDS_SM90();
  for (const int m : {1, 12, 24, 60}) {
    for (int v = 0; v < kSkinnyVariants; ++v) {
      check({m, 4096, 1024, DType::bf16, false, false, true, v});
      check({m, 9000, 2048, DType::bf16, true, false, false, v});
    }
  }
}

TEST(SkinnyGemm, EveryCutAgrees) {
  TR_NEEDS_SM90();
  for (const int m : {1, 8, 30, 64}) {
    for (const int strips : {1, 2, 3, 4, 5, 6, 7, 8, 11, 14, 16}) {
      for (const int parts : {1, 3}) {
        Case c{m, 1200, 1096, DType::bf16, true};
        c.variant = strips > 8 ? 2 : strips > 4 ? 1 : 0;
        c.strips = strips;
        c.parts = parts;
        check(c);
        c.n = 1216;
        c.gated = true;
        check(c);
      }
    }
  }
}

}  // namespace
}  // namespace troupe::cuda
