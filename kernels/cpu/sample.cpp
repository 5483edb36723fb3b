// sample: the definition of kernels/cpu/plain/sample.cpp without sorting whole vocabularies. A row
// is weighed once; for top-k and top-p its tokens are counted by bands of probability, and only
// the bands that can matter are sorted.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/philox.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/sample_kernels.hpp"
#include "kernels/cpu/sample_rules.hpp"

namespace troupe::cpu {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

struct Candidate {
  float weight = 0.0F;
  int32_t token = 0;
};

// Scratch of one thread, vocab elements each.
struct Room {
  float* raw = nullptr;
  float* weights = nullptr;
  Candidate* candidates = nullptr;
};

// Weights, relative to the highest, fall into bands a factor of e^(1/16) wide.
constexpr int32_t kBands = 1024;
int32_t band_of(float weight) {
  if (!(weight > 0.0F)) return kBands - 1;
  return std::min(static_cast<int32_t>(-16.0F * std::log(weight)), kBands - 1);
}

// The least weight that top-k and top-p can keep, found by counting bands; a little low is fine.
float least_weight(std::span<const float> weights, const PlanSampling& s, double total) {
  struct Band {
    int64_t count = 0;
    double mass = 0.0;
  };
  // Most of a vocabulary weighs next to nothing: it cannot be reached by top-p, so that only a
  // large top-k looks there, and then takes everything.
  constexpr float kNothing = 1e-9F;
  Band bands[kBands];
  const auto n = static_cast<int64_t>(weights.size());
  for (int64_t i = next_greater(weights, 0, kNothing); i < n; i = next_greater(weights, i + 1, kNothing)) {
    const float w = weights[static_cast<size_t>(i)];
    Band& band = bands[band_of(w)];
    ++band.count;
    band.mass += double{w};
  }
  const int64_t wanted = s.top_k > 0 ? s.top_k : n;
  int64_t count = 0;
  double mass = 0.0;
  for (int32_t b = 0; b < kBands; ++b) {
    count += bands[b].count;
    mass += bands[b].mass;
    // Top-p is a share of what top-k keeps: with a top-k, all that it keeps must be here.
    const bool enough = s.top_k > 0 ? count >= wanted : mass >= double{s.top_p} * total * (1.0 + 1e-6);
    if (enough) {
      return std::exp(-static_cast<float>(b + 1) / 16.0F) * 0.999F;
    }
  }
  return 0.0F;
}

// The first token, in order of ids, at which the kept weights add up to more than `goal`.
int32_t pick(std::span<const float> weights, float least, double goal) {
  double sum = 0.0;
  int32_t last = -1;
  const auto n = static_cast<int64_t>(weights.size());
  const float bound = std::nextafter(least, -1.0F);
  for (int64_t i = next_greater(weights, 0, bound); i < n; i = next_greater(weights, i + 1, bound)) {
    if (weights[static_cast<size_t>(i)] <= 0.0F) continue;
    last = static_cast<int32_t>(i);
    sum += double{weights[static_cast<size_t>(i)]};
    if (sum > goal) break;
  }
  return last;
}

// Top-k, top-p and min-p over the candidates; those kept come first, in order of ids.
size_t keep(const PlanSampling& s, std::span<Candidate> sorted, double total) {
  size_t limit = sorted.size();
  if (s.top_k > 0 && static_cast<size_t>(s.top_k) <= limit) {
    limit = static_cast<size_t>(s.top_k);
    total = 0.0;
    for (const Candidate& c : sorted.first(limit)) total += double{c.weight};
  }
  size_t count = 0;
  double before = 0.0;
  while (count < limit) {
    const float w = sorted[count].weight;
    if (count > 0 && (before >= double{s.top_p} * total || w < s.min_p)) break;
    before += double{w};
    ++count;
  }
  std::sort(sorted.begin(), sorted.begin() + static_cast<int64_t>(count),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  return count;
}

int32_t draw(const PlanSampling& s, std::span<const float> logits, const Room& room) {
  const float highest = highest_of(logits);
  if (!(highest > kForbidden)) return -1;
  if (s.temperature <= 0.0F) return static_cast<int32_t>(first_equal(logits, highest));
  const double total = sum_of_exponentials(logits, highest, s.temperature, room.weights);
  const std::span<const float> weights(room.weights, logits.size());
  const double uniform = double{token_uniform(s.seed, s.choice, s.position)};
  if (s.top_k <= 0 && s.top_p >= 1.0F) {
    double kept = total;
    if (s.min_p > 0.0F) {
      kept = 0.0;
      const float bound = std::nextafter(s.min_p, -1.0F);
      const auto n = static_cast<int64_t>(weights.size());
      for (int64_t i = next_greater(weights, 0, bound); i < n; i = next_greater(weights, i + 1, bound)) {
        kept += double{weights[static_cast<size_t>(i)]};
      }
    }
    return pick(weights, s.min_p, uniform * kept);
  }
  const float least = least_weight(weights, s, total);
  size_t count = 0;
  const auto n = static_cast<int64_t>(weights.size());
  const float bound = std::nextafter(least, -1.0F);
  for (int64_t i = next_greater(weights, 0, bound); i < n; i = next_greater(weights, i + 1, bound)) {
    room.candidates[count++] = {weights[static_cast<size_t>(i)], static_cast<int32_t>(i)};
  }
  const std::span<Candidate> sorted(room.candidates, count);
  // A peaked row has fewer than top-k tokens of any weight, and then all of them are candidates.
  const size_t wanted = s.top_k > 0 ? std::min(count, static_cast<size_t>(s.top_k)) : count;
  const auto heavier = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  };
  if (wanted < count / 8) {
    std::partial_sort(sorted.begin(), sorted.begin() + static_cast<int64_t>(wanted), sorted.end(), heavier);
  } else {
    std::sort(sorted.begin(), sorted.end(), heavier);
  }
  const auto kept = sorted.first(keep(s, sorted.first(wanted), total));
  double mass = 0.0;
  for (const Candidate& c : kept) mass += double{c.weight};
  double sum = 0.0;
  for (const Candidate& c : kept) {
    sum += double{c.weight};
    if (sum > uniform * mass) return c.token;
  }
  return kept.back().token;
}

// The n most likely tokens, the most likely first, equal ones by id.
void find_tops(std::span<const float> raw, double log_sum, std::span<StepTop> tops) {
  if (tops.empty()) return;
  const auto better = [](const StepTop& a, const StepTop& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
  };
  size_t held = 0;  // a heap whose front is the worst held
  const auto n = static_cast<int64_t>(raw.size());
  for (int64_t i = 0; i < n; ++i) {
    if (held == tops.size()) i = next_greater(raw, i, tops.front().logprob);
    if (i == n) break;
    const StepTop found{static_cast<int32_t>(i), raw[static_cast<size_t>(i)]};
    if (held == tops.size()) std::pop_heap(tops.begin(), tops.end(), better);
    else ++held;
    tops[held - 1] = found;
    std::push_heap(tops.begin(), tops.begin() + static_cast<int64_t>(held), better);
  }
  std::sort(tops.begin(), tops.end(), better);
  for (StepTop& t : tops) t.logprob = static_cast<float>(double{t.logprob} - log_sum);
}

void sample_row(const Batch& batch, const PlanLogitRow& wanted, std::span<SlotState> slots,
                const SampleArgs& a, std::span<float> logits, const Room& room, StepToken& out,
                std::span<StepTop> tops) {
  const RowRange range = scale_and_cap(logits, a.scale, a.softcap);
  if (range.poisoned) {
    out.logprob = std::numeric_limits<float>::quiet_NaN();
    out.top_count = 0;
    return;
  }
  const bool reports = wanted.top_n >= 0;
  std::span<const float> raw(logits.data(), logits.size());
  if (reports && wanted.sampling >= 0) {
    std::copy(logits.begin(), logits.end(), room.raw);
    raw = {room.raw, logits.size()};
  }
  if (wanted.sampling >= 0) {
    const PlanSampling& s = batch.plan.sampling()[static_cast<size_t>(wanted.sampling)];
    SlotState& slot = slots[static_cast<size_t>(s.slot)];
    apply_rules(batch.plan, s, slot, a.grammar_mask, logits);
    out.token = draw(s, logits, room);
    if (out.token >= 0) slot.append(out.token);
    if (out.token >= 0 && has_penalties(s)) slot.counts.add(out.token, true);
  }
  if (!reports) return;
  const double log_sum = double{range.highest} + std::log(sum_of_exponentials(raw, range.highest, 1.0F, nullptr));
  const int32_t scored = wanted.target >= 0 ? wanted.target : out.token;
  if (scored >= 0 && static_cast<size_t>(scored) < raw.size()) {
    const float own = raw[static_cast<size_t>(scored)];
    out.logprob = static_cast<float>(double{own} - log_sum);
    out.rank = 1 + static_cast<int32_t>(count_greater(raw, own));
  }
  find_tops(raw, log_sum, tops);
}

// Two rows of one slot follow one another: the second must see what the first drew.
bool rows_share_slots(const PlanView& plan) {
  const auto rows = plan.logit_rows();
  for (size_t i = 1; i < rows.size(); ++i) {
    if (rows[i].sequence == rows[i - 1].sequence) return true;
  }
  return false;
}

}  // namespace

