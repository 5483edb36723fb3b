// Cases of sampling. Tokens must be equal; logprobs nearly so. Where a draw falls between two tokens
// within rounding a backend may take either, so draws are compared by their share of agreement.
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/ops_suite/cases.hpp"
#include "kernels/ops_suite/lab.hpp"
#include "kernels/ops_suite/plans.hpp"

namespace troupe::ops_suite {
namespace {

constexpr int32_t kSlots = 16;

// One sequence of one row, and one logit row, for every slot.
struct Drawing {
  StepPlanDraft draft;
  int32_t vocab = 0;

  Drawing(Lab& lab, int32_t vocab_size) : vocab(vocab_size) {
    lab.reserve(kSlots, 64, 64, vocab);
  }
  PlanSampling& add(int32_t slot) {
    add_sequence(draft, {.slot = slot, .rows = 1, .past = 7});
    const auto row = static_cast<int32_t>(draft.token_ids.size()) - 1;
    PlanLogitRow wanted;
    wanted.row = row;
    wanted.sequence = static_cast<int32_t>(draft.sequences.size()) - 1;
    wanted.sampling = static_cast<int32_t>(draft.sampling.size());
    draft.logit_rows.push_back(wanted);
    PlanSampling sampling;
    sampling.slot = slot;
    sampling.seed = 1000 + static_cast<uint64_t>(slot);
    sampling.position = 8;
    sampling.reset = 1;
    return draft.sampling.emplace_back(sampling);
  }
};

Twin logits(Lab& lab, const Drawing& d, float spread) {
  std::vector<float> dense;
  for (size_t i = 0; i < d.draft.logit_rows.size() * static_cast<size_t>(d.vocab); ++i) {
    dense.push_back(lab.uniform(-spread, spread));
  }
  return lab.values(DType::f32, dense, static_cast<int64_t>(d.draft.logit_rows.size()), d.vocab);
}

using Results = std::pair<StepResult, StepResult>;

Results sample(Lab& lab, const Drawing& d, const Twin& rows, const std::vector<uint32_t>& mask = {},
               float scale = 1.0F, float softcap = 0.0F) {
  const BatchTwin batch = lab.begin(d.draft, {});
  lab.test.sample(batch.test, {rows.test, scale, softcap, mask});
  lab.plain().sample(batch.plain, {rows.plain, scale, softcap, mask});
  return lab.finish(batch);
}

bool near(float a, float b) { return std::abs(a - b) <= 1e-3F * (1.0F + std::abs(b)) || a == b; }

void compare_tokens(Lab& lab, const Results& r, const std::string& what) {
  lab.expect(r.first.tokens.size() == r.second.tokens.size(), what + ": number of tokens");
  if (r.first.tokens.size() != r.second.tokens.size()) return;
  for (size_t i = 0; i < r.second.tokens.size(); ++i) {
    const StepToken& a = r.first.tokens[i];
    const StepToken& b = r.second.tokens[i];
    const std::string at = what + ", row " + std::to_string(i) + ": ";
    lab.expect(a.sequence == b.sequence, at + "sequence");
    lab.expect(a.token == b.token, at + "token " + std::to_string(a.token) + ", should be " + std::to_string(b.token));
    lab.expect(near(a.logprob, b.logprob), at + "logprob " + std::to_string(a.logprob) + ", should be " + std::to_string(b.logprob));
    lab.expect(a.rank == b.rank, at + "rank " + std::to_string(a.rank) + ", should be " + std::to_string(b.rank));
    lab.expect(a.top_count == b.top_count, at + "number of top tokens");
    for (int32_t t = 0; t < std::min(a.top_count, b.top_count); ++t) {
      const StepTop& x = r.first.tops[static_cast<size_t>(a.top_begin + t)];
      const StepTop& y = r.second.tops[static_cast<size_t>(b.top_begin + t)];
      lab.expect(x.token == y.token && near(x.logprob, y.logprob), at + "top " + std::to_string(t));
    }
  }
}

// How many draws of two backends are the same.
struct Agreement {
  int64_t drawn = 0, equal = 0;

