// Executors that are fed with the times of steps on cores of which some are slow.
#include "engine/core_choice.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

namespace troupe::engine {
namespace {

constexpr int64_t kWarm = 15'000, kCold = 48'000;
// Of a core just come to.
constexpr int32_t kWindow = CoreChoice::kWindowSteps + CoreChoice::kSettleSteps;

// A machine whose cores are as slow as it says, and a thread that decodes on it.
class Stage final : public Cores {
 public:
  explicit Stage(std::vector<int64_t> ns) : ns_(std::move(ns)) {}
  [[nodiscard]] int32_t now() const override { return core; }
  [[nodiscard]] std::vector<int32_t> others() override {
    ++looks;
    std::vector<int32_t> cores;
    for (int32_t i = 0; i < static_cast<int32_t>(ns_.size()); ++i) {
      if (i != core) cores.push_back(i);
    }
    return cores;
  }
  bool go(int32_t to) override {
    if (closed) return false;
    core = to;
    visits.push_back(to);
    return true;
  }
  void decode(int32_t steps, int32_t sequences = 64) {
    for (int32_t i = 0; i < steps; ++i) {
      const size_t before = visits.size();
      const bool moved = choice.note(time(), sequences);
      EXPECT_EQ(moved, visits.size() != before);
    }
  }
  void make(int32_t which, int64_t ns) { ns_[static_cast<size_t>(which)] = ns; }
  // Each step differs by up to so many hundredths, one in 20 was interrupted.
  void make_noise(int32_t percent) { noise_ = percent; }

  int32_t core = 0;
  bool closed = false;
  int looks = 0;
  std::vector<int32_t> visits;
  CoreChoice choice{*this};

