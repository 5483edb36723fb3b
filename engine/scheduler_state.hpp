// The inside of Scheduler, split over scheduler.cpp (the door: requests come and go), step_plan.cpp
// (plan) and step_commit.cpp (commit). Nobody else includes this.
#pragma once

#include <memory_resource>
#include <unordered_map>
#include <vector>

#include "engine/chorus.hpp"
#include "engine/scheduler.hpp"
#include "engine/sequence.hpp"
#include "engine/session_book.hpp"
#include "engine/waiting_queue.hpp"

namespace troupe::engine {

// Lists of a running sequence are made for so much output at once; longer ones double now and then. Most answers
// are shorter than what their requests allow, and what was ever made for them all at once stays with the heap.
inline constexpr int32_t kOutputReserved = 2048;

// What a logit row of a step in flight was asked for.
struct RowOwner {
  Sequence* sequence = nullptr;
  int32_t position = -1;  // of the prompt's token scored; -1: a token is drawn
};
struct Flight {
  uint64_t step = 0;
  bool is_long = false;                  // SchedulerConfig::long_step_rows
  bool sung = false;                     // of the chorus: rows and sequences are its members
  std::vector<RowOwner> rows;            // in the plan's order
  std::vector<Sequence*> sequences;      // that the step works on
};

// Whether one that waits came in; later: there is more of its prefix to take than one plan may.
enum class Entry : uint8_t { entered, blocked, later };

struct Scheduler::State {
  explicit State(SchedulerConfig c);

  // ---- requests (scheduler.cpp) ----
  Status admit(Job job);
  Status refuse_early(const Job& job) const;
  [[nodiscard]] Status refuse_prompt(const Job& job) const;
  [[nodiscard]] JobState* find(RequestId id);
  void end_job(JobState& job, EventKind kind, const Status& status, int64_t now_ns, Outputs& out);
  void finish_choice(Sequence& s, FinishReason reason, int32_t stop_token, int64_t now_ns,
                     Outputs& out);
  void leave(Sequence& s, int64_t now_ns);  // queue, slot and blocks
  void settle_session(Sequence& s, int64_t now_ns);
  void give_back_lease(Sequence& s);
  void bury_if_done(JobState& job);
  void device_lost(const Status& why, int64_t now_ns, Outputs& out);
  [[nodiscard]] Status check_integrity() const;

  // ---- plan (step_plan.cpp) ----
  bool plan(int64_t now_ns, StepPlanDraft& draft, Outputs& out);
  [[nodiscard]] bool waits_for_company() const;
  void plan_all(int64_t now_ns, StepPlanDraft& draft, Outputs& out);
  [[nodiscard]] int32_t prompt_rows() const;  // that this plan may give to prompts
  [[nodiscard]] bool is_plain(const StepPlanDraft& draft, const Flight& flight) const;
  bool may_sing();
  bool sing(StepPlanDraft& draft);
  void take_turn(const Chorus::Turn& turn);
  void end_chorus();
  void expire(int64_t now_ns, Outputs& out);
  void yield_to_urgent();
  void admit_waiting(int64_t now_ns, StepPlanDraft& draft, Outputs& out);
  Entry try_enter(Sequence& s);
  void reserve(Sequence& s);
  void plan_sequence(Sequence& s, StepPlanDraft& draft, Flight& flight, bool enters);
  [[nodiscard]] int32_t spare_blocks() const;
  [[nodiscard]] int32_t rows_wanted(const Sequence& s) const;
  [[nodiscard]] int32_t rows_granted(const Sequence& s, int32_t wanted) const;
  int32_t take_blocks(Sequence& s, int32_t rows, StepPlanDraft& draft, bool enters);
  void write_pictures(Sequence& s, int32_t plan_index, int32_t begin, int32_t rows,
                      StepPlanDraft& draft);
  void write_scores(Sequence& s, int32_t plan_index, int32_t begin, int32_t rows,
                    StepPlanDraft& draft, Flight& flight);
  void fork_choices(Sequence& first, int32_t plan_index, int32_t row, StepPlanDraft& draft,
                    Flight& flight);
  void preempt(Sequence& s);
  void publish(Sequence& s);

  // ---- commit (step_commit.cpp) ----
  Status commit(const StepResult& result, int64_t now_ns, Outputs& out);
  [[nodiscard]] Status refuse_result(const Flight& flight, const StepResult& result) const;
  bool commit_sung(const StepResult& result, Outputs& out);
  void take_score(const StepResult& result, const StepToken& token, const RowOwner& owner,
                  Outputs& out);
  void take_token(const StepResult& result, const StepToken& token, Sequence& s, int64_t now_ns,
                  Outputs& out);

  SchedulerConfig config;
  KvGroups kv;
  SessionBook sessions;
  int32_t context_limit = 0;  // of one sequence: the model's, or what the cache can hold
  int32_t chunk_max = 0;      // rows of one sequence in one step
  int32_t span_max = 0;       // rows that attend both ways: they go in together, whoever decodes
  int32_t chunk_made = 0, step_rows_made = 0;  // as the scheduler was made: they only shrink

  std::pmr::unsynchronized_pool_resource sequence_pool;
  std::unordered_map<RequestId, std::unique_ptr<JobState>> jobs;  // ended ones too while in flight
  WaitingQueue waiting;
  std::vector<Sequence*> running;   // best rank first
  std::vector<Sequence*> arrivals;  // forked in this plan: they run from the next one on
  std::vector<int32_t> free_slots;
  std::vector<Flight> flights;      // oldest first; two at most
  std::vector<Flight> spare_flights;
  std::vector<StepEmbedding> step_embeddings;  // of the last plan
  uint64_t next_step = 0;
  Chorus chorus;                    // of all that run, or of nobody
  size_t plain_rows = 0;            // of the last plan, one for each that ran; 0: it was not so
  uint64_t next_order = 0;
  size_t live = 0;                  // jobs not ended
  int64_t next_deadline = kNoDeadline;
  int64_t next_session_check = 0;
  Sequence* entering = nullptr;       // the head of those that wait, while it takes its prefix: it holds that
  bool goes_on = false;               // … and the last plan left some of it to the next
  const Sequence* blocked = nullptr;  // could not enter, and nothing was given back since
  // What the plan being made has left to give.
  struct {
    int32_t prompt_rows = 0;
    int32_t score_rows = 0;
  } budget;
  SchedulerStats stats;
};

}  // namespace troupe::engine
