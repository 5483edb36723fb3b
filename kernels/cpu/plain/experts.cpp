#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/plain/plain.hpp"

namespace troupe::cpu::plain {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

std::vector<double> scores_of(RouterScore kind, std::span<const float> logits) {
  std::vector<double> scores(logits.begin(), logits.end());
  if (kind == RouterScore::sigmoid) {
    for (double& s : scores) s = 1.0 / (1.0 + std::exp(-s));
    return scores;
  }
  const double highest = *std::max_element(scores.begin(), scores.end());
  double sum = 0.0;
  for (double& s : scores) sum += s = std::exp(s - highest);
  for (double& s : scores) s /= sum;
  return scores;
}

// Indices of the n largest, the largest first; equal ones in order.
std::vector<int32_t> best_of(std::span<const double> values, int32_t n) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(std::min(n, static_cast<int32_t>(order.size()))));
  return order;
}

// Experts outside the best groups can no longer be chosen.
void limit_to_groups(const RoutingSpec& spec, std::vector<double>& choice) {
  const auto size = choice.size() / static_cast<size_t>(spec.groups);
  std::vector<double> group_scores;
  for (size_t g = 0; g < static_cast<size_t>(spec.groups); ++g) {
    const auto members = std::span<const double>(choice).subspan(g * size, size);
    double score = 0.0;
    for (int32_t m : best_of(members, spec.group_score_top)) score += members[static_cast<size_t>(m)];
    group_scores.push_back(score);
  }
  std::vector<bool> kept(static_cast<size_t>(spec.groups), false);
  for (int32_t g : best_of(group_scores, spec.top_groups)) kept[static_cast<size_t>(g)] = true;
  for (size_t e = 0; e < choice.size(); ++e) {
    if (!kept[std::min(e / size, kept.size() - 1)]) choice[e] = kNever;
  }
}

std::vector<double> linear_row(const LinearWeight& weight, std::span<const double> x) {
  std::vector<double> y;
  for (const LinearPart& part : weight.parts) {
    for (int64_t n = 0; n < part.values.rows; ++n) {
      double sum = part.bias ? double{at(part.bias, 0, n)} : 0.0;
      for (int64_t k = 0; k < part.values.cols; ++k) {
        sum += x[static_cast<size_t>(k)] * double{at(part.values, n, k)};
      }
      y.push_back(sum);
    }
  }
  return y;
}

}  // namespace

Routed route(const RoutingSpec& spec, std::span<const float> logits,
             std::span<const int32_t> forced) {
  const std::vector<double> scores = scores_of(spec.score, logits);
  std::vector<double> choice = scores;
  if (spec.correction) {
    for (size_t e = 0; e < choice.size(); ++e) {
      choice[e] += double{at(spec.correction, 0, static_cast<int64_t>(e))};
    }
  }
  if (spec.groups > 1) limit_to_groups(spec, choice);
  Routed routed;
  routed.experts = best_of(choice, spec.top_k);
  if (!forced.empty()) routed.experts.assign(forced.begin(), forced.end());
  double sum = 0.0;
  for (int32_t e : routed.experts) sum += scores[static_cast<size_t>(e)];
  for (int32_t e : routed.experts) {
    const double share = spec.renormalise ? scores[static_cast<size_t>(e)] / (sum + 1e-20)
                                          : scores[static_cast<size_t>(e)];
    routed.weights.push_back(share * double{spec.scale});
  }
  return routed;
}

void experts(const Batch&, const ExpertsArgs& a) {
  const auto top_k = static_cast<size_t>(a.routing->top_k);
  const auto local_count = static_cast<int32_t>(a.gate_up.size());
  for (int64_t r = 0; r < a.input.rows; ++r) {
    const std::span<const float> logits(a.router_logits.row<float>(r),
                                        static_cast<size_t>(a.routing->experts));
    const auto forced = a.forced.empty() ? a.forced
                                         : a.forced.subspan(static_cast<size_t>(r) * top_k, top_k);
    const Routed routed = route(*a.routing, logits, forced);
    std::vector<double> x;
    for (int64_t c = 0; c < a.input.cols; ++c) x.push_back(double{at(a.input, r, c)});
    std::vector<double> sum(static_cast<size_t>(a.output.cols), 0.0);
    for (size_t i = 0; i < routed.experts.size(); ++i) {
      const int32_t local = routed.experts[i] - a.first_expert;
      if (local < 0 || local >= local_count) continue;
      const auto gate_up = linear_row(a.gate_up[static_cast<size_t>(local)], x);
      const size_t n = gate_up.size() / 2;
      std::vector<double> inner(n);
      for (size_t c = 0; c < n; ++c) inner[c] = activate(a.activation, gate_up[c]) * gate_up[n + c];
      const auto y = linear_row(a.down[static_cast<size_t>(local)], inner);
      for (size_t c = 0; c < sum.size(); ++c) sum[c] += routed.weights[i] * y[c];
    }
    for (size_t c = 0; c < sum.size(); ++c) {
      put(a.output, r, static_cast<int64_t>(c), static_cast<float>(sum[c]));
    }
  }
}

}  // namespace troupe::cpu::plain
