// Who wins among ways whose turns are given.
#include "kernels/cuda/race.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace troupe::cuda {
namespace {

// Ways whose turns take what is written down, over and over.
struct Script {
  std::vector<std::vector<double>> turns;
  std::vector<size_t> taken = std::vector<size_t>(turns.size());
  double operator()(size_t way) { return turns[way][taken[way]++ % turns[way].size()]; }
};

std::vector<double> run(Script& script, const RaceRules& rules = {}) {
  return race(script.turns.size(), rules, [&](size_t way) { return script(way); });
}

TEST(Race, AWayThatIsQuickNowAndThenDoesNotWin) {
  Script script{{{1.04, 1.04, 0.995, 1.04, 1.04}, {1.0, 1.01}}};
  const std::vector<double> times = run(script);
  EXPECT_DOUBLE_EQ(times[0], 1.04);
  EXPECT_LT(times[1], 1.02);
}

TEST(Race, WhatIsFarBehindIsTimedOnce) {
  Script script{{{1.0}, {1.2}, {1.01}}};
  const std::vector<double> times = run(script);
  EXPECT_EQ(script.taken[1], 1U);
  EXPECT_EQ(times[1], kNever);
}

TEST(Race, WhatIsNotCloseLeavesBeforeTheRoundsOfThoseThatAre) {
  Script script{{{1.0}, {1.08}, {1.01}}};
  const std::vector<double> times = run(script);
  EXPECT_EQ(script.taken, (std::vector<size_t>{11, 3, 11}));
  EXPECT_EQ(times[1], kNever);
  EXPECT_DOUBLE_EQ(times[2], 1.01);
}

TEST(Race, OneThatIsLeftNeedsNoMoreRounds) {
  Script script{{{1.0}, {1.08}}};
  EXPECT_DOUBLE_EQ(run(script)[0], 1.0);
  EXPECT_EQ(script.taken, (std::vector<size_t>{3, 3}));
}

TEST(Race, WhatIsCloseHasTheRoundsThatItIsGiven) {
  Script script{{{1.0}, {1.01}}};
  RaceRules rules;
  rules.rounds_close = rules.rounds;
  run(script, rules);
  EXPECT_EQ(script.taken, (std::vector<size_t>{3, 3}));
}

TEST(Race, WhatCannotRunNeverWins) {
  Script script{{{kNever}, {1.0, kNever, 1.0}, {kNever}}};
  const std::vector<double> times = run(script);
  EXPECT_EQ(times[0], kNever);
  EXPECT_DOUBLE_EQ(times[1], 1.0);
  Script none{{{kNever}, {kNever}}};
  EXPECT_EQ(run(none), (std::vector<double>{kNever, kNever}));
  Script empty{{}};
  EXPECT_TRUE(run(empty).empty());
}

}  // namespace
}  // namespace troupe::cuda
