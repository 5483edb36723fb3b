// Scheduler::commit: what came of the oldest step in flight. Tokens of sequences that have ended
// meanwhile are dropped: they were speculative.
#include <algorithm>
#include <cmath>
#include <string>

#include "engine/scheduler_state.hpp"

namespace troupe::engine {

namespace {

constexpr int32_t kNothingDrawn = -1;

// A drawn token of the vocabulary or none, and alternatives that are there; numbers below 0 become huge ones.
bool is_sound(const StepToken& t, bool drawn, int32_t vocab, size_t tops) {
  const bool known = !drawn || (t.token >= kNothingDrawn && t.token < vocab);
  return known && uint64_t{static_cast<uint32_t>(t.top_begin)} + static_cast<uint32_t>(t.top_count) <= tops;
}

// Why a draw gave no token: a request's own affair, and no fault of the device.
Status undrawn(const StepToken& t, int32_t index) {
  const std::string at = " at token " + std::to_string(index) + " of the answer";
  if (std::isnan(t.logprob)) {
    return internal_error("the model gave logits that are not numbers (NaN)" + at +
                          ": its weights or its dtype do not bear this prompt");
  }
  return invalid("no token is left to draw" + at +
                 ": logit_bias, bad_words, min_tokens and the constraint together forbid the whole vocabulary");
}

}  // namespace

Status Scheduler::State::refuse_result(const Flight& flight, const StepResult& result) const {
  const size_t rows = flight.sung ? chorus.size() : flight.rows.size();
  if (result.step != flight.step || result.tokens.size() != rows) {
    return internal_error("step result: step " + std::to_string(result.step) + " with " +
                          std::to_string(result.tokens.size()) + " rows, expected step " +
                          std::to_string(flight.step) + " with " + std::to_string(rows));
  }
  for (size_t i = 0; i < rows; ++i) {
    const StepToken& t = result.tokens[i];
    const bool drawn = flight.sung || flight.rows[i].position < 0;
    if (!is_sound(t, drawn, config.vocab, result.tops.size())) {
      return internal_error("step result: row " + std::to_string(i) + " has token " +
                            std::to_string(t.token) + " of a vocabulary of " +
                            std::to_string(config.vocab) + ", or alternatives that are not there");
    }
  }
  return ok_status();
}

Status Scheduler::State::commit(const StepResult& result, int64_t now_ns, Outputs& out) {
  if (flights.empty()) return internal_error("step result: none was expected");
  Flight& flight = flights.front();
  if (!flight.sung || !commit_sung(result, out)) {
    TR_TRY(refuse_result(flight, result));
    if (flight.sung) end_chorus();
    // Whatever ends below stays alive until the flight is taken apart.
    for (size_t i = 0; i < flight.rows.size(); ++i) {
      if (i + kPrefetchAhead < flight.rows.size()) prefetch(flight.rows[i + kPrefetchAhead].sequence);
      const RowOwner& owner = flight.rows[i];
      if (owner.position >= 0) {
        take_score(result, result.tokens[i], owner, out);
      } else {
        take_token(result, result.tokens[i], *owner.sequence, now_ns, out);
      }
    }
    for (Sequence* s : flight.sequences) {
      const bool prompt_only = s->terms.output_max == 0 && s->phase == Phase::running;
      if (prompt_only && s->progress.computed >= s->terms.prompt_len && s->progress.in_flight == 1) {
        finish_choice(*s, FinishReason::length, -1, now_ns, out);
      }
    }
    for (Sequence* s : flight.sequences) {
      if (--s->progress.in_flight == 0 && s->phase == Phase::finished) bury_if_done(*s->job);
    }
  }
  spare_flights.push_back(std::move(flights.front()));
  flights.erase(flights.begin());
  return ok_status();
}

// False, and nothing was done: somebody may have said its last token, or the result is not sound.
bool Scheduler::State::commit_sung(const StepResult& result, Outputs& out) {
  const std::span<const Chorus::Part> parts = chorus.parts();
  if (chorus.commits_left() <= 1 || result.step != flights.front().step || result.tokens.size() != parts.size()) {
    return false;
  }
  const int32_t said = chorus.committed();
  const auto tops_before = static_cast<uint32_t>(out.tops.size());
  const size_t begin = out.tokens.size();
  out.tokens.reserve(begin + parts.size());
  bool plain = true;
  for (size_t i = 0; i < parts.size(); ++i) {
    const StepToken& t = result.tokens[i];
    const Chorus::Part& part = parts[i];
    plain &= is_sound(t, true, config.vocab, result.tops.size());
    plain &= t.token != kNothingDrawn && (t.token < part.stop_low || t.token > part.stop_high);
    out.tokens.push_back({.request = part.request,
                          .choice = part.choice,
                          .index = part.first + said,
                          .token = t.token,
                          .logprob = t.logprob,
                          .rank = t.rank,
                          .top_begin = tops_before + static_cast<uint32_t>(t.top_begin),
                          .top_count = static_cast<uint32_t>(t.top_count)});
  }
  if (!plain) {
    out.tokens.resize(begin);
    return false;
  }
  const std::span<int32_t> tokens = chorus.commit();
  for (size_t i = 0; i < parts.size(); ++i) tokens[i] = result.tokens[i].token;
  out.tops.insert(out.tops.end(), result.tops.begin(), result.tops.end());
  stats.completion_tokens += parts.size();
  return true;
}

void Scheduler::State::take_score(const StepResult& result, const StepToken& token,
                                  const RowOwner& owner, Outputs& out) {
  Sequence& s = *owner.sequence;
  if (s.phase == Phase::finished) return;
  s.progress.scores_got = owner.position;
  ScoreOutput score{s.job->spec.id, owner.position, s.token(owner.position), token.logprob,
                    token.rank, static_cast<uint32_t>(out.tops.size()),
                    static_cast<uint32_t>(token.top_count)};
  const auto first = result.tops.begin() + token.top_begin;
  out.tops.insert(out.tops.end(), first, first + token.top_count);
  out.scores.push_back(score);
}

void Scheduler::State::take_token(const StepResult& result, const StepToken& token, Sequence& s,
                                  int64_t now_ns, Outputs& out) {
  if (s.phase == Phase::finished) {
    ++stats.speculative_rows_dropped;
    return;
  }
  TR_ASSERT(s.progress.pending > 0);
  --s.progress.pending;
  const auto index = static_cast<int32_t>(s.progress.output.size());
  if (token.token == kNothingDrawn) {
    return end_job(*s.job, EventKind::failed, undrawn(token, index), now_ns, out);
  }
  s.progress.output.push_back(token.token);
  ++stats.completion_tokens;
  if (index == 0 && s.job->first_token_ns == 0) s.job->first_token_ns = now_ns;
  out.tokens.push_back({s.terms.request, s.choice, index, token.token, token.logprob, token.rank,
                        static_cast<uint32_t>(out.tops.size()),
                        static_cast<uint32_t>(token.top_count)});
  if (token.top_count > 0) {
    const auto first = result.tops.begin() + token.top_begin;
    out.tops.insert(out.tops.end(), first, first + token.top_count);
  }
  if (s.terms.may_stop(token.token)) {
    const SamplingPlan& sampling = s.job->spec.sampling;
    if (index >= sampling.min_tokens && sampling.is_stop(token.token)) {
      return finish_choice(s, FinishReason::stop, token.token, now_ns, out);
    }
  }
  if (index + 1 >= s.terms.output_max) finish_choice(s, FinishReason::length, -1, now_ns, out);
}

}  // namespace troupe::engine