  void add(const Results& r) {
    for (size_t i = 0; i < r.second.tokens.size() && i < r.first.tokens.size(); ++i) {
      ++drawn;
      if (r.first.tokens[i].token == r.second.tokens[i].token) ++equal;
    }
  }
  void expect(Lab& lab, int64_t all, const std::string& what) const {
    lab.expect(drawn == all && equal >= drawn - 2,
               std::to_string(equal) + " of " + std::to_string(drawn) + " " + what + " as the definition has them");
  }
};

}  // namespace

void sample_greedy_case(Lab& lab) {
  for (int32_t vocab : {1, 33, 1000, 32003}) {
    Drawing d(lab, vocab);
    for (int32_t slot = 0; slot < 5; ++slot) d.add(slot);
    d.draft.logit_rows[1].top_n = -1;
    compare_tokens(lab, sample(lab, d, logits(lab, d, 8.0F)), "greedy of " + std::to_string(vocab));
    compare_tokens(lab, sample(lab, d, logits(lab, d, 8.0F), {}, 0.1F, 3.0F), "scaled and capped");
  }
}

// The head's product and the drawing behind it, as every step of decoding has them: run as they
// come, recorded, run again; and the same pass again when more is asked of its logits.
void sample_head_case(Lab& lab) {
  static uint64_t shapes = uint64_t{1} << 50U;  // no other pass is of these
  for (const auto& [vocab, rows] : {std::pair<int32_t, int32_t>{33, 1}, {1000, kSlots}, {8003, 5}}) {
    Drawing d(lab, vocab);
    for (int32_t slot = 0; slot < rows; ++slot) d.add(slot);
    const LinearTwin head = lab.linear_weight({vocab}, 32, lab.toss(), false);
    const Twin input = lab.activations(rows, 32);
    const Twin logits = lab.poisoned(rows, vocab, DType::f32);
    uint64_t shape = shapes++;
    const auto draw = [&](const std::string& what, float scale, float softcap) {
      const BatchTwin batch = lab.begin(d.draft, {});
      if (!lab.test.replay(batch.test, shape)) {
        lab.test.record(batch.test, shape);
        lab.test.linear(batch.test, {.input = input.test, .weight = &head.test, .output = logits.test});
        lab.test.end_record();
      }
      lab.plain().linear(batch.plain, {.input = input.plain, .weight = &head.plain, .output = logits.plain});
      lab.test.sample(batch.test, {logits.test, scale, softcap, {}});
      lab.plain().sample(batch.plain, {logits.plain, scale, softcap, {}});
      compare_tokens(lab, lab.finish(batch), what + " of " + std::to_string(vocab));
    };
    const auto thrice = [&](const std::string& what, float scale = 1.0F, float softcap = 0.0F) {
      for (int time = 0; time < 3; ++time) draw(what, scale, softcap);
    };
    draw("head, first token", 1.0F, 0.0F);
    for (PlanSampling& s : d.draft.sampling) s.reset = 0;
    thrice("head");
    d.draft.logit_rows[0].top_n = 0;
    thrice("head, reported");
    d.draft.logit_rows[0].top_n = -1;
    d.draft.biases.push_back({.token = vocab / 2, .bias = 100.0F});
    d.draft.sampling[0].bias_count = 1;
    thrice("head, under rules");
    d.draft.biases.clear();
    d.draft.sampling[0].bias_count = 0;
    thrice("head, again");
    shape = shapes++;
    thrice("head, scaled and capped", 0.1F, 3.0F);
  }
}

void sample_rules_case(Lab& lab) {
  constexpr int32_t kVocab = 70;
  Drawing d(lab, kVocab);
  auto& lists = d.draft.token_lists;
  {  // a bias lifts one token above all others, another forbids it again in the next row
    PlanSampling& s = d.add(0);
    s.bias_count = 1;
    d.draft.biases.push_back({.token = 41, .bias = 100.0F});
  }
  {
    PlanSampling& s = d.add(1);
    s.bias_begin = 1;
    s.bias_count = 2;
    d.draft.biases.push_back({.token = 42, .bias = 100.0F});
    d.draft.biases.push_back({.token = 42, .bias = -std::numeric_limits<float>::infinity()});
  }
  {  // history ends in 5 6: of three bad words the one-token and the fitting three-token one hold
    PlanSampling& s = d.add(2);
    s.history_begin = static_cast<int32_t>(lists.size());
    s.history_count = 4;
    s.history_prompt = 2;
    for (int32_t t : {9, 8, 5, 6}) lists.push_back(t);
    s.bad_begin = static_cast<int32_t>(lists.size());
    s.bad_count = 3;
    for (int32_t t : {1, 3, 3, 5, 6, 7, 2, 5, 4}) lists.push_back(t);
  }
  {  // penalties from a history of prompt and output
    PlanSampling& s = d.add(3);
    s.repetition_penalty = 1.7F;
    s.presence_penalty = 0.9F;
    s.frequency_penalty = 0.4F;
    s.history_begin = static_cast<int32_t>(lists.size());
    s.history_count = 60;
    s.history_prompt = 25;
    for (int i = 0; i < 60; ++i) lists.push_back(static_cast<int32_t>(lab.between(0, kVocab - 1)));
  }
  d.add(4).mask_row = 1;
  constexpr uint32_t kWords = (kVocab + 31) / 32;
  std::vector<uint32_t> mask(2 * kWords, 0);
  for (int i = 0; i < 4; ++i) mask[kWords + static_cast<size_t>(lab.between(0, 1))] |= 1U << lab.between(0, 31);
  // Row 2 is sure to want what its bad words forbid.
  const Twin rows = logits(lab, d, 4.0F);
  compare_tokens(lab, sample(lab, d, rows, mask), "rules");
  // A second step, without reset: tail and counts carry on from what was drawn.
  for (PlanSampling& s : d.draft.sampling) {
    s.reset = 0;
    s.history_count = 0;
  }
  for (int step = 0; step < 6; ++step) {
    compare_tokens(lab, sample(lab, d, logits(lab, d, 4.0F), mask), "rules, later step");
  }
  // Nothing allowed: no token.
  std::vector<uint32_t> none(2 * kWords, 0);
  const Results r = sample(lab, d, logits(lab, d, 4.0F), none);
  lab.expect(r.first.tokens.back().token == -1, "an empty grammar mask gives no token");
}

void sample_draw_case(Lab& lab) {
  Agreement agreement;
  for (int32_t vocab : {3, 500, 20011}) {
    for (int round = 0; round < 8; ++round) {
      Drawing d(lab, vocab);
      for (int32_t slot = 0; slot < kSlots; ++slot) {
        PlanSampling& s = d.add(slot);
        s.temperature = lab.uniform(0.2F, 2.0F);
        s.top_k = lab.one_of({0, 0, 1, 5, 40, 30000});
        s.top_p = lab.one_of({1.0F, 0.95F, 0.5F, 0.01F});
        s.min_p = lab.one_of({0.0F, 0.0F, 0.05F, 1.0F});
        s.choice = static_cast<int32_t>(lab.between(0, 3));
        s.position = static_cast<int32_t>(lab.between(0, 5000));
        s.seed = static_cast<uint64_t>(lab.between(0, int64_t{1} << 40));
      }
      agreement.add(sample(lab, d, logits(lab, d, lab.one_of({0.5F, 4.0F, 10.0F}))));
    }
  }
  agreement.expect(lab, int64_t{3} * 8 * kSlots, "draws");
}

// Top-p is a share of what top-k keeps, not of the whole row. Rows where the two differ, and random
// ones where both cut.
void sample_top_case(Lab& lab) {
  const std::vector<float> mass = {0.02F, 0.5F, 0.02F, 0.3F, 0.02F, 0.1F, 0.02F, 0.02F};
  for (int round = 0; round < 4; ++round) {
    Drawing d(lab, static_cast<int32_t>(mass.size()));
    std::vector<float> dense;
    for (int32_t slot = 0; slot < kSlots; ++slot) {
      PlanSampling& s = d.add(slot);
      s.temperature = 1.0F;
      s.top_k = 3;     // 0.9 of the mass …
      s.top_p = 0.85F;  // … of which 0.765 are reached by the first two
      s.position = static_cast<int32_t>(lab.between(0, 5000));
      for (float m : mass) dense.push_back(std::log(m));
    }
    const Results r = sample(lab, d, lab.values(DType::f32, dense, kSlots, d.vocab));
    for (size_t i = 0; i < r.first.tokens.size(); ++i) {
      const int32_t token = r.first.tokens[i].token;
      lab.expect(token == r.second.tokens[i].token && (token == 1 || token == 3),
                 "top-p within top-k drew token " + std::to_string(token));
    }
  }
  Agreement agreement;
  for (int round = 0; round < 24; ++round) {
    Drawing d(lab, lab.one_of({40, 300, 5000}));
    for (int32_t slot = 0; slot < kSlots; ++slot) {
      PlanSampling& s = d.add(slot);
      s.temperature = lab.uniform(0.5F, 1.5F);
      s.top_k = static_cast<int32_t>(lab.between(2, 20));
      s.top_p = lab.uniform(0.4F, 0.99F);
      s.min_p = lab.one_of({0.0F, 0.0F, 0.1F});
      s.position = static_cast<int32_t>(lab.between(0, 5000));
      s.seed = static_cast<uint64_t>(lab.between(0, int64_t{1} << 40));
    }
    agreement.add(sample(lab, d, logits(lab, d, lab.one_of({3.0F, 6.0F, 20.0F}))));
  }
  agreement.expect(lab, int64_t{24} * kSlots, "draws with top-k and top-p");
}

// Rows that are hard for whoever looks for the best tokens without sorting: ties, the best ones side
// by side or at even distances, hardly any that are allowed, all alike, one above all.
void sample_crowd_case(Lab& lab) {
  constexpr int32_t kVocab = 40003;
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  using Row = float (*)(Lab&, int32_t token);
  const Row rows[] = {
      [](Lab& l, int32_t) { return std::round(l.uniform(-16.0F, 16.0F)) * 0.25F; },
      [](Lab& l, int32_t t) { return l.uniform(-1.0F, 1.0F) + (t / 4 % 1024 == 5 ? 6.0F : 0.0F); },
      [](Lab& l, int32_t t) { return l.uniform(-1.0F, 1.0F) + (t >= 20000 && t < 20700 ? 6.0F : 0.0F); },
      [](Lab& l, int32_t t) { return t % 13000 == 7 ? l.uniform(-1.0F, 1.0F) : kNever; },
      [](Lab&, int32_t) { return -2.5F; },
      [](Lab& l, int32_t t) { return l.uniform(-40.0F, 40.0F) + (t == 39999 ? 60.0F : 0.0F); },
  };
  Agreement agreement;
  int64_t all = 0;
  for (const Row row : rows) {
    Drawing d(lab, kVocab);
    std::vector<float> dense;
    for (const int32_t top_k : {0, 1, 2, 50, 512, 513, 1024, 2000}) {
      PlanSampling& s = d.add(static_cast<int32_t>(d.draft.sequences.size()));
      s.temperature = lab.uniform(0.6F, 1.2F);
      s.top_k = top_k;
      s.top_p = lab.one_of({1.0F, 0.9F});
      s.min_p = lab.one_of({0.0F, 0.02F});
      s.position = static_cast<int32_t>(lab.between(0, 5000));
      d.draft.logit_rows.back().top_n = lab.one_of({-1, 0, 5, 20});
      for (int32_t t = 0; t < kVocab; ++t) dense.push_back(row(lab, t));
    }
    const auto count = static_cast<int64_t>(d.draft.logit_rows.size());
    agreement.add(sample(lab, d, lab.values(DType::f32, dense, count, kVocab)));
    all += count;
    for (PlanSampling& s : d.draft.sampling) s.temperature = 0.0F;
    compare_tokens(lab, sample(lab, d, lab.values(DType::f32, dense, count, kVocab)), "crowd");
  }
  agreement.expect(lab, all, "draws from crowds");
}

void sample_logprobs_case(Lab& lab) {
  Drawing d(lab, 777);
  for (int32_t slot = 0; slot < 6; ++slot) {
    PlanSampling& s = d.add(slot);
    s.repetition_penalty = 1.5F;  // must not show in the logprobs
    d.draft.logit_rows.back().top_n = slot * 4;
  }
  d.draft.logit_rows[2].target = 5;
  d.draft.logit_rows[3].sampling = -1;  // scored only
  d.draft.logit_rows[3].target = 700;
  d.draft.logit_rows[5].top_n = 64;
  compare_tokens(lab, sample(lab, d, logits(lab, d, 6.0F)), "logprobs");
  compare_tokens(lab, sample(lab, d, logits(lab, d, 60.0F)), "logprobs far apart");
}

// The token of one step is the input of the next, without passing through the plan.
void sample_feedback_case(Lab& lab) {
  constexpr int32_t kVocab = 50;
  Drawing d(lab, kVocab);
  for (int32_t slot : {3, 0, 9}) d.add(slot);
  const Twin table = lab.weight_matrix(kVocab, 24);
  const Results first = sample(lab, d, logits(lab, d, 5.0F));
  compare_tokens(lab, first, "feedback");
  for (int32_t& t : d.draft.token_ids) t = kTokenFromSlot;
  const BatchTwin batch = lab.begin(d.draft, {});
  const Twin out = lab.poisoned(3, 24);
  lab.test.embed(batch.test, {table.test, 0, 1.0F, out.test});
  lab.plain().embed(batch.plain, {table.plain, 0, 1.0F, out.plain});
  lab.compare(out, "embedded from the slots");
  lab.finish(batch);
}

// A NaN among the logits gives no token and says so; other rows do not notice.
void sample_poison_case(Lab& lab) {
  constexpr int32_t kVocab = 300;
  Drawing d(lab, kVocab);
  for (int32_t slot = 0; slot < 3; ++slot) d.add(slot).temperature = slot == 2 ? 0.8F : 0.0F;
  std::vector<float> dense;
  for (int32_t i = 0; i < 3 * kVocab; ++i) dense.push_back(lab.uniform(-3.0F, 3.0F));
  dense[static_cast<size_t>(kVocab + lab.between(0, kVocab - 1))] = std::numeric_limits<float>::quiet_NaN();
  const Results r = sample(lab, d, lab.values(DType::f32, dense, 3, kVocab));
  lab.expect(r.first.tokens.size() == 3, "three rows");
  if (r.first.tokens.size() != 3) return;
  lab.expect(r.first.tokens[1].token == -1 && std::isnan(r.first.tokens[1].logprob), "a poisoned row gives no token and a NaN logprob");
  lab.expect(r.first.tokens[0].token == r.second.tokens[0].token, "the row before it");
  lab.expect(r.first.tokens[2].token == r.second.tokens[2].token, "the row behind it");
}

}  // namespace troupe::ops_suite
