#include "kernels/cpu/routing.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/cpu/half.hpp"

namespace troupe::cpu {
namespace {

// The n best of the values, the best first and equal ones in order, at the front of `order`.
std::span<const int32_t> best_of(std::span<const double> values, int32_t n, int32_t* order) {
  const std::span<int32_t> all(order, values.size());
  std::iota(all.begin(), all.end(), 0);
  const auto count = std::min(static_cast<size_t>(n), all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<int64_t>(count), all.end(),
                    [values](int32_t a, int32_t b) {
                      const double x = values[static_cast<size_t>(a)];
                      const double y = values[static_cast<size_t>(b)];
                      return x > y || (x == y && a < b);
                    });
  return all.first(count);
}

void score(RouterScore kind, std::span<const float> logits, std::span<double> scores) {
  if (kind == RouterScore::sigmoid) {
    for (size_t e = 0; e < scores.size(); ++e) scores[e] = 1.0 / (1.0 + std::exp(-double{logits[e]}));
    return;
  }
  const double highest = double{*std::max_element(logits.begin(), logits.end())};
  double sum = 0.0;
  for (size_t e = 0; e < scores.size(); ++e) sum += scores[e] = std::exp(double{logits[e]} - highest);
  for (double& s : scores) s /= sum;
}

// Experts outside the best groups can no longer be chosen.
void limit_to_groups(const RoutingSpec& spec, std::span<double> choice, const RoutingRoom& room) {
  const auto groups = static_cast<size_t>(spec.groups);
  const size_t size = choice.size() / groups;
  const std::span<double> scores(room.groups, groups);
  for (size_t g = 0; g < groups; ++g) {
    const auto members = choice.subspan(g * size, size);
    scores[g] = 0.0;
    for (int32_t m : best_of(members, spec.group_score_top, room.order)) {
      scores[g] += members[static_cast<size_t>(m)];
    }
  }
  // A group that is kept has its score set apart.
  constexpr double kKept = std::numeric_limits<double>::infinity();
  for (int32_t g : best_of(scores, spec.top_groups, room.order)) scores[static_cast<size_t>(g)] = kKept;
  for (size_t e = 0; e < choice.size(); ++e) {
    if (scores[std::min(e / size, groups - 1)] != kKept) choice[e] = -kKept;
  }
}

}  // namespace

void route(const RoutingSpec& spec, std::span<const float> logits, std::span<const int32_t> forced,
           const RoutingRoom& room, std::span<int32_t> experts, std::span<float> weights) {
  const std::span<double> scores(room.scores, logits.size());
  const std::span<double> choice(room.choice, logits.size());
  score(spec.score, logits, scores);
  std::copy(scores.begin(), scores.end(), choice.begin());
  if (spec.correction) {
    for (size_t e = 0; e < choice.size(); ++e) {
      choice[e] += double{at(spec.correction, 0, static_cast<int64_t>(e))};
    }
  }
  if (spec.groups > 1) limit_to_groups(spec, choice, room);
  std::fill(experts.begin(), experts.end(), -1);
  const auto chosen = forced.empty() ? best_of(choice, spec.top_k, room.order) : forced;
  std::copy(chosen.begin(), chosen.end(), experts.begin());
  double sum = 0.0;
  for (int32_t e : chosen) sum += scores[static_cast<size_t>(e)];
  const double scale = double{spec.scale} / (spec.renormalise ? sum + 1e-20 : 1.0);
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = experts[i] < 0 ? 0.0F
                                : static_cast<float>(scores[static_cast<size_t>(experts[i])] * scale);
  }
}

}  // namespace troupe::cpu