 private:
  int64_t time() {
    const int64_t ns = ns_[static_cast<size_t>(core)];
    if (noise_ == 0) return ns;
    if (random_() % 20 == 0) return ns + 3'000'000;
    return ns + ns * static_cast<int64_t>(random_() % static_cast<uint64_t>(2 * noise_ + 1)) / 100 -
           ns * noise_ / 100;
  }
  std::vector<int64_t> ns_;
  int32_t noise_ = 0;
  std::mt19937_64 random_{7};
};

using List = std::vector<int32_t>;

TEST(CoreChoice, StaysOnACoreOfItsOwn) {
  Stage stage({kWarm, kWarm, kWarm, kWarm});
  stage.decode(100'000);
  EXPECT_EQ(stage.visits, List{});
  EXPECT_EQ(stage.looks, 0) << "nothing is looked at while all is well";
}

TEST(CoreChoice, LeavesASlowCoreWithinAWindow) {
  Stage stage({kCold, kWarm, kWarm, kWarm});
  stage.decode(kWindow);
  EXPECT_EQ(stage.visits, List{}) << "the first step on a core only shows where it is";
  stage.decode(1);
  EXPECT_EQ(stage.visits, (List{1}));
  stage.decode(100'000);
  EXPECT_EQ(stage.visits, (List{1}));
}

TEST(CoreChoice, GoesOnUntilOneIsFast) {
  Stage stage({kCold, kCold, kCold, kWarm, kWarm});
  stage.decode(5 * kWindow);
  EXPECT_EQ(stage.visits, (List{1, 2, 3}));
}

TEST(CoreChoice, KeepsTheBestOfThoseThatAreSlow) {
  Stage stage({kCold, 60'000, 30'000, 59'000, 58'000, 50'000});
  stage.decode(6 * kWindow);
  EXPECT_EQ(stage.visits, (List{1, 2, 3, 4, 2}));
}

TEST(CoreChoice, GoesHomeWhereNoneIsClearlyBetter) {
  Stage stage({kCold, kCold + 1000, kCold - 1000, kCold, kCold - 4000});
  stage.decode(6 * kWindow);
  EXPECT_EQ(stage.visits, (List{1, 2, 3, 4, 0}));
}

TEST(CoreChoice, TriesFourAtATimeThoseThatWereNeverTriedFirst) {
  Stage stage(std::vector<int64_t>(16, kCold));
  stage.make(7, kWarm);
  stage.decode(40 * kWindow);
  EXPECT_EQ(stage.visits, (List{1, 2, 3, 4, 0, 5, 6, 7}));
}

TEST(CoreChoice, SettlesWhereAllAreSlow) {
  Stage stage(std::vector<int64_t>(16, kCold));
  constexpr int kSteps = 1'000'000;
  stage.decode(kSteps);
  // Pauses double up to their most, and each round is four moves away and one home.
  EXPECT_GT(stage.visits.size(), 20U);
  constexpr int kLongestPause = CoreChoice::kWindowSteps * CoreChoice::kPauseMost;
  EXPECT_LT(stage.visits.size(), 5U * (10 + kSteps / kLongestPause));
  std::map<int32_t, int> seen;
  for (const int32_t core : stage.visits) ++seen[core];
  EXPECT_EQ(seen.size(), 16U) << "every core had its turn";
  EXPECT_EQ(stage.core, 0);
}

TEST(CoreChoice, ANeighbourThatComesLaterIsLeftToo) {
  Stage stage({kWarm, kWarm, kWarm});
  stage.decode(50'000);
  stage.make(0, kCold);
  stage.decode(3 * kWindow);
  EXPECT_EQ(stage.visits, (List{1}));
  stage.make(1, kCold);
  stage.decode((CoreChoice::kPauseLeast + 1) * CoreChoice::kWindowSteps);
  EXPECT_EQ(stage.visits, (List{1, 2})) << "not back to the one that it has left";
}

TEST(CoreChoice, NoiseNeitherMovesNorHolds) {
  for (const int32_t noise : {10, 50, 90}) {
    Stage warm({kWarm, kWarm, kWarm, kWarm});
    warm.make_noise(noise);
    warm.decode(50'000);
    EXPECT_EQ(warm.visits, List{}) << noise;
    Stage cold({kCold, kWarm, kWarm, kWarm});
    cold.make_noise(noise);
    cold.decode(2'000);
    ASSERT_FALSE(cold.visits.empty());
    EXPECT_NE(cold.core, 0) << noise;
  }
}

TEST(CoreChoice, AnInterruptedStepIsNoSlowCore) {
  Stage stage({kWarm, kWarm, kWarm});
  for (int i = 0; i < 10'000; ++i) {
    stage.decode(CoreChoice::kWindowSteps - 2);
    for (int twice = 0; twice < 2; ++twice) EXPECT_FALSE(stage.choice.note(50'000'000, 64));
  }
  EXPECT_EQ(stage.visits, List{});
}

TEST(CoreChoice, ManySequencesMayTakeLonger) {
  Stage stage({32'000, 10'000, 10'000});
  stage.decode(10'000, 256);
  EXPECT_EQ(stage.visits, List{});
  stage.decode(2 * kWindow, 8);
  EXPECT_EQ(stage.visits, (List{1}));
}

TEST(CoreChoice, WindowsHoldStepsOfOneSizeOnly) {
  Stage stage({kCold, kWarm, kWarm});
  for (int i = 0; i < 1'000; ++i) {
    stage.decode(CoreChoice::kWindowSteps / 2, 64);
    stage.decode(CoreChoice::kWindowSteps / 2, 8);
  }
  EXPECT_EQ(stage.visits, List{});
  for (int i = 0; i < 64; ++i) stage.decode(1, 64 - i % 8);
  EXPECT_EQ(stage.visits, (List{1})) << "a few more or fewer are alike";
}

TEST(CoreChoice, GoesHomeWhenTheWorkChangesInARound) {
  Stage stage({kCold, 40'000, kWarm});
  stage.decode(kWindow + 1);
  ASSERT_EQ(stage.visits, (List{1}));
  stage.decode(1, 8);
  EXPECT_EQ(stage.visits, (List{1, 0}));
  stage.decode(CoreChoice::kPauseLeast * CoreChoice::kWindowSteps, 8);
  EXPECT_EQ(stage.visits, (List{1, 0})) << "and that was a round";
  stage.decode(2 * kWindow, 8);
  EXPECT_EQ(stage.visits, (List{1, 0, 2}));
}

TEST(CoreChoice, TheSystemsOwnMovesBeginAWindowAnew) {
  Stage stage({kCold, kCold, kCold});
  for (int i = 0; i < 1'000; ++i) {
    stage.decode(CoreChoice::kWindowSteps / 2);
    stage.core = (stage.core + 1) % 3;
  }
  EXPECT_EQ(stage.visits, List{});
}

TEST(CoreChoice, StaysWhereItMayNotGo) {
  Stage stage({kCold, kWarm, kWarm, kWarm, kWarm, kWarm});
  stage.closed = true;
  stage.decode(100'000);
  EXPECT_EQ(stage.core, 0);
  EXPECT_LE(stage.looks, 12);
  Stage alone({kCold});
  alone.decode(100'000);
  EXPECT_EQ(alone.visits, List{});
  EXPECT_LE(alone.looks, 12) << "looking is not for every window";
}

}  // namespace
}  // namespace troupe::engine
