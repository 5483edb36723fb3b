// Scheduler::plan: what the next step computes. Sequences are served best rank first: each decoding
// one gets its row, the rows that are left go to prompts, then waiting ones enter. Whoever lacks a
// block takes it from sessions, then from whoever ranks lowest: those are always still unplanned.
#include <algorithm>
#include <string>
#include <utility>

#include "engine/scheduler_state.hpp"
#include "engine/step_writer.hpp"

namespace troupe::engine {
namespace {

constexpr int64_t kSessionCheckNs = 100'000'000;
constexpr int64_t kBacklogPart = 4;  // of what waits to be read, a step takes one in so many
// More prompts than one for so many that decode, and than so many at all, are a crowd.
constexpr size_t kCrowdPart = 8, kCrowdLeast = 4;

}  // namespace

bool Scheduler::State::plan(int64_t now_ns, StepPlanDraft& draft, Outputs& out) {
  if (flights.size() >= static_cast<size_t>(config.overlap ? 2 : 1)) return false;  // INV-SCHED-4
  expire(now_ns, out);
  if (waits_for_company()) return false;
  yield_to_urgent();
  goes_on = false;
  draft.clear();
  draft.step = next_step;
  draft.groups = kv.groups();
  step_embeddings.clear();

  if (spare_flights.empty()) spare_flights.emplace_back();
  flights.push_back(std::move(spare_flights.back()));
  spare_flights.pop_back();
  Flight& flight = flights.back();
  flight.step = next_step;
  flight.rows.clear();
  flight.sequences.clear();
  flight.sung = may_sing() && sing(draft);
  if (!flight.sung) {
    plan_all(now_ns, draft, out);
    plain_rows = is_plain(draft, flight) ? running.size() : 0;
  }
  if (draft.answers() == 0 && draft.token_ids.empty()) {
    spare_flights.push_back(std::move(flights.back()));
    flights.pop_back();
    return false;
  }
  flights.back().is_long = config.long_step_rows > 0 &&
                           static_cast<int32_t>(draft.token_ids.size()) >= config.long_step_rows;
  ++next_step;
  ++stats.steps;
  stats.steps_sung += flights.back().sung ? 1 : 0;
  return true;
}

// A long step runs, and what could follow it is short: more may come until it ends.
bool Scheduler::State::waits_for_company() const {
  if (flights.empty() || !flights.back().is_long) return false;
  int64_t rows = 0;
  for (const Sequence* s : running) {
    const int32_t wanted = rows_wanted(*s);
    if (wanted > 1) rows += s->job->spec.prompt.rows_ready(s->progress.computed, wanted);
  }
  const std::vector<Sequence*>& queue = waiting.all();
  for (size_t i = 0; i < queue.size() && rows < config.long_step_rows; ++i) {
    rows += queue[i]->job->spec.prompt.rows_ready(0, queue[i]->known());
  }
  return rows < config.long_step_rows;
}

void Scheduler::State::plan_all(int64_t now_ns, StepPlanDraft& draft, Outputs& out) {
  end_chorus();
  Flight& flight = flights.back();
  budget.prompt_rows = prompt_rows();
  budget.score_rows = config.logit_rows - config.slots;
  // Preemption shortens the list from its end while it is walked from its head.
  for (size_t i = 0; i < running.size(); ++i) {
    if (i + kPrefetchAhead < running.size()) prefetch(running[i + kPrefetchAhead]);
    plan_sequence(*running[i], draft, flight, false);
  }
  admit_waiting(now_ns, draft, out);
  for (Sequence* s : arrivals) {
    running.insert(std::upper_bound(running.begin(), running.end(), s,
                                    [](const Sequence* a, const Sequence* b) { return ranks_above(*a, *b); }),
                   s);
  }
  arrivals.clear();
  kv.end_step();
}

int32_t Scheduler::State::prompt_rows() const {
  size_t decoding = 0, reading = 0;
  int64_t backlog = 0;
  for (const Sequence* s : running) {
    const int32_t wanted = rows_wanted(*s);
    decoding += wanted == 1 ? 1 : 0;
    reading += wanted > 1 ? 1 : 0;
    if (wanted > 1) backlog += wanted;
  }
  const int32_t room = config.step_rows - static_cast<int32_t>(decoding);
  const bool crowd = reading + waiting.size() > std::max(kCrowdLeast, decoding / kCrowdPart);
  if (decoding == 0 || crowd || config.prompt_rows_beside == 0) return room;
  for (const Sequence* s : waiting.all()) backlog += s->known();
  const int64_t part = std::max(int64_t{config.prompt_rows_beside}, backlog / kBacklogPart);
  return static_cast<int32_t>(std::min<int64_t>(room, part));
}

void Scheduler::State::expire(int64_t now_ns, Outputs& out) {
  if (now_ns >= next_session_check) {
    sessions.expire(now_ns);
    next_session_check = now_ns + kSessionCheckNs;
  }
  if (now_ns < next_deadline) return;
  std::vector<JobState*> late;
  next_deadline = kNoDeadline;
  for (auto& [id, job] : jobs) {
    if (job->ended) continue;
    if (job->spec.deadline_ns <= now_ns) {
      late.push_back(job.get());
    } else {
      next_deadline = std::min(next_deadline, job->spec.deadline_ns);
    }
  }
  for (JobState* job : late) {
    const int64_t over_ms = (now_ns - job->spec.submitted_ns) / 1'000'000;
    end_job(*job, EventKind::failed,
            Status(Code::deadline, "request " + std::to_string(job->spec.id) + ": its deadline passed " +
                                       (job->started ? "while it ran, " : "while it waited, ") +
                                       std::to_string(over_ms) + " ms after it came"),
            now_ns, out);
  }
}

// A request of higher priority does not wait for one of lower priority to end.
void Scheduler::State::yield_to_urgent() {
  Sequence* head = waiting.best();
  if (head == nullptr || running.empty() || head->progress.in_flight > 0 || head == entering) return;
  while (!running.empty()) {
    Sequence& lowest = *running.back();
    if (lowest.job->spec.priority >= head->job->spec.priority || ranks_above(lowest, *head)) return;
    if (!free_slots.empty() && kv.fits({}, 0, std::min(head->known() + 1, context_limit), spare_blocks())) return;
    preempt(lowest);
  }
}

// Room to grow for those who run already, so that entering does not mean preempting at once.
int32_t Scheduler::State::spare_blocks() const {
  return running.empty() ? 0 : static_cast<int32_t>(running.size()) / 2 + 1;
}

// Takes the cached prefix, a part of a long one at a time, and sees whether the rest of the known tokens
// would fit as well.
Entry Scheduler::State::try_enter(Sequence& s) {
  const int32_t known = s.known();
  if (config.prefix_reuse) {
    extend_keys(s, config.block_tokens);
    // The last token is always computed: its logits are wanted. Scoring wants those of all.
    const SamplingPlan& sampling = s.job->spec.sampling;
    const bool scores = sampling.prompt_logprobs >= 0 && s.choice == 0 &&
                        s.progress.scores_asked < s.terms.prompt_len - 1;
    const int32_t reusable = scores ? s.progress.scores_asked : known - 1;
    if (!kv.attach_longest(s.lease.kv, s.keys, reusable / config.block_tokens, config.attach_blocks)) {
      entering = &s;
      goes_on = true;
      return Entry::later;
    }
  }
  entering = nullptr;
  const int32_t begin = s.lease.kv.published * config.block_tokens;
  const int32_t end = std::min(known + 1, context_limit);
  bool fits = kv.fits(s.lease.kv, begin, end, spare_blocks());
  while (!fits && running.empty() && sessions.give_up_one()) {
    fits = kv.fits(s.lease.kv, begin, end, 0);
  }
  if (!fits) {
    kv.release(s.lease.kv);
    return Entry::blocked;
  }
  reserve(s);
  s.progress.computed = begin;
  if (!s.job->started) s.job->cached_tokens = begin;
  return Entry::entered;
}

// What a sequence will ask of the heap, it takes when it enters.
void Scheduler::State::reserve(Sequence& s) {
  const int32_t output = std::min(s.terms.output_max, kOutputReserved);
  const int32_t tokens = s.terms.prompt_len + output;
  s.progress.output.reserve(static_cast<size_t>(output));
  s.keys.reserve(static_cast<size_t>(tokens / config.block_tokens));
  kv.reserve(s.lease.kv, tokens);
}

void Scheduler::State::admit_waiting(int64_t now_ns, StepPlanDraft& draft, Outputs& out) {
  while (Sequence* head = waiting.best()) {
    if (budget.prompt_rows <= 0 || free_slots.empty() || head == blocked) return;
    if (head->progress.in_flight > 0) return;  // preempted a moment ago: its token is on its way
    if (entering != nullptr && entering != head) give_back_lease(*entering);  // it was overtaken
    const Entry entry = try_enter(*head);
    if (entry == Entry::blocked) blocked = head;
    if (entry != Entry::entered) return;
    if (head->job->spec.prompt.misses_picture(head->progress.computed)) {
      end_job(*head->job, EventKind::failed,
              Status(Code::not_found, "session " + std::to_string(head->job->spec.session) +
                                          ": a picture of it had to make room, and its part of the "
                                          "cache too; begin a new session and send it again"),
              now_ns, out);
      continue;
    }
    waiting.pop_best();
    head->phase = Phase::running;
    head->lease.slot = free_slots.back();
    free_slots.pop_back();
    JobState& job = *head->job;
    if (!job.started) {
      job.started = true;
      job.started_ns = now_ns;
      out.started.push_back(job.spec.id);
      stats.cached_tokens += static_cast<uint64_t>(job.cached_tokens);
    }
    // Whoever waits ranks below all that run, but for those that were preempted and overtook.
    const auto at = std::upper_bound(
        running.begin(), running.end(), head,
        [](const Sequence* a, const Sequence* b) { return ranks_above(*a, *b); });
    running.insert(at, head);
    plan_sequence(*head, draft, flights.back(), true);
  }
}

int32_t Scheduler::State::rows_wanted(const Sequence& s) const {
  const Terms& terms = s.terms;
  if (terms.output_max == 0) return terms.prompt_len - s.progress.computed;
  const int32_t length = s.length();
  if (length - terms.prompt_len >= terms.output_max) return 0;  // its last token is on its way
  return length - s.progress.computed;
}

int32_t Scheduler::State::rows_granted(const Sequence& s, int32_t wanted) const {
  if (wanted == 1 && s.terms.plain_rows) return 1;
  const int32_t begin = s.progress.computed;
  int32_t rows = wanted == 1 ? 1 : std::min({wanted, budget.prompt_rows, chunk_max});
  rows = s.job->spec.prompt.rows_ready(begin, rows);
  if (!config.chunked_prefill && rows < wanted) return 0;
  const bool scores = s.job->spec.sampling.prompt_logprobs >= 0 && s.choice == 0;
  if (scores && begin < s.terms.prompt_len) rows = std::min(rows, budget.score_rows);
  return s.job->spec.prompt.whole_spans(begin, rows);
}

// Blocks for as many of the rows as can be had; 0: none, or the sequence was preempted itself.
// Whoever is entering takes them from nobody: all others are planned already.
int32_t Scheduler::State::take_blocks(Sequence& s, int32_t rows, StepPlanDraft& draft,
                                      bool enters) {
  const int32_t begin = s.progress.computed;
  if (kv.write(s.lease.kv, begin, begin + rows, draft.copies)) return rows;
  for (;;) {
    for (int32_t some = rows; some > 0; some = s.job->spec.prompt.whole_spans(begin, some / 2)) {
      if (kv.write(s.lease.kv, begin, begin + some, draft.copies)) return some;
      if (!config.chunked_prefill) break;
    }
    if (enters) return 0;
    if (entering != nullptr) {
      give_back_lease(*entering);
      continue;
    }
    if (sessions.give_up_one()) continue;
    Sequence* victim = running.back();  // INV-SCHED-5
    preempt(*victim);
    if (victim == &s) return 0;
  }
}

void Scheduler::State::plan_sequence(Sequence& s, StepPlanDraft& draft, Flight& flight,
                                     bool enters) {
  const int32_t wanted = rows_wanted(s);
  if (wanted <= 0) return;
  int32_t rows = rows_granted(s, wanted);
  if (rows > 0) rows = take_blocks(s, rows, draft, enters);
  if (rows <= 0) return;
  if (wanted > 1 || enters) budget.prompt_rows -= rows;

  const int32_t begin = s.progress.computed;
  const auto row_begin = static_cast<int32_t>(draft.token_ids.size());
  const int32_t plan_index = write_rows(draft, s, begin, rows, config.block_tokens);
  if (!s.terms.plain_rows) write_pictures(s, plan_index, begin, rows, draft);
  s.progress.computed += rows;
  ++s.progress.in_flight;
  flight.sequences.push_back(&s);
  if (config.prefix_reuse) publish(s);
  if (!s.terms.plain_rows) write_scores(s, plan_index, begin, rows, draft, flight);
  if (rows < wanted || s.terms.output_max == 0) return;

  const int32_t last_row = row_begin + rows - 1;
  const bool first_draw = s.choice == 0 && s.progress.output.empty() && s.progress.pending == 0 &&
                          s.job->choices.size() > 1;
  write_draw(draft, s, plan_index, last_row);
  flight.rows.push_back({&s, -1});
  if (first_draw) fork_choices(s, plan_index, last_row, draft, flight);
  ++s.progress.pending;
}

// What the step's rows see of pictures. Encoder rows go into a sequence's own blocks, once.
void Scheduler::State::write_pictures(Sequence& s, int32_t plan_index, int32_t begin, int32_t rows,
                                      StepPlanDraft& draft) {
  const Prompt& prompt = s.job->spec.prompt;
  for (const PromptImage& image : prompt.images) {
    if (image.position + image.rows <= begin || image.position >= begin + rows) continue;
    if (image.data != nullptr) step_embeddings.push_back({image.embedding, image.data});
  }
  if (s.lease.encoded || prompt.cross_images.empty()) return;
  s.lease.encoded = true;
  for (const PromptImage& image : prompt.cross_images) {
    draft.encodes.push_back({image.embedding, plan_index, image.source_row, image.rows});
    if (image.data != nullptr) step_embeddings.push_back({image.embedding, image.data});
  }
}

void Scheduler::State::write_scores(Sequence& s, int32_t plan_index, int32_t begin, int32_t rows,
                                    StepPlanDraft& draft, Flight& flight) {
  if (s.job->spec.sampling.prompt_logprobs < 0 || s.choice != 0) return;
  const int32_t row_begin = draft.sequences[static_cast<size_t>(plan_index)].row_begin;
  const int32_t end = std::min(begin + rows, s.terms.prompt_len - 1);
  for (int32_t p = std::max(begin, s.progress.scores_asked); p < end; ++p) {
    write_score(draft, s, plan_index, row_begin + p - begin, p);
    flight.rows.push_back({&s, p + 1});
    --budget.score_rows;
    s.progress.scores_asked = p + 1;
  }
}

// The prompt has been read: further choices share its blocks and draw from the same row. Those for
// whom there is no slot wait, and find the prompt in the cache.
void Scheduler::State::fork_choices(Sequence& first, int32_t plan_index, int32_t row,
                                    StepPlanDraft& draft, Flight& flight) {
  for (Sequence& s : first.job->choices) {
    if (s.phase != Phase::held) continue;
    s.keys = first.keys;
    if (free_slots.empty()) {
      waiting.insert(&s);
      continue;
    }
    s.phase = Phase::running;
    s.lease.slot = free_slots.back();
    free_slots.pop_back();
    kv.fork(first.lease.kv, s.lease.kv);
    reserve(s);
    s.progress.computed = first.progress.computed;
    s.lease.encoded = first.lease.encoded;
    write_draw(draft, s, plan_index, row);
    ++s.progress.pending;
    ++s.progress.in_flight;
    flight.rows.push_back({&s, -1});
    flight.sequences.push_back(&s);
    arrivals.push_back(&s);
  }
}

// By recompute: the tokens stay, the blocks go (and may still be found by name later).
void Scheduler::State::preempt(Sequence& s) {
  TR_ASSERT(s.phase == Phase::running && running.back() == &s);
  end_chorus();
  running.pop_back();
  give_back_lease(s);
  s.progress.computed = 0;
  waiting.insert(&s);
  ++stats.preemptions;
}

void Scheduler::State::publish(Sequence& s) {
  const int32_t certain = std::min(s.progress.computed, s.known());
  if (certain < (s.lease.kv.published + 1) * config.block_tokens) return;
  if (s.lease.kv.groups.empty()) return;
  extend_keys(s, config.block_tokens);
  kv.publish(s.lease.kv, s.keys, certain);
}

}  // namespace troupe::engine
