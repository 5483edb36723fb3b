#include "kernels/cuda/wide_gemm.hpp"

#include "kernels/cuda/test_support.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

struct Case {
  int m, n, k;
  WideCut cut;
  DType dtype = DType::bf16;
  bool bias = false, gated = false, f32 = false;
};

// Some output rows are enough: all of them would take the reference minutes.
std::vector<int> rows_checked(int m) {
  std::vector<int> rows;
  for (int i = 0; i<m; i += m> 40 ? 7 : 1) rows.push_back(i);
  if (rows.back() != m - 1) rows.push_back(m - 1);
  return rows;
}

std::vector<float> reference(const Case& c, const std::vector<float>& x,
                             const std::vector<float>& w, const std::vector<float>& bias) {
  const auto n = static_cast<size_t>(c.n), k = static_cast<size_t>(c.k);
  std::vector<float> out, y(n);
  for (const int row : rows_checked(c.m)) {
    const float* a = x.data() + static_cast<size_t>(row) * k;
    for (size_t j = 0; j < n; ++j) {
      float sum[8] = {};
      for (size_t l = 0; l < k; ++l) sum[l % 8] += a[l] * w[j * k + l];
      y[j] = c.bias ? bias[j] : 0.0F;
      for (const float s : sum) y[j] += s;
    }
    if (!c.gated) {
      out.insert(out.end(), y.begin(), y.end());
      continue;
    }
    for (size_t j = 0; j < n / 2; ++j)
      out.push_back(y[j] / (1.0F + std::exp(-y[j])) * y[n / 2 + j]);
  }
  return out;
}

void check(const Case& c) {
  std::mt19937 rng(static_cast<unsigned>(c.m * 7919 + c.n * 31 + c.k));
  const auto m = static_cast<size_t>(c.m), n = static_cast<size_t>(c.n),
             k = static_cast<size_t>(c.k);
  const auto x = random_values(m * k, 1.0F, c.dtype, rng);
  const auto w = random_values((n + 15) / 16 * 16 * k, 0.1F, c.dtype, rng);
  const auto bias = random_values(n, 1.0F, c.dtype, rng);
  const size_t width = c.gated ? n / 2 : n;
  OnDevice<uint16_t> dx(packed(x, c.dtype)), dw(packed(w, c.dtype)), db(packed(bias, c.dtype));
  OnDevice<float> out32(c.f32 ? m * width : 1);
  OnDevice<uint16_t> out16(c.f32 ? 1 : m * width);
  cudaDeviceProp device = {};
  TR_CUDA_OK(cudaGetDeviceProperties(&device, 0));
  const int sms = device.multiProcessorCount;
  OnDevice<float> partials(wide_gemm_partials_bytes(sms) / sizeof(float));
  OnDevice<uint32_t> counters(wide_gemm_counters(sms));
  counters.zero();
  WideGemm g;
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
  g.cut = c.cut;
  if (!wide_cut_fits(g, sms)) return;  // a small device
  for (int repeat = 0; repeat < 3; ++repeat) TR_CUDA_OK(wide_gemm(g, sms, nullptr));
  TR_CUDA_OK(cudaDeviceSynchronize());
  const auto wide = out32.read();
  const auto bits = out16.read();
  std::vector<float> got;
  for (const int row : rows_checked(c.m)) {
    for (size_t j = 0; j < width; ++j) {
      const size_t at = static_cast<size_t>(row) * width + j;
      got.push_back(c.f32 ? wide[at] : from_bits(bits[at], c.dtype));
    }
  }
  EXPECT_LT(relative_error(got, reference(c, x, w, bias)), c.f32 ? 1e-5 : 5e-3)
      << "m " << c.m << " n " << c.n << " k " << c.k << " " << dtype_name(c.dtype) << " tokens "
      << c.cut.tokens << " parts " << c.cut.parts;
  for (const uint32_t counter : counters.read()) ASSERT_EQ(counter, 0U) << "a counter was left";
}

TEST(WideGemm, EqualsThePlainProductHoweverItIsCut) {
  TR_NEEDS_SM90();
  for (const int tokens : {64, 128, 192, 256}) {
    for (const int parts : {0, 1, 2, 3, 4}) {
      const int cluster = parts % 2 == 0 ? 4 : 2;
      check({tokens, 1024, 1088, {tokens, parts, cluster}});
      check({tokens - 13, 528, 512, {tokens, parts, 6 - cluster}, DType::f16, true});
      check({tokens * 2 + 5, 272, 328, {tokens, parts, cluster}, DType::bf16, true, false, true});
    }
  }
}

TEST(WideGemm, GatesInPlaceOfASecondKernel) {
  TR_NEEDS_SM90();
  for (const int tokens : {64, 128, 192, 256}) {
    for (const int parts : {0, 1, 3}) {
      check({tokens - 7, 2 * 352, 512, {tokens, parts, 4}, DType::bf16, true, true});
      check({tokens + 1, 2 * 264, 136, {tokens, parts}, DType::f16, false, true});
    }
  }
}

// More tiles than clusters: whole tiles, shares that begin and end inside tiles, several columns.
TEST(WideGemm, GoesRoundMoreThanOnce) {
  TR_NEEDS_SM90();
  for (const int parts : {0, 1}) {
    check({70, 19000, 200, {128, parts}});
    check({256, 28672, 320, {256, parts}, DType::bf16, false, true});
    check({256, 36864, 192, {256, parts, 4}, DType::bf16, false, true});
    check({1000, 9728, 128, {256, parts}});
    check({2100, 4096, 64, {192, parts}, DType::f16, true});
  }
}

TEST(WideGemm, TakesOddSizes) {
  TR_NEEDS_SM90();
  check({1, 16, 8, {64, 0}});
  check({3, 24, 4096, {64, 0}, DType::f16, true});
  check({65, 1000, 1000, {128, 0}, DType::bf16, true, false, true});
  check({200, 40, 16384, {256, 0}});
}

}  // namespace
}  // namespace troupe::cuda
