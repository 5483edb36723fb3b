// Several ways to do the same, timed side by side: in turn, round by round, for the chip grows warm
// and slow meanwhile. Medians count, not bests: a way that is quick now and then is not quick.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace troupe::cuda {

constexpr double kNever = 1e30;  // milliseconds of what cannot run

struct RaceRules {
  size_t rounds = 3;  // for all that are not `far` behind the best
  double far = 1.1;
  size_t rounds_close = 11;  // for those that are not even so far behind
  double close = 1.05;
};

// Milliseconds of each way, turn(way) those of one turn; kNever for what fell behind.
std::vector<double> race(size_t ways, const RaceRules& rules,
                         const std::function<double(size_t)>& turn);

}  // namespace troupe::cuda