void sample(Context& c, const Batch& batch, std::span<SlotState> slots, const SampleArgs& a,
            StepResult& result) {
  const auto rows = batch.plan.logit_rows();
  const auto vocab = static_cast<size_t>(a.logits.cols);
  take_histories(batch.plan, slots);
  int32_t tops = 0;
  result.tokens.resize(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    StepToken& out = result.tokens[i] = {};
    out.sequence = rows[i].sequence;
    out.top_begin = tops;
    out.top_count = std::clamp(rows[i].top_n, 0, static_cast<int32_t>(vocab));
    tops += out.top_count;
  }
  result.tops.resize(static_cast<size_t>(tops));
  const auto lines = static_cast<int64_t>((vocab + 15) / 16 * 16);
  const auto threads = int64_t{c.pool.threads()};
  float* floats = c.scratch.get<float>(Use::sample_rows, 2 * lines * threads);
  Candidate* candidates = c.scratch.get<Candidate>(Use::sample_threads, lines * threads);
  const auto one = [&](int32_t row, int32_t thread) {
    const Room room{floats + 2 * lines * thread, floats + (2 * thread + 1) * lines,
                    candidates + lines * thread};
    StepToken& out = result.tokens[static_cast<size_t>(row)];
    const auto own_tops = std::span<StepTop>(result.tops).subspan(
        static_cast<size_t>(out.top_begin), static_cast<size_t>(out.top_count));
    sample_row(batch, rows[static_cast<size_t>(row)], slots, a,
               {a.logits.row<float>(row), vocab}, room, out, own_tops);
  };
  if (rows_share_slots(batch.plan)) {
    for (size_t i = 0; i < rows.size(); ++i) one(static_cast<int32_t>(i), 0);
  } else {
    c.pool.run(static_cast<int64_t>(rows.size()), one);
  }
}

}  // namespace troupe::cpu
