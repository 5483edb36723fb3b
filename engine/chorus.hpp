// Chorus: the running sequences while every one of them just decodes, one token a step. What a step
// changes is then the same for all, so it is counted once, here, and told a sequence only when its
// own turn comes (a block of its cache is full) or when the chorus ends. Steady decoding costs what
// its tokens cost, not a look at every sequence.
//
// While it sings its members lag behind: catch_up() brings one of them up to date, end() all.
// Whoever wants to look at a running sequence ends the chorus first (Scheduler::State::end_chorus).
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
  // `phases`: a member's turn comes when its next position is one of them, modulo `block_tokens`.
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

  // Whose turn the next step is.
  [[nodiscard]] const std::vector<int32_t>& due();
  void catch_up(size_t member);
  void plan() { ++planned_; }
  // A step's tokens, one per member: a place to write them to.
  [[nodiscard]] std::span<int32_t> commit();

 private:
  struct Told {
    int32_t planned = 0, committed = 0;
  };
  [[nodiscard]] int32_t* said(int32_t step) {
    return tokens_.data() + static_cast<size_t>(step % depth_) * members_.size();
  }

  std::vector<Sequence*> members_;
  std::vector<Part> parts_;
  std::vector<Told> told_;  // so many steps a member knows of
  std::vector<int32_t> tokens_;  // of the last steps, a line per step
  int32_t depth_ = 1;  // lines: more than pass between two turns of a member
  int32_t planned_ = 0, committed_ = 0, steps_max_ = 0;
  // Members in order of where their next position stood in its block when it began, and where each
  // place's members begin.
  std::vector<int32_t> by_place_, place_begin_;
  std::vector<int32_t> phases_, due_;
};

}  // namespace troupe::engine
