// Thousands of small worlds (simulator.hpp). A failure prints its seed and its trace.
#include "engine/simulator.hpp"

#include <gtest/gtest.h>

namespace troupe::engine {
namespace {

constexpr uint64_t kSeeds = 4000;

TEST(Simulator, EverySeedKeepsEveryPromise) {
  SimulationReport sum;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const SimulationReport r = simulate(seed, false);
    sum.requests += r.requests;
    sum.preemptions += r.preemptions;
    sum.restarts += r.restarts;
    sum.cached_tokens += r.cached_tokens;
    sum.speculative_dropped += r.speculative_dropped;
    sum.seen += r.seen;
    sum.sung.steps += r.sung.steps;
    sum.sung.cancels += r.sung.cancels;
    sum.sung.cuts += r.sung.cuts;
    sum.sung.crashes += r.sung.crashes;
    sum.sung.preemptions += r.sung.preemptions;
    if (r.ok) continue;
    const std::string trace = simulate(seed, true).trace;
    const size_t from = trace.size() > 6000 ? trace.find('\n', trace.size() - 6000) + 1 : 0;
    FAIL() << "seed " << seed << ": " << r.failure << "\nthe end of its trace (dev/sim --seed "
           << seed << " shows all of it):\n" << trace.substr(from);
  }
  // The worlds are not all paradise: what is to be survived does happen.
  EXPECT_GT(sum.requests, static_cast<int64_t>(kSeeds * 5));
  EXPECT_GT(sum.preemptions, static_cast<int64_t>(kSeeds / 4));
  EXPECT_GT(sum.restarts, static_cast<int64_t>(kSeeds / 10));
  EXPECT_GT(sum.cached_tokens, static_cast<int64_t>(kSeeds * 10));
  EXPECT_GT(sum.seen, static_cast<int64_t>(kSeeds)) << "requests with pictures";
  EXPECT_GT(sum.speculative_dropped, static_cast<int64_t>(kSeeds / 4));
  EXPECT_GT(sum.sung.steps, static_cast<int64_t>(kSeeds * 10));
  EXPECT_GT(sum.sung.cancels, static_cast<int64_t>(kSeeds / 40));
  EXPECT_GT(sum.sung.cuts, static_cast<int64_t>(kSeeds / 10));
  EXPECT_GT(sum.sung.crashes, static_cast<int64_t>(kSeeds / 40));
  EXPECT_GT(sum.sung.preemptions, static_cast<int64_t>(kSeeds / 40));
  testing::Test::RecordProperty("sung", std::to_string(sum.sung.steps));
}

TEST(Simulator, TheSameSeedIsTheSameWorld) {
  const SimulationReport a = simulate(17, true), b = simulate(17, true);
  EXPECT_EQ(a.trace, b.trace);
  EXPECT_FALSE(a.trace.empty());
}

}  // namespace
}  // namespace troupe::engine
