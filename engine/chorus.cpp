#include "engine/chorus.hpp"

#include <algorithm>
#include <limits>

namespace troupe::engine {

void Chorus::begin(std::span<Sequence* const> members, std::span<const int32_t> phases,
                   int32_t block_tokens) {
  TR_ASSERT(!sings());
  members_.assign(members.begin(), members.end());
  phases_.assign(phases.begin(), phases.end());
  parts_.clear();
  told_.assign(members.size(), {});
  planned_ = committed_ = 0;
  steps_max_ = std::numeric_limits<int32_t>::max();
  starts_.clear();
  tokens_.resize(static_cast<size_t>(kDepth) * members.size());
  place_begin_.assign(static_cast<size_t>(block_tokens) + 1, 0);
  const auto place = [&](const Sequence* s) {
    return static_cast<size_t>(s->progress.computed % block_tokens);
  };
  for (const Sequence* s : members) {
    const int32_t first = s->length() - s->terms.prompt_len;
    parts_.push_back({s->terms.request, s->choice, first, s->terms.stop_low, s->terms.stop_high});
    starts_.push_back(s->progress.computed);
    steps_max_ = std::min(steps_max_, s->terms.output_max - first);
    ++place_begin_[place(s) + 1];
  }
  for (size_t p = 1; p < place_begin_.size(); ++p) place_begin_[p] += place_begin_[p - 1];
  by_place_.resize(members.size());
  due_.assign(place_begin_.begin(), place_begin_.end() - 1);
  for (size_t i = 0; i < members.size(); ++i) {
    by_place_[static_cast<size_t>(due_[place(members[i])]++)] = static_cast<int32_t>(i);
  }
  due_.reserve(members.size());
}

const std::vector<int32_t>& Chorus::due() {
  const auto block_tokens = static_cast<int32_t>(place_begin_.size()) - 1;
  due_.clear();
  for (const int32_t phase : phases_) {
    const int32_t moved = (phase - planned_) % block_tokens;
    const auto place = static_cast<size_t>(moved < 0 ? moved + block_tokens : moved);
    due_.insert(due_.end(), by_place_.begin() + place_begin_[place],
                by_place_.begin() + place_begin_[place + 1]);
  }
  return due_;
}

Chorus::Turn Chorus::next_turn() const {
  constexpr int32_t kEvery = kTurnSteps / kTurns;
  if (planned_ % kEvery != kEvery - 1) return {};
  const auto turn = static_cast<size_t>(planned_ % kTurnSteps / kEvery);
  const Turn whose{members_.size() * turn / kTurns, members_.size() * (turn + 1) / kTurns};
  for (size_t i = whose.first; i < whose.last; ++i) prefetch(members_[i]);
  return whose;
}

void Chorus::catch_up(size_t member) {
  Told& told = told_[member];
  Progress& progress = members_[member]->progress;
  const int32_t planned = planned_ - told.planned;
  const int32_t committed = committed_ - told.committed;
  progress.computed += planned;
  progress.pending += planned - committed;
  progress.in_flight += planned - committed;
  progress.output.append(told.committed, committed_, [&](int32_t step) { return said(step)[member]; });
  told = {planned_, committed_};
}

void Chorus::end() {
  for (size_t i = 0; i < members_.size(); ++i) {
    if (i + kPrefetchAhead < members_.size()) prefetch(members_[i + kPrefetchAhead]);
    catch_up(i);
  }
  members_.clear();
}

std::span<int32_t> Chorus::commit() {
  return {said(committed_++), members_.size()};
}

}  // namespace troupe::engine
