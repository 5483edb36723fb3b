#include "kernels/in_process_communicator.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace troupe {
namespace {

Matrix view(std::vector<float>& data, int64_t rows, int64_t cols, int64_t stride) {
  return {data.data(), DType::f32, rows, cols, stride};
}

template <class Body>
void on_every_rank(int32_t size, Body body) {
  auto all = make_in_process_communicators(size);
  std::vector<std::thread> threads;
  for (auto& c : all) threads.emplace_back([&body, &c] { body(*c); });
  for (auto& t : threads) t.join();
}

TEST(InProcessCommunicator, SumsAreEqualOnEveryRankAndInOrder) {
  constexpr int32_t kRanks = 3;
  constexpr int64_t kCols = 5;
  std::vector<std::vector<float>> data(kRanks);
  std::vector<float> expected(7 * kCols);
  for (int32_t r = 0; r < kRanks; ++r) {
    data[static_cast<size_t>(r)].resize(7 * 8, -1.0F);
    for (int64_t i = 0; i < 7; ++i) {
      for (int64_t c = 0; c < kCols; ++c) {
        const float x = 0.1F * static_cast<float>(r + 1) * static_cast<float>(i * kCols + c + 1);
        data[static_cast<size_t>(r)][static_cast<size_t>(i * 8 + c)] = x;
        float& sum = expected[static_cast<size_t>(i * kCols + c)];
        sum = r == 0 ? x : sum + x;
      }
    }
  }
  on_every_rank(kRanks, [&](Communicator& c) {
    c.all_reduce_sum(view(data[static_cast<size_t>(c.rank())], 7, kCols, 8));
  });
  for (const auto& d : data) {
    for (size_t i = 0; i < 7; ++i) {
      for (size_t c = 0; c < kCols; ++c) EXPECT_EQ(d[i * 8 + c], expected[i * kCols + c]);
      EXPECT_EQ(d[i * 8 + kCols], -1.0F);  // the padding of the stride is left alone
    }
  }
}

TEST(InProcessCommunicator, GathersColumnsByRank) {
  constexpr int32_t kRanks = 4;
  std::vector<std::vector<float>> in(kRanks, std::vector<float>(6));
  std::vector<std::vector<float>> out(kRanks, std::vector<float>(2 * 12));
  for (size_t r = 0; r < kRanks; ++r) {
    for (size_t i = 0; i < 6; ++i) in[r][i] = static_cast<float>(r * 10 + i);
  }
  on_every_rank(kRanks, [&](Communicator& c) {
    const auto r = static_cast<size_t>(c.rank());
    for (int round = 0; round < 100; ++round) {
      c.all_gather_columns(view(in[r], 2, 3, 3), view(out[r], 2, 12, 12));
    }
  });
  for (const auto& o : out) {
    for (size_t row = 0; row < 2; ++row) {
      for (size_t c = 0; c < 12; ++c) {
        EXPECT_EQ(o[row * 12 + c], static_cast<float>((c / 3) * 10 + row * 3 + c % 3));
      }
    }
  }
}

TEST(InProcessCommunicator, OneRankKeepsItsOwn) {
  auto all = make_in_process_communicators(1);
  std::vector<float> data = {1, 2};
  all[0]->all_reduce_sum(view(data, 1, 2, 2));
  EXPECT_EQ(data[1], 2.0F);
}

}  // namespace
}  // namespace troupe
