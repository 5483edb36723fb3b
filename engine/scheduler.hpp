// Scheduler: decides what each step computes. Pure: it is told the time and what came of steps, and
// answers with plans; it has no thread, no clock, no I/O, and may be driven by anybody.
//
//   admit(job)        -> waiting, or a typed refusal
//   plan(now)         -> the next step: every running sequence decodes, prompts go in by chunks
//   commit(result)    -> new tokens, finished choices, ended requests
//
// With overlap, plan(n + 1) comes before commit(n): rows whose token is not known yet take it from
// their slot on the device, and a sequence that turns out to have stopped has one speculative row
// whose token is dropped. Without, each step is committed before the next is planned. Both give the
// same tokens (docs/engine.md).
//
//   INV-SCHED-1  every admitted request gets exactly one RequestEnd, after all its other outputs
//   INV-SCHED-2  a choice's tokens come in order, each once, none after its ChoiceEnd
//   INV-SCHED-3  a step has at most one row range per sequence, and never a waiting one's
//   INV-SCHED-4  at most `steps_in_flight` plans are uncommitted; results come in plan order
//   INV-SCHED-5  the highest ranked sequence always progresses: victims rank below it
//   INV-SCHED-6  rank is priority plus age, so whoever waits overtakes in bounded time
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/port.hpp"
#include "base/status.hpp"
#include "engine/job.hpp"
#include "kernels/batch.hpp"
#include "models/facts.hpp"

namespace troupe::engine {

struct SchedulerConfig {
  int32_t slots = 256;            // sequences running at once
  int32_t waiting_max = 2048;     // sequences waiting
  int32_t step_rows = 2048;       // rows of one step: decodes first, the rest for prompts
  // Behind a step of so many rows only another such one is planned before its end: who comes while
  // it runs goes along, and the pause for a plan is nothing beside it. 0: never wait.
  int32_t long_step_rows = 0;
  // While many decode, a few prompts take a quarter of what of them is to be read, and at least so
  // many rows: they do not make the others wait long. A crowd of prompts, or 0: what a step has.
  int32_t prompt_rows_beside = 0;
  int32_t logit_rows = 0;         // 0: slots + 256; scoring takes what decoding leaves
  int32_t context_length = 4096;
  int32_t vocab = 0;
  int32_t block_tokens = 16;
  bool overlap = true;
  bool prefix_reuse = true;
  bool chunked_prefill = true;    // false: a prompt goes in at once (it must fit step_rows)
  int32_t attach_blocks = 1024;   // of a cached prefix, one plan takes so many: a plan must be short
  int32_t restarts_max = 3;       // a request goes through so many lost devices
  int64_t ageing_ns = 5'000'000'000;  // one level of priority per so much waiting
  double session_share = 0.5;     // of the cache: what sessions may pin
  int64_t session_lease_ns = 600'000'000'000;
  int64_t session_embedding_bytes = int64_t{128} << 20;  // rows of pictures that sessions keep
  uint64_t model_salt = 0;
  models::ModelFacts facts;       // rope regimes
  std::vector<models::CacheGroup> groups;  // with cache.blocks
};

struct SchedulerStats {
  uint64_t steps = 0, preemptions = 0, restarts = 0;
  uint64_t steps_sung = 0;  // that only repeated the step before (engine/chorus.hpp)
  uint64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  uint64_t speculative_rows_dropped = 0;
  uint32_t waiting = 0, running = 0, sessions = 0;
  uint64_t kv_blocks_total = 0, kv_blocks_used = 0;
};

class Scheduler {
 public:
  explicit Scheduler(SchedulerConfig config);
  ~Scheduler();
  Scheduler(Scheduler&&) = delete;

  // Takes the request, or refuses it and says why: overloaded (too many waiting), limit (cannot fit
  // even alone), not_found (session), invalid.
  Status admit(Job job);
  // Ends a request with its terminal output: cancelled for Code::cancelled, else failed. Unknown
  // ids are ignored.
  void end(RequestId id, const Status& why, int64_t now_ns, Outputs& out);
  // A stop string ended this choice after `keep` of its tokens; later ones were never said. Also
  // right when the scheduler has ended the choice, or the request, meanwhile.
  void cut(RequestId id, int32_t choice, int32_t keep, int64_t now_ns, Outputs& out);
  // Rows of this embedding may go in now.
  void embedding_ready(RequestId id, uint64_t embedding, const EmbeddingPtr& data = nullptr);
  // The embeddings that the last plan refers to, as far as they came with data.
  [[nodiscard]] const std::vector<StepEmbedding>& step_embeddings() const;

  // Fills the next step's plan. False: nothing to do now, or enough is in flight. Requests past
  // their deadline end here.
  bool plan(int64_t now_ns, StepPlanDraft& draft, Outputs& out);
  // What came of the oldest plan in flight. A failure means that the executor broke its contract;
  // treat it like a lost device.
  Status commit(const StepResult& result, int64_t now_ns, Outputs& out);
  // The executor is gone with all steps in flight and the whole cache: running sequences wait
  // again and go on from their tokens. Requests that lost too many devices fail with `why`.
  void device_lost(const Status& why, int64_t now_ns, Outputs& out);

  // When it is idle: gives back the memory that a crowd has left behind.
  void rest();

  [[nodiscard]] int32_t steps_in_flight() const;
  // The last plan() left something to the next: call it again, also when nothing is in flight.
  [[nodiscard]] bool goes_on() const;
  [[nodiscard]] bool idle() const;  // no request is waiting or running, nothing is in flight
  // When plan() must be called though nothing else happened: deadlines, leases. kNoDeadline: never.
  [[nodiscard]] int64_t next_deadline_ns() const;

  // ---- sessions ----
  Result<uint64_t> session_new(const SessionOptions& options, int64_t now_ns);
  Result<uint64_t> session_fork(uint64_t session, int64_t now_ns);
  Status session_rewind(uint64_t session, int64_t tokens, int64_t now_ns);
  Result<SessionState> session_info(uint64_t session, int64_t now_ns);
  void session_free(uint64_t session);
  // Those that are open, ascending; and how often that set has changed.
  [[nodiscard]] std::vector<uint64_t> session_ids() const;
  [[nodiscard]] uint64_t session_changes() const;

  // ---- what may change while it runs; the caller has checked the bounds ----
  void set_waiting_max(int32_t sequences);
  void set_prefix_reuse(bool reuse);
  void set_session_lease(int64_t lease_ns);  // of sessions opened from now on
  // Rows of a step: at most what the scheduler was made for, at least one per slot.
  Status set_step_rows(int32_t rows);

  [[nodiscard]] SchedulerStats stats() const;
  // Positions that running sequences have filled, or will with the steps in flight; what blocks they
  // hold beyond is waste. Looks at each of them.
  [[nodiscard]] int64_t positions_held() const;
  [[nodiscard]] const SchedulerConfig& config() const;
  // Tokens of one sequence at most: the model's context, or what the cache can hold.
  [[nodiscard]] int32_t context_limit() const;
  // Ok, or which invariant is broken. Cheap enough for every idle moment, not for every step.
  [[nodiscard]] Status check_integrity() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace troupe::engine
