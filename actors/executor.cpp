// The executor: drives one device on a thread of its own. The only actor that may wait, and so the
// one with time to spare: while its device is busy with the next step it runs the scheduler and the
// detokenizer itself (actors/caf_sharing.hpp), most often without a message (actors/direct_line.hpp).
#include <caf/send.hpp>

#include "actors/caf_sharing.hpp"
#include "actors/order.hpp"
#include "actors/shells.hpp"

namespace troupe::actors {

ExecutorState::ExecutorState() = default;
ExecutorState::~ExecutorState() = default;

namespace {

using Self = ExecutorActor::stateful_pointer<ExecutorState>;

struct Stage {
  HandlerClockPtr clock;
  ObituaryPtr obituary;
  ExecutorParts parts;
};

void die(Self self, const Stage& stage, const Status& why) {
  stage.obituary->write(why);
  self->state.flights.clear();
  self->state.device.reset();  // here, on the thread that drove it
  self->quit(caf::exit_reason::unhandled_exception);
}

// Rows of pictures are on the device's table while a step in flight refers to them.
Status put_embeddings(ExecutorState& state, const StepJob& job) {
  for (const engine::StepEmbedding& e : job.embeddings) {
    if (state.embeddings[e.id]++ == 0) TR_TRY(state.device->put_embedding(e.id, e.data->rows));
  }
  return {};
}

void drop_embeddings(ExecutorState& state, StepJob& job) {
  for (const engine::StepEmbedding& e : job.embeddings) {
    const auto at = state.embeddings.find(e.id);
    if (--at->second > 0) continue;
    state.device->drop_embedding(e.id);
    state.embeddings.erase(at);
  }
  job.embeddings.clear();
}

void note_launch(ExecutorState& state, const ExecutorParts& parts) {
  const int64_t now = parts.clock->now_ns();
  if (!state.flights.empty()) return;
  parts.gauge->launched_ns.store(now, std::memory_order_relaxed);
  if (state.idle_since_ns == 0) return;
  parts.gauge->idle_ns.fetch_add(now - state.idle_since_ns, std::memory_order_relaxed);
  parts.gauge->gaps.fetch_add(1, std::memory_order_relaxed);
}

void note_collected(ExecutorState& state, const ExecutorParts& parts) {
  const int64_t now = parts.clock->now_ns();
  state.idle_since_ns = state.flights.empty() ? now : 0;
  parts.gauge->launched_ns.store(state.flights.empty() ? 0 : now, std::memory_order_relaxed);
}

constexpr int64_t kMemoryLookNs = 100'000'000;

// The device has nothing to do: time to see where its memory is, now and then.
void note_memory(ExecutorState& state, const ExecutorParts& parts) {
  const int64_t now = steady_now_ns();
  if (now < state.next_memory_look_ns) return;
  state.next_memory_look_ns = now + kMemoryLookNs;
  std::vector<MemoryShare> memory = state.device->memory();
  const std::scoped_lock lock(parts.gauge->mutex);
  parts.gauge->memory.swap(memory);
}

// What says something of the core: one step that repeats the one before, launched and collected, of a
// device that tells how long it was waited for.
void note_core(ExecutorState& state, const ExecutorParts& parts, int64_t host_ns, bool recorded) {
  const bool plain = state.launched == 1 && state.collected == 1 && state.repeats > 0 && !recorded &&
                     state.waited_ns > 0;
  state.launched = state.collected = 0;
  if (!plain || !state.core || !state.core->note(host_ns, state.repeats)) return;
  parts.gauge->moves.fetch_add(1, std::memory_order_relaxed);
}

// A step's time on the host: from one look to the next, but for the waits in between, and for
// recordings, which are told apart. Answers when it looked; what it takes to find a better core
// is the next step's.
int64_t note_host(ExecutorState& state, const ExecutorParts& parts, int64_t begin_ns) {
  const int64_t waited = state.device->waited_ns() - state.waited_ns;
  const int64_t recorded = state.device->recorded_ns() - state.recorded_ns;
  const int64_t now = steady_now_ns();
  const int64_t host = now - begin_ns - waited - recorded;
  parts.gauge->host_ns.fetch_add(host, std::memory_order_relaxed);
  state.waited_ns += waited;
  if (recorded != 0) parts.gauge->recording_ns.fetch_add(recorded, std::memory_order_relaxed);
  state.recorded_ns += recorded;
  note_core(state, parts, host, recorded != 0);
  return now;
}

// Who asked for what is being done.
SchedulerActor scheduler_of(Self self) { return caf::actor_cast<SchedulerActor>(self->current_sender()); }

// As if the scheduler had sent it.
template <class... Message>
void post(Self self, Message... message) {
  caf::send_as(scheduler_of(self), caf::actor_cast<ExecutorActor>(self), std::move(message)...);
}

void launch(Self self, const StepJobPtr& job, const Stage& stage) {
  ExecutorState& state = self->state;
  note_launch(state, stage.parts);
  Status sent = put_embeddings(state, *job);
  if (sent.ok()) sent = state.device->forward(job->plan);
  if (sent.ok()) sent = state.device->sample({});
  if (!sent.ok()) return die(self, stage, sent);
  state.last_step = job->step;
  ++state.launched;
  state.repeats = job->repeats;
  state.flights.push_back(job);
}

// Launches the plans that were handed over. One that has overtaken a message becomes a message too.
// True: the oldest step in flight is to be collected.
bool take_over(Self self, const Stage& stage) {
  ExecutorState& state = self->state;
  bool wanted = false;
  while (StepJobPtr job = state.helper ? state.helper->take_handed() : nullptr) {
    if (state.device == nullptr) continue;
    if (job->step != state.last_step + 1) {
      post(self, step_atom_v, std::move(job));
      continue;
    }
    launch(self, job, stage);
    wanted |= job->collect;
  }
  return wanted && state.device != nullptr;
}

// Everything that can still be done before waiting is done.
void help(Self self, const Stage& stage) {
  ExecutorState& state = self->state;
  if (!state.helper) return;
  while (state.helper->has_work()) {
    state.helper->deliver([&](const DeliveryPtr& delivery) {
      const bool told = stage.parts.detokenizer->try_speak(
          [&](OutputDesk& desk) { desk.take(delivery, state.cuts); });
      if (!state.cuts.empty()) {
        self->send(scheduler_of(self), cut_atom_v, std::make_shared<Cuts>(Cuts{std::exchange(state.cuts, {})}));
      }
      return told;
    });
    state.helper->run(self->context());
  }
  if (take_over(self, stage)) post(self, collect_atom_v);
}

// To the scheduler; one that is free hears it here and now, and its next plan is handed over.
void answer(Self self, const Stage& stage, const StepJobPtr& job) {
  Helper* const helper = self->state.helper.get();
  const Helper::Scope scope(helper);
  const auto done = [&](SchedulerDesk& desk) { desk.done(job); };
  if (helper != nullptr && stage.parts.scheduler->try_speak(done)) return;
  self->send(scheduler_of(self), done_atom_v, job);
  if (helper != nullptr) helper->run(self->context());
}

// Waits for the oldest step in flight, and answers whoever asked: a helper makes the next plan of it
// at once.
void collect(Self self, const Stage& stage) {
  ExecutorState& state = self->state;
  if (state.flights.empty()) return;
  help(self, stage);
  if (state.device == nullptr) return;
  state.device->reuse(std::move(state.flights.front()->result));  // of the job's step before
  Result<StepResult> result = state.device->collect();
  if (!result.ok()) return die(self, stage, result.status());
  const StepJobPtr job = std::move(state.flights.front());
  state.flights.erase(state.flights.begin());
  ++state.collected;
  note_collected(state, stage.parts);
  drop_embeddings(state, *job);
  job->result = std::move(result).value();
  answer(self, stage, job);
}

// The handler is over. Plans that were handed over meanwhile go on, step after step without a message,
// until somebody else has a word; what is left to do waits for their launch.
void rest(Self self, const Stage& stage, int64_t begin_ns) {
  while (take_over(self, stage)) {
    if (!self->mailbox().empty()) {
      post(self, collect_atom_v);
      break;
    }
    {
      const HandlerTimer timer(*stage.clock);
      collect(self, stage);
    }
    if (self->state.device == nullptr) return;
    begin_ns = note_host(self->state, stage.parts, begin_ns);
  }
  if (self->mailbox().empty()) help(self, stage);
  if (self->state.device == nullptr) return;
  note_host(self->state, stage.parts, begin_ns);
  if (self->state.flights.empty()) note_memory(self->state, stage.parts);
}

}  // namespace

ExecutorActor::behavior_type executor(Self self, ShellParts shell, const ExecutorParts& parts) {
  keep_last_words(self, shell.obituary);
  if (parts.own_thread) enter_thread(parts.thread);
  if (parts.helps) self->state.helper = std::make_unique<Helper>(self->system(), self->id());
  if (parts.cores != nullptr) self->state.core.emplace(*parts.cores);
  Status status;
  try {
    Result<std::unique_ptr<engine::StepExecutor>> device = parts.open();
    status = device.status();
    if (device.ok()) self->state.device = std::move(device).value();
  } catch (...) {
    status = status_of(std::current_exception()).at("opening the device");
  }
  const auto stage = std::make_shared<const Stage>(Stage{shell.clock, shell.obituary, parts});
  if (!status.ok()) die(self, *stage, status);
  if (parts.opened) parts.opened(status);
  return {
      [self, stage](step_atom, const StepJobPtr& job) {
        if (self->state.device == nullptr) return;
        const int64_t begin_ns = steady_now_ns();
        {
          const HandlerTimer timer(*stage->clock);
          launch(self, job, *stage);
          if (job->collect) collect(self, *stage);
        }
        rest(self, *stage, begin_ns);
      },
      [self, stage](collect_atom) {
        if (self->state.device == nullptr) return;
        const int64_t begin_ns = steady_now_ns();
        {
          const HandlerTimer timer(*stage->clock);
          collect(self, *stage);
        }
        rest(self, *stage, begin_ns);
      },
      [stage](rest_atom) {
        if (stage->parts.sweep) stage->parts.sweep();
      },
  };
}

}  // namespace troupe::actors
