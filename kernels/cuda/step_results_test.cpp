// Rows are there when they bear their step's number, and never before. Runs without a device: what
// kernels write is written here, and pinned memory is the heap's (step_repeat_test.cpp).
#include "kernels/cuda/step_results.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

namespace troupe::cuda {
namespace {

constexpr int32_t kRows = 8, kVocab = 1000;

void draw(const DrawTarget& target, int32_t row, int32_t token, float logprob = 0.0F) {
  target.drawn[row] = {token, 1, logprob, target.step};
}

std::vector<LogitRow> rows_of(int32_t count, int32_t top_n) {
  std::vector<LogitRow> rows;
  for (int32_t i = 0; i < count; ++i) rows.push_back({i, i + 10, i, -1, top_n});
  return rows;
}

TEST(StepResults, AreCompleteWithTheLastRowInWhateverOrderTheyCome) {
  StepResults results;
  ASSERT_TRUE(results.prepare(kRows).ok());
  ASSERT_TRUE(results.begin(4, 0).ok());
  for (const int32_t row : {2, 0, 3}) {
    draw(results.target(), row, 100 + row);
    EXPECT_FALSE(results.complete());
  }
  draw(results.target(), 1, 101);
  ASSERT_TRUE(results.complete());
  StepResult result;
  results.read(rows_of(4, -1), kVocab, result);
  ASSERT_EQ(result.tokens.size(), 4U);
  for (int32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(result.tokens[static_cast<size_t>(i)].token, 100 + i);
    EXPECT_EQ(result.tokens[static_cast<size_t>(i)].sequence, 10 + i);
  }
}

TEST(StepResults, RowsOfTheStepBeforeAreNotThisOnes) {
  StepResults results;
  ASSERT_TRUE(results.prepare(kRows).ok());
  for (int step = 0; step < 3; ++step) {
    ASSERT_TRUE(results.begin(kRows, 0).ok());
    EXPECT_FALSE(results.complete());
    for (int32_t row = 0; row < kRows; ++row) draw(results.target(), row, row);
    EXPECT_TRUE(results.complete());
  }
}

// What was an alternative's token must not be taken for the number of a row's step.
TEST(StepResults, AlternativesNeverLieWhereRowsDo) {
  constexpr int32_t kStride = 4;
  StepResults results;
  ASSERT_TRUE(results.prepare(kRows).ok());
  ASSERT_TRUE(results.begin(1, kStride).ok());
  const uint32_t next = results.target().step + 1;
  for (int32_t t = 0; t < kStride; ++t) {
    results.target().tops[t] = {static_cast<int32_t>(next), std::bit_cast<float>(next)};
  }
  draw(results.target(), 0, 7, -1.0F);
  ASSERT_TRUE(results.complete());
  StepResult result;
  results.read(rows_of(1, 2), kVocab, result);
  ASSERT_EQ(result.tops.size(), 2U);
  EXPECT_EQ(result.tops[1].token, static_cast<int32_t>(next));

  ASSERT_TRUE(results.begin(kRows, 0).ok());
  draw(results.target(), 0, 8);
  EXPECT_FALSE(results.complete());
}

TEST(StepResults, RoomThatGrowsHoldsNothingYet) {
  StepResults results;
  ASSERT_TRUE(results.prepare(kRows).ok());
  for (const int32_t stride : {1, 16, 64}) {
    ASSERT_TRUE(results.begin(kRows, stride).ok());
    EXPECT_FALSE(results.complete());
    for (int32_t t = 0; t < kRows * stride; ++t) results.target().tops[t] = {t, -1.0F};
    for (int32_t row = 0; row < kRows; ++row) draw(results.target(), row, row, -1.0F);
    ASSERT_TRUE(results.complete());
    StepResult result;
    results.read(rows_of(kRows, 1), kVocab, result);
    ASSERT_EQ(result.tops.size(), static_cast<size_t>(kRows));
    EXPECT_EQ(result.tops[3].token, 3 * stride);
  }
}

TEST(StepResults, PoisonedRowsHaveNoAlternatives) {
  StepResults results;
  ASSERT_TRUE(results.prepare(kRows).ok());
  ASSERT_TRUE(results.begin(2, 3).ok());
  draw(results.target(), 0, -1, NAN);
  draw(results.target(), 1, 5, -0.5F);
  StepResult result;
  results.read(rows_of(2, 3), kVocab, result);
  EXPECT_EQ(result.tokens[0].top_count, 0);
  EXPECT_EQ(result.tokens[1].top_count, 3);
}

}  // namespace
}  // namespace troupe::cuda
