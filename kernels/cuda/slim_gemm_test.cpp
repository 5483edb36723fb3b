#include "kernels/cuda/slim_gemm.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/product_test.hpp"
#include "kernels/cuda/slim_weight.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

// A weight on the device, packed.
class Slim {
 public:
  Slim(const SlimShape& shape, const void* weight)
      : shape_(shape), bytes_(shape.bytes()), listed_(1) {
    listed_.zero();
    EXPECT_EQ(slim_pack(shape, weight, bytes_.get(), listed_.get(), nullptr), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  [[nodiscard]] const void* get() const { return bytes_.get(); }
  [[nodiscard]] uint32_t listed() const { return listed_.read()[0]; }
  [[nodiscard]] bool fits() const { return listed() <= shape_.list_room(); }

 private:
  const SlimShape shape_;
  OnDevice<uint8_t> bytes_;
  OnDevice<uint32_t> listed_;
};

void check(const ProductCase& c, const std::vector<SlimCut>& cuts) {
  const ProductOnDevice product(c, slim_gemm_partials_bytes(), 4096);
  SlimGemm g{product.operands()};
  g.slim_paired = c.gated;
  const Slim slim({c.n, c.k, c.gated}, g.weight);
  ASSERT_TRUE(slim.fits()) << slim.listed();
  g.slim = slim.get();
  g.weight = nullptr;
  for (const SlimCut& cut : cuts) {
    g.cut = cut;
    for (int repeat = 0; repeat < 2; ++repeat) TR_CUDA_OK(slim_gemm(g, multiprocessors(), nullptr));
    TR_CUDA_OK(cudaDeviceSynchronize());
    product.expect_the_plain_product("strips " + std::to_string(cut.strips) + " parts " +
                                     std::to_string(cut.parts));
    product.expect_no_counter_left();
  }
}

std::vector<SlimCut> cuts_of(const std::vector<int>& strips, const std::vector<int>& parts) {
  std::vector<SlimCut> all;
  for (const int s : strips) {
    for (const int p : parts) all.push_back({s, p});
  }
  return all;
}

TEST(SlimGemm, EqualsThePlainProduct) {
  TR_NEEDS_SM90();
  const auto cuts = cuts_of({1, 3, 4, 7, 8}, {1, 2, 3}), high = cuts_of({11, 14, 16}, {1, 2});
  for (const int m : {1, 2, 8, 9, 16, 17, 32, 33, 64}) {
    check({m, 1024, 1536}, cuts);
    if (m > 16) check({m, 1024, 1536}, high);
  }
}

// Rings go round and blocks take several chunks.
TEST(SlimGemm, TakesLongRowsAndManyTiles) {
  TR_NEEDS_SM90();
  for (const int m : {1, 12, 30, 64}) {
    check({m, 6144, 1024}, cuts_of({3, 4, 7}, {1, 3}));
    check({m, 80, 16384}, cuts_of({2, 4, 8}, {1, 4}));
    if (m > 16) check({m, 6144, 1024}, cuts_of({14, 15}, {1, 3}));
  }
}

TEST(SlimGemm, TakesOddSizes) {
  TR_NEEDS_SM90();
  const auto cuts = cuts_of({4, 8}, {1, 2});
  for (const int m : {1, 5, 16, 40}) {
    check({m, 1, 8, DType::bf16, false, false, true}, cuts);
    check({m, 17, 4096}, cuts);
    check({m, 130, 8, DType::bf16, true}, cuts);
    check({m, 1003, 1000, DType::bf16, true, false, true}, cuts);
  }
}

TEST(SlimGemm, GatesInPlaceOfASecondKernel) {
  TR_NEEDS_SM90();
  for (const int m : {1, 8, 16, 64})
    check({m, 2 * 352, 512, DType::bf16, true, true}, cuts_of({4, 7, 8}, {1, 2}));
  check({64, 2 * 352, 512, DType::bf16, false, true}, cuts_of({14}, {1, 2}));
}

TEST(SlimGemm, LeavesPartsApart) {
  TR_NEEDS_SM90();
  for (const int m : {1, 8, 13, 32, 33, 64}) {
    const ProductCase c{m, 1000, 4104};
    const ProductOnDevice product(c, slim_gemm_partials_bytes(), 4096);
    SlimGemm g{product.operands()};
    const Slim slim({c.n, c.k, false}, g.weight);
    g.slim = slim.get();
    g.parts_apart = true;
    for (const SlimCut& cut : cuts_of({2, 4, 8, 16}, {1, 2, 3, 4})) {
      g.cut = cut;
      if (!slim_gemm_fits(g)) continue;
      for (int repeat = 0; repeat < 2; ++repeat)
        TR_CUDA_OK(slim_gemm(g, multiprocessors(), nullptr));
      TR_CUDA_OK(cudaDeviceSynchronize());
      product.expect_parts_of_the_plain_product(cut.parts);
      product.expect_no_counter_left();
    }
  }
}

// ---- packing ----

// A value of a strip: what trained weights have, and what breaks windows of exponents.
uint16_t strange_bits(uint32_t strip, uint32_t row, uint32_t column) {
  std::mt19937 engine(row * 7919 + column * 31);
  const auto numbers = [&] { return static_cast<uint32_t>(engine()); };
  const auto bits = static_cast<uint16_t>(numbers());
  const auto sign_and_fraction = static_cast<uint16_t>(bits & 0x807F);
  const auto at = [&](uint32_t exponent) {
    return static_cast<uint16_t>(sign_and_fraction | exponent << 7);
  };
  const bool now_and_then = numbers() % 100 == 0;
  switch (strip % 28) {
    case 1:
      return now_and_then ? 0 : at(110 + numbers() % 10);
    case 2:
      return at(now_and_then ? 60 : 120);  // far below the window
    case 3:
      return 0;
    case 4:
      return at(now_and_then && column % 3 == 0 ? 200 : 115 + numbers() % 8);  // outliers
    case 5:
      return at(30 + numbers() % 12);  // a window of hardly anything
    case 6:
      return at(100 + numbers() % (now_and_then ? 24 : 16));
    default:
      return at(112 + numbers() % 16);
  }
}

float from_bf16(uint16_t bits) {
  return from_bits(bits, DType::bf16);
}

// Rows that are ones at one column each take the weight's columns apart again.
TEST(SlimWeight, GivesEveryValueBack) {
  TR_NEEDS_SM90();
  for (const bool paired : {false, true}) {
    constexpr int kN = 28 * 16, kK = 200, kM = 40;
    std::vector<uint16_t> bits;
    for (uint32_t row = 0; row < kN; ++row) {
      const uint32_t strip = paired ? row % (kN / 2) / 8 : row / 16;
      for (uint32_t column = 0; column < kK; ++column)
        bits.push_back(strange_bits(strip, row, column));
    }
    const SlimShape shape = {kN, kK, paired};
    const OnDevice<uint16_t> weight(bits);
    const Slim slim(shape, weight.get());
    EXPECT_GT(slim.listed(), 20U);
    ASSERT_TRUE(slim.fits()) << slim.listed();
    OnDevice<float> out(size_t{kM} * kN), partials(1);
    OnDevice<uint32_t> counters(4096);
    counters.zero();
    for (int first = 0; first < kK; first += kM) {
      std::vector<uint16_t> input(size_t{kM} * kK, 0);
      for (int row = 0; row < kM; ++row)
        input[static_cast<size_t>(row * kK + first + row)] = 0x3F80;
      const OnDevice<uint16_t> x(input);
      SlimGemm g;
      g.m = kM;
      g.n = kN;
      g.k = kK;
      g.slim = slim.get();
      g.slim_paired = paired;
      g.input = x.get();
      g.input_stride = kK;
      g.output = out.get();
      g.output_stride = kN;
      g.output_f32 = true;
      g.partials = partials.get();
      g.counters = counters.get();
      g.cut = {4, 1};
      TR_CUDA_OK(slim_gemm(g, multiprocessors(), nullptr));
      TR_CUDA_OK(cudaDeviceSynchronize());
      const std::vector<float> got = out.read();
      for (int row = 0; row < kM; ++row) {
        for (int n = 0; n < kN; ++n) {
          const float want = from_bf16(bits[static_cast<size_t>(n * kK + first + row)]);
          ASSERT_EQ(got[static_cast<size_t>(row * kN + n)], want)
              << "row " << n << " column " << first + row << (paired ? ", paired" : "");
        }
      }
    }
  }
}

// Half of all values outside the windows are more than the list holds: packing says so, and writes
// nothing behind it.
TEST(SlimWeight, SaysWhenItDoesNotFit) {
  TR_NEEDS_SM90();
  constexpr int kN = 256, kK = 512;
  std::vector<uint16_t> bits;
  for (uint32_t i = 0; i < kN * kK; ++i) bits.push_back(i % 2 == 0 ? 0x3F80 : 0x2000);
  const SlimShape shape = {kN, kK};
  const OnDevice<uint16_t> weight(bits);
  OnDevice<uint8_t> slim(shape.bytes() + 4096);
  OnDevice<uint32_t> listed(1);
  slim.zero();
  listed.zero();
  TR_CUDA_OK(slim_pack(shape, weight.get(), slim.get(), listed.get(), nullptr));
  TR_CUDA_OK(cudaDeviceSynchronize());
  EXPECT_EQ(listed.read()[0], kN * kK / 2);
  EXPECT_GT(listed.read()[0], shape.list_room());
  const std::vector<uint8_t> all = slim.read();
  EXPECT_TRUE(std::all_of(all.begin() + static_cast<int64_t>(shape.bytes()), all.end(),
                          [](uint8_t b) { return b == 0; }));
}

// One is enough, wherever it stands: zeros that it would be multiplied by are no zeros then.
TEST(SlimWeight, RefusesWhatIsNoNumber) {
  TR_NEEDS_SM90();
  constexpr int kN = 48, kK = 200;
  const SlimShape shape = {kN, kK};
  for (const uint16_t bits : {uint16_t{0x7F80}, uint16_t{0xFF80}, uint16_t{0x7FC1}}) {
    for (const size_t at : {size_t{0}, size_t{20 * kK + 130}, size_t{kN * kK - 1}}) {
      std::vector<uint16_t> values(size_t{kN} * kK, 0x3F80);
      EXPECT_TRUE(Slim(shape, OnDevice<uint16_t>(values).get()).fits());
      values[at] = bits;
      EXPECT_FALSE(Slim(shape, OnDevice<uint16_t>(values).get()).fits()) << bits << " at " << at;
    }
  }
}

}  // namespace
}  // namespace troupe::cuda
