#include "kernels/cuda/race.hpp"

#include <algorithm>
#include <numeric>

namespace troupe::cuda {
namespace {

double quickest(const std::vector<double>& times) {
  return *std::min_element(times.begin(), times.end());
}

double median(std::vector<double> times) {
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

}  // namespace

std::vector<double> race(size_t ways, const RaceRules& rules,
                         const std::function<double(size_t)>& turn) {
  std::vector<std::vector<double>> times(ways);
  std::vector<size_t> running(ways);
  std::iota(running.begin(), running.end(), size_t{0});
  double best = kNever;
  for (size_t round = 1; round <= rules.rounds_close; ++round) {
    if (round > rules.rounds && running.size() < 2) break;
    for (const size_t way : running) {
      times[way].push_back(turn(way));
      best = std::min(best, times[way].back());
    }
    const double behind = best * (round < rules.rounds ? rules.far : rules.close);
    std::erase_if(running, [&](size_t way) { return quickest(times[way]) > behind; });
  }
  std::vector<double> medians(ways, kNever);
  for (const size_t way : running) medians[way] = median(times[way]);
  return medians;
}

}  // namespace troupe::cuda
