#include "kernels/cuda/skinny_gemm.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/product_test.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

struct Cut {
  int variant = -1, strips = -1, parts = -1;
};

void check(const ProductCase& c, const Cut& cut = {}) {
  const ProductOnDevice product(c, skinny_gemm_partials_bytes(c.m), skinny_gemm_counters(c.n));
  SkinnyGemm g{product.operands()};
  g.variant = cut.variant;
  g.strips = cut.strips;
  g.parts = cut.parts;
  for (int repeat = 0; repeat < 2; ++repeat) TR_CUDA_OK(skinny_gemm(g, multiprocessors(), nullptr));
  TR_CUDA_OK(cudaDeviceSynchronize());
  product.expect_the_plain_product("variant " + std::to_string(cut.variant) + " strips " +
                                   std::to_string(cut.strips) + " parts " +
                                   std::to_string(cut.parts));
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

TEST(SkinnyGemm, LeavesPartsApart) {
  TR_NEEDS_SM90();
  for (const int m : {1, 8, 13, 16, 30, 32, 33, 64}) {
    for (const int parts : {1, 2, 3, 4}) {
      for (const int strips : {2, 4, 8, 16}) {
        const ProductCase c{m, 1000, 1288, parts % 2 == 0 ? DType::bf16 : DType::f16};
        const ProductOnDevice product(c, skinny_gemm_partials_bytes(m), skinny_gemm_counters(c.n));
        SkinnyGemm g{product.operands()};
        g.parts_apart = true;
        g.parts = parts;
        g.strips = strips;
        for (int repeat = 0; repeat < 2; ++repeat)
          TR_CUDA_OK(skinny_gemm(g, multiprocessors(), nullptr));
        TR_CUDA_OK(cudaDeviceSynchronize());
        product.expect_parts_of_the_plain_product(parts);
        product.expect_no_counter_left();
      }
    }
  }
}

// Parts can be left apart neither by a gate nor beside a bias, nor where there are fewer steps.
TEST(SkinnyGemm, RefusesPartsThatCannotStayApart) {
  TR_NEEDS_SM90();
  const ProductOnDevice product({2, 64, 64}, skinny_gemm_partials_bytes(2),
                                skinny_gemm_counters(64));
  SkinnyGemm g{product.operands()};
  g.parts_apart = true;
  EXPECT_EQ(skinny_gemm(g, multiprocessors(), nullptr), cudaErrorInvalidValue);
  g.parts = 2;
  EXPECT_EQ(skinny_gemm(g, multiprocessors(), nullptr), cudaErrorInvalidValue);
  g.parts = 1;
  g.gated_silu = true;
  EXPECT_EQ(skinny_gemm(g, multiprocessors(), nullptr), cudaErrorInvalidValue);
}

TEST(SkinnyGemm, EveryVariantAgrees) {
  TR_NEEDS_SM90();
  for (const int m : {1, 12, 24, 60}) {
    for (int v = 0; v < kSkinnyVariants; ++v) {
      check({m, 4096, 1024, DType::bf16, false, false, true}, {v});
      check({m, 9000, 2048, DType::bf16, true}, {v});
    }
  }
}

TEST(SkinnyGemm, EveryCutAgrees) {
  TR_NEEDS_SM90();
  for (const int m : {1, 8, 12, 30, 64}) {
    for (const int strips : {1, 2, 3, 4, 5, 6, 7, 8, 11, 14, 16}) {
      for (const int parts : {1, 3}) {
        const Cut cut = {strips > 8 ? 2 : strips > 4 ? 1 : 0, strips, parts};
        check({m, 1200, 1096, DType::bf16, true}, cut);
        check({m, 1216, 1096, DType::bf16, true, true}, cut);
      }
    }
  }
}

// As deterministic mode asks for it: a row's sums are the same however many rows there are.
TEST(SkinnyGemm, FixedCutsComeOutAlike) {
  TR_NEEDS_SM90();
  for (const ProductCase& c : {ProductCase{64, 1200, 4104, DType::bf16, true, false, true},
                               ProductCase{64, 9008, 520, DType::f16, false, false, true},
                               ProductCase{64, 1216, 1096, DType::bf16, false, true, true}}) {
    ProductOnDevice product(c, skinny_gemm_partials_bytes(c.m), skinny_gemm_counters(c.n));
    SkinnyGemm g{product.operands()};
    g.fixed_cut = true;
    TR_CUDA_OK(skinny_gemm(g, multiprocessors(), nullptr));
    product.expect_the_plain_product("in a fixed cut");
    const std::vector<float> all = product.sums();
    for (const int m : {1, 2, 8, 9, 17, 32, 40, 63}) {
      g.m = m;
      product.forget();
      TR_CUDA_OK(skinny_gemm(g, multiprocessors(), nullptr));
      const std::vector<float> some = product.sums();
      const auto count = static_cast<size_t>(m) * some.size() / 64;
      EXPECT_EQ(std::memcmp(some.data(), all.data(), count * sizeof(float)), 0)
          << name_of(c) << ", " << m << " rows of them";
      EXPECT_EQ(std::count(some.begin() + static_cast<int64_t>(count), some.end(), 0.0F),
                static_cast<int64_t>(some.size() - count))
          << "rows that are not there were written";
    }
  }
}

}  // namespace
}  // namespace troupe::cuda
