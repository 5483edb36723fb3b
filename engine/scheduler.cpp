#include "engine/scheduler.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "base/limits.hpp"
#include "engine/scheduler_state.hpp"

namespace troupe::engine {
namespace {

// A chunk and its window must fit into a window group's blocks with room for two torn ones.
int32_t chunk_that_fits(const SchedulerConfig& c) {
  int32_t rows = c.step_rows;
  for (const models::CacheGroup& g : c.groups) {
    if (g.kind != models::CacheKind::window) continue;
    const int32_t room = (g.cache.blocks - 2) * c.block_tokens - g.window;
    rows = std::min(rows, std::max(room, c.block_tokens));
  }
  return rows;
}

}  // namespace

Scheduler::State::State(SchedulerConfig c)
    : config(std::move(c)), kv(config.groups, config.block_tokens),
      sessions(kv, {config.session_share, config.session_lease_ns, config.session_embedding_bytes}) {
  TR_ASSERT(config.slots > 0 && config.slots <= limits::running_sequences);
  TR_ASSERT(config.step_rows >= config.slots && config.step_rows <= limits::step_rows);
  TR_ASSERT(config.chunked_prefill || config.step_rows >= config.context_length + config.slots);
  if (config.logit_rows == 0) config.logit_rows = config.slots + 256;
  TR_ASSERT(config.logit_rows > config.slots);
  chunk_max = chunk_made = chunk_that_fits(config);
  step_rows_made = config.step_rows;
  context_limit = std::min(config.context_length, kv.capacity_tokens(chunk_max));
  if (!config.chunked_prefill) context_limit = std::min(context_limit, chunk_max);
  span_max = std::min(chunk_max, config.step_rows - config.slots + 1);
  for (int32_t slot = config.slots - 1; slot >= 0; --slot) free_slots.push_back(slot);
  running.reserve(static_cast<size_t>(config.slots));
  flights.reserve(2);
  arrivals.reserve(static_cast<size_t>(config.slots));
  stats.kv_blocks_total = static_cast<uint64_t>(kv.blocks_total());
}

JobState* Scheduler::State::find(RequestId id) {
  const auto it = jobs.find(id);
  return it == jobs.end() || it->second->ended ? nullptr : it->second.get();
}

Status Scheduler::State::refuse_early(const Job& job) const {
  const std::string who = "request " + std::to_string(job.id);
  if (job.id == 0 || jobs.contains(job.id)) return invalid(who + ": id is 0 or in use");
  const size_t sequences = waiting.size() + static_cast<size_t>(job.sampling.choices);
  if (sequences > static_cast<size_t>(config.waiting_max)) {
    return {Code::overloaded, "waiting: " + std::to_string(waiting.size()) +
                                  " sequences are waiting, the limit is " +
                                  std::to_string(config.waiting_max) + "; try again later"};
  }
  if (std::abs(job.priority) > limits::priority) {
    return invalid("priority must be -" + std::to_string(limits::priority) + " .. " +
                   std::to_string(limits::priority) + ", and is " + std::to_string(job.priority));
  }
  return ok_status();
}

// What could never run, however long it waited.
Status Scheduler::State::refuse_prompt(const Job& job) const {
  const auto prompt = static_cast<int64_t>(job.prompt.tokens.size());
  if (prompt == 0) return invalid("prompt: it has no tokens");
  // Generating needs room for one token at least.
  if (prompt + (job.sampling.max_tokens == 0 ? 0 : 1) > context_limit) {
    return limit_exceeded("prompt: " + std::to_string(prompt) + " tokens, and the context holds " +
                          std::to_string(context_limit) +
                          (context_limit < config.context_length ? " (the cache's size limits it; give it more memory)"
                                                                 : "") +
                          "; shorten it");
  }
  const bool scores = job.sampling.prompt_logprobs >= 0;
  const int32_t span = scores ? std::min(span_max, config.logit_rows - config.slots) : span_max;
  if (job.prompt.longest_span() > span) {
    return limit_exceeded("images: one of " + std::to_string(job.prompt.longest_span()) +
                          " rows is read in one step, and a step takes " + std::to_string(span) +
                          " beside the running sequences; raise max_step_tokens, or lower max_sequences");
  }
  for (const models::CacheGroup& g : config.groups) {
    if (g.kind != models::CacheKind::fixed || job.prompt.cross_rows <= g.fixed_rows) continue;
    return limit_exceeded("images: together they have " + std::to_string(job.prompt.cross_rows) +
                          " encoder rows, and this model's cross-attention sees " +
                          std::to_string(g.fixed_rows) + "; send fewer");
  }
  return ok_status();
}

Status Scheduler::State::admit(Job job) {
  TR_TRY(refuse_early(job));
  const uint64_t session_id = job.session;
  const RequestId id = job.id;
  const Session* session = nullptr;
  if (session_id != 0) {
    TR_ASSIGN(session, sessions.begin(session_id, id, job.submitted_ns));
    if (session->content.length() > 0) {
      drop_front(job.prompt, job.opening);
      job.prompt = join_prompts(session->content, std::move(job.prompt));
    }
  }
  if (Status status = refuse_prompt(job); !status.ok()) {
    if (session_id != 0) sessions.finish(session_id, id, nullptr, job.submitted_ns);
    return status;
  }
  const auto prompt = static_cast<int64_t>(job.prompt.tokens.size());
  const SamplingPlan& sampling = job.sampling;
  auto state = std::make_unique<JobState>(&sequence_pool);
  const auto room = static_cast<int32_t>(context_limit - prompt);
  const int32_t output_max = sampling.max_tokens < 0 ? room : std::min(room, sampling.max_tokens);
  state->rank = {int64_t{job.priority} * config.ageing_ns - job.submitted_ns, next_order++};
  state->root = root_key({config.model_salt, job.tenant_salt,
                          config.facts.rope_regime(static_cast<int32_t>(prompt)), job.adapter});
  state->spec = std::move(job);
  const int32_t choices = output_max == 0 ? 1 : state->spec.sampling.choices;
  state->choices.resize(static_cast<size_t>(choices));
  state->unfinished = choices;
  for (int32_t i = 0; i < choices; ++i) {
    Sequence& s = state->choices[static_cast<size_t>(i)];
    s.job = state.get();
    s.choice = i;
    settle_terms(s, output_max);
  }
  Prompt& said = state->spec.prompt;
  if (session != nullptr && session->root == state->root) {
    state->choices.front().keys = session->keys;  // named already
  } else if (said.names_tokens == config.block_tokens && said.names_root == state->root) {
    state->choices.front().keys = std::move(said.names);
  }
  said.names = {};
  next_deadline = std::min(next_deadline, state->spec.deadline_ns);
  stats.prompt_tokens += static_cast<uint64_t>(prompt);
  waiting.insert(&state->choices.front());
  jobs.emplace(id, std::move(state));
  ++live;
  return ok_status();
}

void Scheduler::State::give_back_lease(Sequence& s) {
  if (config.prefix_reuse) publish(s);  // a chorus names blocks now and then only
  kv.release(s.lease.kv);
  if (s.lease.slot >= 0) free_slots.push_back(std::exchange(s.lease.slot, -1));
  s.lease.fresh = true;
  s.lease.encoded = false;
  if (entering == &s) entering = nullptr;
  blocked = nullptr;
}

// Steps in flight may still write into what is given back here: whoever gets it next writes later.
void Scheduler::State::leave(Sequence& s, int64_t now_ns) {
  if (s.phase == Phase::waiting) waiting.remove(&s);
  if (s.phase == Phase::running) {
    end_chorus();
    const auto at = std::find(running.begin(), running.end(), &s);
    TR_ASSERT(at != running.end());
    running.erase(at);
  }
  s.phase = Phase::finished;
  if (s.choice == 0) settle_session(s, now_ns);
  give_back_lease(s);
}

// The first choice is what the session goes on from: it is kept, and the session free for the next
// request, as soon as that choice has ended.
void Scheduler::State::settle_session(Sequence& s, int64_t now_ns) {
  const uint64_t id = s.job->spec.session;
  if (id == 0) return;
  const bool said_something = !s.progress.output.empty() || s.terms.output_max == 0;
  if (said_something && config.prefix_reuse) publish(s);
  sessions.finish(id, s.job->spec.id, said_something ? &s : nullptr, now_ns);
}

void Scheduler::State::finish_choice(Sequence& s, FinishReason reason, int32_t stop_token,
                                     int64_t now_ns, Outputs& out) {
  TR_ASSERT(s.phase != Phase::finished);
  leave(s, now_ns);
  JobState& job = *s.job;
  out.choices.push_back({job.spec.id, s.choice, reason, stop_token});
  if (--job.unfinished == 0) end_job(job, EventKind::done, ok_status(), now_ns, out);
}

void Scheduler::State::end_job(JobState& job, EventKind kind, const Status& status, int64_t now_ns,
                               Outputs& out) {
  TR_ASSERT(!job.ended);  // INV-SCHED-1
  if (job.started) end_chorus();
  job.ended = true;
  --live;
  RequestEnd end;
  end.request = job.spec.id;
  end.kind = kind;
  end.status = status;
  end.usage.prompt_tokens = job.prompt_len();
  end.usage.cached_tokens = job.cached_tokens;
  for (Sequence& s : job.choices) {
    if (s.phase != Phase::finished) leave(s, now_ns);
    end.usage.completion_tokens += static_cast<int64_t>(s.progress.output.size());
  }
  for (const PromptImage& image : job.spec.prompt.images) end.usage.image_tokens += image.rows;
  end.usage.image_tokens += static_cast<int64_t>(job.spec.prompt.cross_images.size());
  const int64_t began = job.spec.submitted_ns;
  end.timings.queued_ns = job.started ? job.started_ns - began : now_ns - began;
  end.timings.first_token_ns = job.first_token_ns > 0 ? job.first_token_ns - began : 0;
  end.timings.total_ns = now_ns - began;
  out.requests.push_back(std::move(end));
  bury_if_done(job);
}

// Steps in flight point at the job's sequences: it goes with the last of them.
void Scheduler::State::bury_if_done(JobState& job) {
  if (job.ended && !job.in_flight()) jobs.erase(job.spec.id);
}

void Scheduler::State::device_lost(const Status& why, int64_t now_ns, Outputs& out) {
  end_chorus();
  plain_rows = 0;
  flights.clear();
  if (entering != nullptr) give_back_lease(*entering);
  blocked = nullptr;
  sessions.give_up_all();
  std::vector<JobState*> involved;
  for (auto& [id, job] : jobs) {
    if (job->in_flight()) involved.push_back(job.get());
    for (Sequence& s : job->choices) {
      s.progress.pending = s.progress.in_flight = 0;
      s.progress.computed = 0;
      s.progress.scores_asked = s.progress.scores_got;
      if (s.phase == Phase::running) {
        give_back_lease(s);
        waiting.insert(&s);
      }
    }
  }
  running.clear();
  kv.forget_all();
  for (JobState* job : involved) {
    if (!job->ended && ++job->restarts > config.restarts_max) {
      end_job(*job, EventKind::failed, why, now_ns, out);
    } else {
      stats.restarts += job->ended ? 0 : 1;
      bury_if_done(*job);
    }
  }
}

Status Scheduler::State::check_integrity() const {
  std::vector<const KvTables*> holders;
  std::vector<uint8_t> slots(static_cast<size_t>(config.slots), 0);
  size_t waiting_count = 0, running_count = 0, live_count = 0;
  for (const auto& [id, job] : jobs) {
    live_count += job->ended ? 0 : 1;
    for (const Sequence& s : job->choices) {
      holders.push_back(&s.lease.kv);
      waiting_count += s.phase == Phase::waiting ? 1 : 0;
      running_count += s.phase == Phase::running ? 1 : 0;
      if ((s.phase == Phase::running) != (s.lease.slot >= 0)) {
        return internal_error("INV-SCHED-3: a slot without a running sequence, or the reverse");
      }
      if (s.lease.slot >= 0 && slots[static_cast<size_t>(s.lease.slot)]++ != 0) {
        return internal_error("INV-SCHED-3: two sequences in one slot");
      }
      if (s.phase != Phase::running && &s != entering && !s.lease.kv.groups.empty()) {
        return internal_error("INV-CACHE-1: a sequence that does not run holds blocks");
      }
      if (s.phase == Phase::running && s.progress.computed > s.length()) {
        return internal_error("INV-SCHED-2: more computed than there are tokens");
      }
    }
  }
  sessions.visit_tables([&](const KvTables& t) { holders.push_back(&t); });
  if (waiting_count != waiting.size() || running_count != running.size() || live_count != live ||
      running_count + free_slots.size() != slots.size()) {
    return internal_error("INV-SCHED-1: the lists and the requests disagree");
  }
  if (!std::is_sorted(running.begin(), running.end(),
                      [](const Sequence* a, const Sequence* b) { return ranks_above(*a, *b); })) {
    return internal_error("INV-SCHED-5: running sequences out of rank");
  }
  if (flights.size() > static_cast<size_t>(config.overlap ? 2 : 1)) {
    return internal_error("INV-SCHED-4: too many steps in flight");
  }
  if (sessions.pinned_blocks() > 0 &&
      static_cast<double>(sessions.pinned_blocks()) >
          config.session_share * static_cast<double>(kv.blocks_total())) {
    return internal_error("INV-SESSION-2: sessions hold more than their share");
  }
  return kv.check_integrity(holders);
}

// ---- the door ----

Scheduler::Scheduler(SchedulerConfig config) : state_(std::make_unique<State>(std::move(config))) {}
Scheduler::~Scheduler() = default;

Status Scheduler::admit(Job job) { return state_->admit(std::move(job)); }

void Scheduler::end(RequestId id, const Status& why, int64_t now_ns, Outputs& out) {
  JobState* job = state_->find(id);
  if (job == nullptr) return;
  const bool cancelled = why.code() == Code::cancelled;
  state_->end_job(*job, cancelled ? EventKind::cancelled : EventKind::failed, why, now_ns, out);
}

void Scheduler::cut(RequestId id, int32_t choice, int32_t keep, int64_t now_ns, Outputs& out) {
  JobState* job = state_->find(id);
  if (job != nullptr && choice >= 0 && static_cast<size_t>(choice) < job->choices.size()) {
    state_->end_chorus();
    Sequence& s = job->choices[static_cast<size_t>(choice)];
    auto& output = s.progress.output;
    const bool live = s.phase != Phase::finished;
    if (keep < 0 || static_cast<size_t>(keep) > output.size()) return;
    output.shorten(static_cast<size_t>(keep));
    s.keys.resize(std::min(s.keys.size(), static_cast<size_t>(s.known() / state_->config.block_tokens)));
    if (live) {
      if (!s.lease.kv.groups.empty()) state_->kv.truncate(s.lease.kv, s.known());
      state_->finish_choice(s, FinishReason::stop, -1, now_ns, out);
      return;
    }
  }
  if (choice == 0) state_->sessions.cut(id, keep);
}

void Scheduler::embedding_ready(RequestId id, uint64_t embedding, const EmbeddingPtr& data) {
  JobState* job = state_->find(id);
  if (job == nullptr) return;
  for (auto* images : {&job->spec.prompt.images, &job->spec.prompt.cross_images}) {
    for (PromptImage& image : *images) {
      if (image.embedding != embedding) continue;
      image.ready = true;
      image.data = data;
    }
  }
}
const std::vector<StepEmbedding>& Scheduler::step_embeddings() const { return state_->step_embeddings; }

bool Scheduler::plan(int64_t now_ns, StepPlanDraft& draft, Outputs& out) {
  return state_->plan(now_ns, draft, out);
}
Status Scheduler::commit(const StepResult& result, int64_t now_ns, Outputs& out) {
  return state_->commit(result, now_ns, out);
}
void Scheduler::device_lost(const Status& why, int64_t now_ns, Outputs& out) {
  state_->device_lost(why, now_ns, out);
}
void Scheduler::rest() {
  State& s = *state_;
  if (!idle() || !s.jobs.empty()) return;
  s.jobs.rehash(0);
  s.sequence_pool.release();
  s.spare_flights = {};
  s.chorus = {};
  s.step_embeddings = {};
}
bool Scheduler::goes_on() const { return state_->goes_on; }
int32_t Scheduler::steps_in_flight() const { return static_cast<int32_t>(state_->flights.size()); }
bool Scheduler::idle() const { return state_->live == 0 && state_->flights.empty(); }
int64_t Scheduler::next_deadline_ns() const {
  return std::min(state_->next_deadline, state_->sessions.next_expiry_ns());
}

Result<uint64_t> Scheduler::session_new(const SessionOptions& options, int64_t now_ns) {
  return state_->sessions.open(options, now_ns);
}
Result<uint64_t> Scheduler::session_fork(uint64_t session, int64_t now_ns) {
  return state_->sessions.fork(session, now_ns);
}
Status Scheduler::session_rewind(uint64_t session, int64_t tokens, int64_t now_ns) {
  return state_->sessions.rewind(session, tokens, now_ns);
}
Result<SessionState> Scheduler::session_info(uint64_t session, int64_t now_ns) {
  return state_->sessions.info(session, now_ns);
}
void Scheduler::session_free(uint64_t session) {
  state_->sessions.free(session);
  state_->blocked = nullptr;
}

std::vector<uint64_t> Scheduler::session_ids() const { return state_->sessions.ids(); }
uint64_t Scheduler::session_changes() const { return state_->sessions.changes(); }

void Scheduler::set_waiting_max(int32_t sequences) { state_->config.waiting_max = sequences; }
void Scheduler::set_prefix_reuse(bool reuse) { state_->config.prefix_reuse = reuse; }
void Scheduler::set_session_lease(int64_t lease_ns) { state_->sessions.set_lease(lease_ns); }
Status Scheduler::set_step_rows(int32_t rows) {
  State& s = *state_;
  if (rows < s.config.slots || rows > s.step_rows_made) {
    return invalid("max_step_tokens must be " + std::to_string(s.config.slots) + " (one row for each of "
                   "max_sequences) .. " + std::to_string(s.step_rows_made) +
                   " (what the engine was opened with), and is " + std::to_string(rows));
  }
  if (!s.config.chunked_prefill) return unsupported("max_step_tokens: prompts are not cut into chunks");
  const int32_t chunk = std::min(s.chunk_made, rows);
  const int32_t span = std::min(chunk, rows - s.config.slots + 1);
  for (const auto& [id, job] : s.jobs) {
    if (job->ended || job->spec.prompt.longest_span() <= span) continue;
    return {Code::overloaded, "max_step_tokens: a picture that is waiting needs a step of more than " +
                                  std::to_string(rows) + " rows; try again later"};
  }
  s.config.step_rows = rows;
  s.chunk_max = chunk;
  s.span_max = span;
  s.blocked = nullptr;
  return ok_status();
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats s = state_->stats;
  s.waiting = static_cast<uint32_t>(state_->waiting.size());
  s.running = static_cast<uint32_t>(state_->running.size());
  s.sessions = static_cast<uint32_t>(state_->sessions.size());
  s.kv_blocks_used = static_cast<uint64_t>(state_->kv.blocks_held());
  return s;
}
int64_t Scheduler::positions_held() const {
  state_->end_chorus();
  int64_t n = 0;
  for (const Sequence* s : state_->running) n += s->progress.computed;
  return n;
}
const SchedulerConfig& Scheduler::config() const { return state_->config; }
int32_t Scheduler::context_limit() const { return state_->context_limit; }
Status Scheduler::check_integrity() const { return state_->check_integrity(); }

}  // namespace troupe::engine
