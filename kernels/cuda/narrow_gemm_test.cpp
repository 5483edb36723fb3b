#include "kernels/cuda/narrow_gemm.hpp"

#include "kernels/cuda/product_test.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

void check(const ProductCase& c) {
  const ProductOnDevice product(c, 16, 1);
  ASSERT_TRUE(narrow_gemm_fits(product.operands())) << name_of(c);
  TR_CUDA_OK(narrow_gemm(product.operands(), nullptr));
  TR_CUDA_OK(cudaDeviceSynchronize());
  product.expect_the_plain_product("");
}

TEST(NarrowGemm, EqualsThePlainProduct) {
  TR_NEEDS_DEVICE();
  for (const int m : {1, 2, 7, 8}) {
    check({m, 128, 2048, DType::bf16, false, false, true});
    check({m, 576, 2048});
    check({m, 8, 4096, DType::f16, true, false, true});
  }
}

TEST(NarrowGemm, TakesOddSizes) {
  TR_NEEDS_DEVICE();
  check({3, 1, 8, DType::bf16, true});
  check({1, 5, 2056, DType::f16});  // the second of two warps has one piece
  check({5, 130, 4104, DType::bf16, true});  // as has the third of four
  check({8, 67, 8192, DType::bf16, false, false, true});
  check({1, 1024, 264, DType::f16, true, false, true});
}

TEST(NarrowGemm, SaysWhatItDoesNotTake) {
  TR_NEEDS_DEVICE();
  const auto fits = [](const ProductCase& c) {
    return narrow_gemm_fits(ProductOnDevice(c, 16, 1).operands());
  };
  EXPECT_FALSE(fits({9, 16, 64}));
  EXPECT_FALSE(fits({1, 1025, 64}));
  EXPECT_FALSE(fits({1, 16, 8200}));
  EXPECT_FALSE(fits({1, 512, 8192}));
  EXPECT_FALSE(fits({1, 32, 64, DType::bf16, false, true}));
}

}  // namespace
}  // namespace troupe::cuda
