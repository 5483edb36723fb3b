// Chorus: the running sequences while every one of them just decodes, one token a step. What a step
// changes is then the same for all, so it is counted once, here, and told a sequence only when it is
// its turn (once in kTurnSteps steps, many at once) or when the chorus ends. Steady decoding
// costs what its tokens cost, not a look at every sequence; a member whose block is full is looked at
// for its new block alone.
//
// While it sings its members lag behind, all but their block tables: catch_up() brings one of them up
// to date, end() all. Whoever wants to look at a running sequence ends the chorus first
// (Scheduler::State::end_chorus).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sequence.hpp"

namespace troupe::engine {

class Chorus {
 public:
  // What commit must know of a member's next token.
  struct Part {
    RequestId request = 0;
    int32_t choice = 0;
    int32_t first = 0;  // index in its output of the first token of the chorus
    int32_t stop_low = 0, stop_high = -1;
  };

  // All of them, from the next step on. Each has one token pending at most, and wants one row.
  // `phases`: a member is due when its next position is one of them, modulo `block_tokens`.
  void begin(std::span<Sequence* const> members, std::span<const int32_t> phases,
             int32_t block_tokens);
  // Everybody is up to date, and nobody a member.
  void end();
  [[nodiscard]] bool sings() const { return !members_.empty(); }

  [[nodiscard]] size_t size() const { return members_.size(); }
  [[nodiscard]] std::span<Sequence* const> members() const { return members_; }
  [[nodiscard]] Sequence& member(size_t i) const { return *members_[i]; }
  [[nodiscard]] std::span<const Part> parts() const { return parts_; }
  // Steps that may still be planned, or committed, before somebody has said its last token.
  [[nodiscard]] int32_t plans_left() const { return steps_max_ - planned_; }
  [[nodiscard]] int32_t commits_left() const { return steps_max_ - committed_; }
  [[nodiscard]] int32_t committed() const { return committed_; }

  // Whose block tables the next step changes.
  [[nodiscard]] const std::vector<int32_t>& due();
  // The position that a member's next row has.
  [[nodiscard]] int32_t position(size_t member) const { return starts_[member] + planned_; }
  // Whose turn it is in this step, [first, last): most often nobody's, and everybody's once in
  // kTurnSteps. What catch_up() looks at is on its way then.
  struct Turn {
    size_t first = 0, last = 0;
  };
  [[nodiscard]] Turn next_turn() const;
  void catch_up(size_t member);
  void plan() { ++planned_; }
  // A step's tokens, one per member: a place to write them to.
  [[nodiscard]] std::span<int32_t> commit();

 private:
  static constexpr int32_t kTurnSteps = 32;
  static constexpr int32_t kTurns = 4;  // in that time: what is cold is fetched for many then
  // Lines of tokens: more than pass between two turns, and results come two steps behind the plans.
  static constexpr int32_t kDepth = kTurnSteps + 4;
  struct Told {
    int32_t planned = 0, committed = 0;
  };
  [[nodiscard]] int32_t* said(int32_t step) {
    return tokens_.data() + static_cast<size_t>(step % kDepth) * members_.size();
  }

  std::vector<Sequence*> members_;
  std::vector<Part> parts_;
  std::vector<Told> told_;  // so many steps a member knows of
  std::vector<int32_t> tokens_;  // of the last steps, a line per step
  std::vector<int32_t> starts_;  // where a member's next row stood when it began
  int32_t planned_ = 0, committed_ = 0, steps_max_ = 0;
  // Members in order of where their next position stood in its block when it began, and where each
  // place's members begin.
  std::vector<int32_t> by_place_, place_begin_;
  std::vector<int32_t> phases_, due_;
};

}  // namespace troupe::engine
