// Scheduler::plan, where the next step is the last one a token further: a chorus (chorus.hpp)
// begins, goes on, and ends when somebody comes, goes, or lacks a block.
#include <algorithm>
#include <utility>

#include "engine/scheduler_state.hpp"
#include "engine/step_writer.hpp"

namespace troupe::engine {

// Was this plan one row and one draw of each running sequence, and nothing else? Then the next one is
// most often the same, one token further.
bool Scheduler::State::is_plain(const StepPlanDraft& draft, const Flight& flight) const {
  const size_t n = running.size();
  const bool rows_alone = draft.biases.empty() && draft.token_lists.empty() && draft.adapters.empty() &&
                          draft.modality.empty() && draft.rope_positions.empty() &&
                          draft.span_ends.empty() && draft.cross_spans.empty();
  return n > 0 && rows_alone && draft.token_ids.size() == n && draft.sequences.size() == n &&
         draft.logit_rows.size() == n && draft.sampling.size() == n &&
         std::equal(running.begin(), running.end(), flight.sequences.begin(), flight.sequences.end()) &&
         std::all_of(running.begin(), running.end(), [](const Sequence* s) {
           return s->terms.plain_rows && s->terms.plain_draw;
         });
}

// The chorus goes on, or begins: the last plan was plain, everybody of it still runs and has a token to
// come, and nobody new can come in. (Who comes is in no plan yet, who has gone makes the list shorter.)
bool Scheduler::State::may_sing() {
  if (!config.overlap || plain_rows == 0 || plain_rows != running.size()) return false;
  const Sequence* head = waiting.best();
  if (head != nullptr && head != blocked && !free_slots.empty()) return false;
  if (chorus.sings()) return chorus.plans_left() > 0;
  for (size_t i = 0; i < running.size(); ++i) {
    if (i + kPrefetchAhead < running.size()) prefetch(running[i + kPrefetchAhead]);
    const Sequence& s = *running[i];
    // Beyond what is writable a block may be shared, and would be copied.
    if (rows_wanted(s) != 1 || s.progress.computed > s.lease.kv.writable) return false;
  }
  chorus.begin(running, kv.phases(), config.block_tokens);
  return true;
}

// Those that need one get a block; those whose turn it is learn what they have said, and their full
// blocks get names: nothing else is to be done. False: there is a block too few, and somebody must
// make room.
bool Scheduler::State::sing(StepPlanDraft& draft) {
  // In rounds, since nobody has looked at them for a while: each fetches what the next one looks at.
  const std::vector<int32_t>& due = chorus.due();
  const Chorus::Turn turn = chorus.next_turn();
  for (const int32_t i : due) prefetch_lease(chorus.member(static_cast<size_t>(i)));
  for (const int32_t i : due) prefetch_tables(chorus.member(static_cast<size_t>(i)));
  for (const int32_t i : due) kv.fetch_ahead(chorus.member(static_cast<size_t>(i)).lease.kv);
  for (size_t i = turn.first; i < turn.last; ++i) prefetch_lists(chorus.member(i));
  for (const int32_t i : due) {
    const int32_t begin = chorus.position(static_cast<size_t>(i));
    KvTables& tables = chorus.member(static_cast<size_t>(i)).lease.kv;
    if (!kv.write(tables, begin, begin + 1, draft.copies)) return false;
    TR_ASSERT(draft.copies.empty());
  }
  chorus.plan();
  draft.repeats = static_cast<int32_t>(chorus.size());
  for (const int32_t i : due) {
    Sequence& s = chorus.member(static_cast<size_t>(i));
    if (!s.lease.kv.all_told) write_news(draft, s, chorus.position(static_cast<size_t>(i)), config.block_tokens);
  }
  take_turn(turn);
  return true;
}

void Scheduler::State::take_turn(const Chorus::Turn& turn) {
  for (size_t i = turn.first; i < turn.last; ++i) chorus.catch_up(i);
  if (!config.prefix_reuse) return;
  for (size_t i = turn.first; i < turn.last; ++i) {
    Sequence& s = chorus.member(i);
    extend_keys(s, config.block_tokens);
    kv.fetch_ahead(s.lease.kv, s.keys);
  }
  for (size_t i = turn.first; i < turn.last; ++i) publish(chorus.member(i));
}

void Scheduler::State::end_chorus() {
  if (!chorus.sings()) return;
  const std::span<Sequence* const> members = chorus.members();
  for (Flight& flight : flights) {
    if (!std::exchange(flight.sung, false)) continue;
    flight.sequences.assign(members.begin(), members.end());
    for (Sequence* s : members) flight.rows.push_back({s, -1});
  }
  chorus.end();
}

}  // namespace troupe::engine
