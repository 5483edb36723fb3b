#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/philox.hpp"
#include "kernels/cpu/plain/plain.hpp"
#include "kernels/cpu/sample_rules.hpp"

namespace troupe::cpu::plain {
namespace {

// Token ids by falling logit; equal ones by id.
std::vector<int32_t> by_logit(std::span<const float> logits) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  return order;
}

// Temperature, top-k, top-p, min-p, then the draw: the first token, in order of ids, at which the
// kept probabilities add up to more than the uniform number. -1: nothing is allowed.
int32_t draw(const PlanSampling& s, std::span<const float> logits) {
  std::vector<int32_t> kept = by_logit(logits);
  const float highest = logits[static_cast<size_t>(kept.front())];
  if (!(highest > -std::numeric_limits<float>::infinity())) return -1;
  if (s.temperature <= 0.0F) return kept.front();
  if (s.top_k > 0) kept.resize(std::min(kept.size(), static_cast<size_t>(s.top_k)));
  std::vector<double> weights;
  for (int32_t t : kept) {
    const double logit = double{logits[static_cast<size_t>(t)]};
    weights.push_back(std::exp((logit - double{highest}) / double{s.temperature}));
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  size_t count = 0;
  double before = 0.0;
  while (count < kept.size()) {  // a token stays while those above it have not reached top-p
    if (count > 0 && (before >= double{s.top_p} * total || weights[count] < double{s.min_p})) break;
    before += weights[count++];
  }
  kept.resize(count);
  std::vector<double> by_id(logits.size(), 0.0);
  for (size_t i = 0; i < count; ++i) by_id[static_cast<size_t>(kept[i])] = weights[i];
  const double goal = double{token_uniform(s.seed, s.choice, s.position)} * before;
  double sum = 0.0;
  int32_t last = -1;
  for (size_t t = 0; t < by_id.size(); ++t) {
    if (by_id[t] <= 0.0) continue;
    last = static_cast<int32_t>(t);
    sum += by_id[t];
    if (sum > goal) break;
  }
  return last;
}

// Logprob and rank of `token`, and the most likely ones, under the raw distribution.
void report(const PlanLogitRow& wanted, std::span<const float> raw, int32_t token,
            StepToken& out, std::vector<StepTop>& tops) {
  double highest = -std::numeric_limits<double>::infinity();
  for (float x : raw) highest = std::max(highest, double{x});
  double sum = 0.0;
  for (float x : raw) sum += std::exp(double{x} - highest);
  const double log_sum = highest + std::log(sum);
  if (token >= 0 && static_cast<size_t>(token) < raw.size()) {
    const float own = raw[static_cast<size_t>(token)];
    out.logprob = static_cast<float>(double{own} - log_sum);
    out.rank = 1 + static_cast<int32_t>(std::count_if(raw.begin(), raw.end(),
                                                      [own](float x) { return x > own; }));
  }
  const auto order = by_logit(raw);
  out.top_begin = static_cast<int32_t>(tops.size());
  out.top_count = std::min(wanted.top_n, static_cast<int32_t>(raw.size()));
  for (int32_t i = 0; i < out.top_count; ++i) {
    const int32_t t = order[static_cast<size_t>(i)];
    tops.push_back({t, static_cast<float>(double{raw[static_cast<size_t>(t)]} - log_sum)});
  }
}

}  // namespace

void sample(const Batch& batch, std::span<SlotState> slots, const SampleArgs& a,
            StepResult& result) {
  const PlanView& plan = batch.plan;
  take_histories(plan, slots);
  for (size_t i = 0; i < plan.logit_rows().size(); ++i) {
    const PlanLogitRow& wanted = plan.logit_rows()[i];
    std::span<float> logits(a.logits.row<float>(static_cast<int64_t>(i)),
                            static_cast<size_t>(a.logits.cols));
    StepToken out;
    out.sequence = wanted.sequence;
    bool poisoned = false;
    for (float& x : logits) {
      x *= a.scale;
      if (a.softcap > 0.0F) x = a.softcap * std::tanh(x / a.softcap);
      poisoned = poisoned || std::isnan(x);
    }
    const std::vector<float> raw(logits.begin(), logits.end());
    if (wanted.sampling >= 0 && !poisoned) {
      const PlanSampling& s = plan.sampling()[static_cast<size_t>(wanted.sampling)];
      SlotState& slot = slots[static_cast<size_t>(s.slot)];
      apply_rules(plan, s, slot, a.grammar_mask, logits);
      out.token = draw(s, logits);
      if (out.token >= 0) slot.append(out.token);
      if (out.token >= 0 && has_penalties(s)) slot.counts.add(out.token, true);
    }
    const int32_t scored = wanted.target >= 0 ? wanted.target : out.token;
    if (poisoned) out.logprob = std::numeric_limits<float>::quiet_NaN();
    if (wanted.top_n >= 0 && !poisoned) report(wanted, raw, scored, out, result.tops);
    result.tokens.push_back(out);
  }
}

}  // namespace troupe::cpu::plain
