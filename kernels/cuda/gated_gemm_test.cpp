#include "kernels/cuda/gated_gemm.hpp"

#include "kernels/cuda/product_test.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

ProductCase gated(int m, int n, int k, DType dtype = DType::bf16) {
  return {m, n, k, dtype, false, true};
}

void check(const ProductCase& c, int rows) {
  const ProductOnDevice product(c, 0, 0);
  const GatedGemm g{product.operands(), {rows}};
  for (int repeat = 0; repeat < 3; ++repeat) TR_CUDA_OK(gated_gemm(g, multiprocessors(), nullptr));
  TR_CUDA_OK(cudaDeviceSynchronize());
  product.expect_the_plain_product("tiles of " + std::to_string(rows));
}

TEST(GatedGemm, EqualsThePlainProduct) {
  TR_NEEDS_SM90();
  for (const int rows : {128, 256}) {
    check(gated(rows, 448, 512), rows);
    check(gated(rows - 13, 704, 1088), rows);
    check(gated(rows + 1, 224 + 16, 328, DType::f16), rows);
    check(gated(1, 16, 4096), rows);
  }
}

// More tiles than clusters: several columns, more than eight of them, and a second round.
TEST(GatedGemm, GoesRoundMoreThanOnce) {
  TR_NEEDS_SM90();
  check(gated(256, 28672, 384), 256);
  check(gated(300, 31008, 384, DType::f16), 128);
  check(gated(2300, 3584, 392), 256);
  check(gated(1500, 5120, 384), 128);
}

TEST(GatedGemm, SaysWhatItDoesNotTake) {
  GatedGemm g;
  g.m = 256;
  g.n = 28672;
  g.k = 4096;
  g.input_stride = g.k;
  g.output_stride = g.n / 2;
  g.gated_silu = true;
  EXPECT_TRUE(gated_gemm_fits(g));
  GatedGemm plain = g, shallow = g, odd = g;
  plain.gated_silu = false;
  shallow.k = 320;
  odd.tile.rows = 192;
  EXPECT_FALSE(gated_gemm_fits(plain));
  EXPECT_FALSE(gated_gemm_fits(shallow));
  EXPECT_FALSE(gated_gemm_fits(odd));
  EXPECT_EQ(gated_gemm(odd, 132, nullptr), cudaErrorInvalidValue);
}

TEST(GatedGemm, KnowsHowEvenItsTilesAre) {
  GatedGemm g;
  g.m = 256;
  g.n = 28672;
  EXPECT_NEAR(gated_gemm_evenness(g, 132), 128.0 / 132, 1e-9);
  g.m = 300;  // a second column of tiles for 44 rows
  EXPECT_NEAR(gated_gemm_evenness(g, 132), 300.0 / 512 * 128 / 132, 1e-9);
  g.n = 224 * 140;  // a second round for eight tiles
  EXPECT_NEAR(gated_gemm_evenness(g, 132), 300.0 / 512 * 280 / (3 * 132), 1e-9);
}

}  // namespace
}  // namespace troupe::cuda
