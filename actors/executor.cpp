// The executor: drives one device on a thread of its own. The only actor that may wait, and so the
// one with time to spare: while its device is busy with the next step it runs the scheduler and the
// detokenizer itself (actors/caf_sharing.hpp).
#include "actors/caf_sharing.hpp"
#include "actors/shells.hpp"

namespace troupe::actors {

ExecutorState::ExecutorState() = default;
ExecutorState::~ExecutorState() = default;

namespace {

using Self = ExecutorActor::stateful_pointer<ExecutorState>;

void die(Self self, const ObituaryPtr& obituary, const Status& why) {
  obituary->write(why);
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

// Everything that can still be done before waiting is done.
void help(Self self) {
  if (self->state.helper) self->state.helper->run_all(self->context());
}

// Waits for the oldest step in flight, and answers whoever asked: a helper makes the next plan of it
// at once.
void collect(Self self, const ObituaryPtr& obituary, const ExecutorParts& parts) {
  ExecutorState& state = self->state;
  if (state.flights.empty()) return;
  help(self);
  Result<StepResult> result = state.device->collect();
  if (!result.ok()) return die(self, obituary, result.status());
  const StepJobPtr job = std::move(state.flights.front());
  state.flights.erase(state.flights.begin());
  note_collected(state, parts);
  drop_embeddings(state, *job);
  job->result = std::move(result).value();
  {
    const Helper::Scope scope(state.helper.get());
    self->send(caf::actor_cast<SchedulerActor>(self->current_sender()), done_atom_v, job);
  }
  if (state.helper) state.helper->run(self->context());
}

// The handler is over. What is left to do waits for the launch of the plan, if one has come.
void rest(Self self) {
  if (self->mailbox().empty()) help(self);
}

}  // namespace

ExecutorActor::behavior_type executor(Self self, ShellParts shell, const ExecutorParts& parts) {
  keep_last_words(self, shell.obituary);
  if (parts.own_thread) enter_thread(parts.thread);
  if (parts.helps) self->state.helper = std::make_unique<Helper>(self->system());
  Status status;
  try {
    Result<std::unique_ptr<engine::StepExecutor>> device = parts.open();
    status = device.status();
    if (device.ok()) self->state.device = std::move(device).value();
  } catch (...) {
    status = status_of(std::current_exception()).at("opening the device");
  }
  if (!status.ok()) die(self, shell.obituary, status);
  if (parts.opened) parts.opened(status);
  return {
      measured(shell.clock,
               [self, shell, parts](step_atom, const StepJobPtr& job) {
                 ExecutorState& state = self->state;
                 if (state.device == nullptr) return;
                 note_launch(state, parts);
                 Status sent = put_embeddings(state, *job);
                 if (sent.ok()) sent = state.device->forward(job->plan);
                 if (sent.ok()) sent = state.device->sample({});
                 if (!sent.ok()) return die(self, shell.obituary, sent);
                 state.flights.push_back(job);
                 if (job->collect) collect(self, shell.obituary, parts);
                 rest(self);
               }),
      measured(shell.clock,
               [self, shell, parts](collect_atom) {
                 if (self->state.device == nullptr) return;
                 collect(self, shell.obituary, parts);
                 rest(self);
               }),
  };
}

}  // namespace troupe::actors
