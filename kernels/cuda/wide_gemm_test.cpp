#include "kernels/cuda/wide_gemm.hpp"

#include "kernels/cuda/product_test.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

void check(const ProductCase& c, const WideCut& cut) {
  const int sms = multiprocessors();
  const ProductOnDevice product(c, wide_gemm_partials_bytes(sms), wide_gemm_counters(sms));
  WideGemm g{product.operands()};
  g.cut = cut;
  if (!wide_cut_fits(g, sms)) return;  // a small device
  for (int repeat = 0; repeat < 3; ++repeat) TR_CUDA_OK(wide_gemm(g, sms, nullptr));
  TR_CUDA_OK(cudaDeviceSynchronize());
  product.expect_the_plain_product("tokens " + std::to_string(cut.tokens) + " parts " +
                                   std::to_string(cut.parts));
  product.expect_no_counter_left();
}

TEST(WideGemm, EqualsThePlainProductHoweverItIsCut) {
  TR_NEEDS_SM90();
  for (const int tokens : {64, 128, 192, 256}) {
    for (const int parts : {0, 1, 2, 3, 4}) {
      const int cluster = parts % 2 == 0 ? 4 : 2;
      check({tokens, 1024, 1088}, {tokens, parts, cluster});
      check({tokens - 13, 528, 512, DType::f16, true}, {tokens, parts, 6 - cluster});
      check({tokens * 2 + 5, 272, 328, DType::bf16, true, false, true}, {tokens, parts, cluster});
    }
  }
}

TEST(WideGemm, GatesInPlaceOfASecondKernel) {
  TR_NEEDS_SM90();
  for (const int tokens : {64, 128, 192, 256}) {
    for (const int parts : {0, 1, 3}) {
      check({tokens - 7, 2 * 352, 512, DType::bf16, true, true}, {tokens, parts, 4});
      check({tokens + 1, 2 * 264, 136, DType::f16, false, true}, {tokens, parts});
    }
  }
}

// More tiles than clusters: whole tiles, shares that begin and end inside tiles, several columns.
TEST(WideGemm, GoesRoundMoreThanOnce) {
  TR_NEEDS_SM90();
  for (const int parts : {0, 1}) {
    check({70, 19000, 200}, {128, parts});
    check({256, 28672, 320, DType::bf16, false, true}, {256, parts});
    check({256, 36864, 192, DType::bf16, false, true}, {256, parts, 4});
    check({1000, 9728, 128}, {256, parts});
    check({2100, 4096, 64, DType::f16, true}, {192, parts});
  }
}

TEST(WideGemm, TakesOddSizes) {
  TR_NEEDS_SM90();
  check({1, 16, 8}, {64, 0});
  check({3, 24, 4096, DType::f16, true}, {64, 0});
  check({65, 1000, 1000, DType::bf16, true, false, true}, {128, 0});
  check({200, 40, 16384}, {256, 0});
}

}  // namespace
}  // namespace troupe::cuda
