#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/test_support.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

struct NormCase {
  int rows, cols, parts;
  DType dtype;
  bool centred;
};

// The parts' sums, added in their order and rounded: what the product would have written.
std::vector<float> written(const std::vector<float>& sums, size_t count, int parts) {
  std::vector<float> out(sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(count));
  for (size_t part = 1; part < static_cast<size_t>(parts); ++part) {
    for (size_t i = 0; i < count; ++i) out[i] += sums[part * count + i];
  }
  return out;
}

void check(const NormCase& c) {
  const auto rows = static_cast<size_t>(c.rows), cols = static_cast<size_t>(c.cols);
  const size_t count = rows * cols;
  std::mt19937 rng(static_cast<unsigned>(c.rows * 31 + c.cols + c.parts));
  const auto sums = random_values(count * static_cast<size_t>(c.parts), 1.0F, c.dtype, rng);
  const OnDevice<float> planes(sums);
  const OnDevice<uint16_t> input(packed(written(sums, count, c.parts), c.dtype));
  const auto residual = packed(random_values(count, 1.0F, c.dtype, rng), c.dtype);
  const OnDevice<uint16_t> weight(packed(random_values(cols, 1.0F, c.dtype, rng), c.dtype));
  const OnDevice<uint16_t> whole(residual), apart(residual), bias(weight.read());
  const OnDevice<uint16_t> from_whole(count), from_parts(count);
  const auto matrix = [&](const OnDevice<uint16_t>& m, int64_t n) {
    return Matrix{m.get(), c.dtype, n, c.cols, c.cols};
  };
  Norm n = {matrix(input, c.rows),      matrix(whole, c.rows),
            matrix(weight, 1),          c.centred ? matrix(bias, 1) : Matrix{},
            matrix(from_whole, c.rows), c.centred};
  TR_CUDA_OK(norm(n, nullptr));
  n.input.data = nullptr;
  n.sums = planes.get();
  n.parts = c.parts;
  n.residual = matrix(apart, c.rows);
  n.output = matrix(from_parts, c.rows);
  ASSERT_TRUE(norm_adds_parts(n));
  TR_CUDA_OK(norm(n, nullptr));
  TR_CUDA_OK(cudaDeviceSynchronize());
  EXPECT_EQ(apart.read(), whole.read()) << c.rows << " x " << c.cols << " of " << c.parts;
  EXPECT_EQ(from_parts.read(), from_whole.read()) << c.rows << " x " << c.cols;
}

TEST(Norm, AddsPartsAsIfTheyHadBeenWritten) {
  TR_NEEDS_DEVICE();
  for (const int cols : {8, 1000, 4096, 8192, 16384}) {
    for (const int rows : {1, 3, 150}) {
      for (const int parts : {1, 2, 3, 4})
        check({rows, cols, parts, parts % 2 == 0 ? DType::bf16 : DType::f16, rows == 3});
    }
  }
}

TEST(Norm, RefusesMorePartsThanItHolds) {
  TR_NEEDS_DEVICE();
  const Matrix rows{nullptr, DType::bf16, 4, 64, 64};
  Norm n = {rows, rows, rows, {}, rows};
  n.parts = kNormPartsMax + 1;
  EXPECT_FALSE(norm_adds_parts(n));
  EXPECT_EQ(norm(n, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace troupe::cuda
