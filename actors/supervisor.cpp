// The supervisor: watches the cast. A dead executor or encoder is replaced and its requests go on; an
// encoder that dies again and again is given up, and texts go on without it; any other
// death, or one death too many, ends the engine with one clean failure for everybody.
#include "actors/shells.hpp"
#include "base/log.hpp"

namespace troupe::actors {
namespace {

using Self = SupervisorActor::stateful_pointer<SupervisorState>;

void install(Self self, const Status& why) {
  SupervisorState& state = self->state;
  self->monitor(state.executor);
  self->send(state.scheduler, device_atom_v, state.executor, std::make_shared<const Status>(why));
}

void give_up(Self self, const SupervisorParts& parts, const Status& why) {
  if (std::exchange(self->state.failed, true)) return;
  log(LogLevel::error, "the engine has failed: " + why.message());
  parts.admission->shut(why);
  self->send(self->state.frontdesk, end_all_atom_v, std::make_shared<const Status>(why));
}

void executor_died(Self self, const SupervisorParts& parts, const caf::error& reason) {
  SupervisorState& state = self->state;
  Status why = state.executor_obituary->read();
  if (why.ok()) why = internal_error("executor ended: " + self->system().render(reason));
  parts.gauge->launched_ns.store(0);
  Board& board = parts.admission->board();
  if (!state.supervision->executor_died(board.steps.load())) {
    return give_up(self, parts,
                   {Code::device_failed, "the device failed and is not replaced: " + why.message()});
  }
  ++state.generation;
  board.replacements.fetch_add(1, std::memory_order_relaxed);
  log(LogLevel::warn, "executor replaced, its requests go on: " + why.message());
  state.executor_obituary = std::make_shared<Obituary>();
  state.executor = parts.spawn_executor(state.generation, state.executor_obituary);
  install(self, {Code::device_failed, "the device failed: " + why.message(), true});
}

// False: it was none of the encoders.
bool encoder_died(Self self, const SupervisorParts& parts, const caf::down_msg& down) {
  SupervisorState& state = self->state;
  for (size_t i = 0; i < state.encoders.size(); ++i) {
    SupervisorState::Encoder& encoder = state.encoders[i];
    if (down.source != encoder.actor.address()) continue;
    const auto device = static_cast<int32_t>(i);
    Status why = encoder.obituary->read();
    if (why.ok()) why = internal_error("encoder ended: " + self->system().render(down.reason));
    Board& board = parts.admission->board();
    const bool again = encoder.supervision->executor_died(board.tiles_encoded.load());
    why = {Code::device_failed, "the encoder failed: " + why.message(), again};
    log(LogLevel::warn, "encoder " + std::to_string(device) + (again ? " replaced: " : " given up: ") +
                            why.message());
    self->send(state.balancer, lost_atom_v, device, again, std::make_shared<const Status>(why));
    if (!again) return true;
    board.replacements.fetch_add(1, std::memory_order_relaxed);
    encoder.obituary = std::make_shared<Obituary>();
    encoder.actor = parts.spawn_encoder(device, ++encoder.generation, encoder.obituary);
    self->monitor(encoder.actor);
    self->send(state.balancer, device_atom_v, device, encoder.actor);
    return true;
  }
  return false;
}

void adopt_encoders(Self self, const SupervisorParts& parts) {
  SupervisorState& state = self->state;
  state.balancer = parts.balancer;
  for (const auto& [actor, obituary] : parts.encoders) {
    const auto device = static_cast<int32_t>(state.encoders.size());
    state.encoders.push_back({actor, obituary, 0, std::make_unique<Supervision>(parts.limits)});
    self->monitor(actor);
    self->send(state.balancer, device_atom_v, device, actor);
  }
}

void other_died(Self self, const SupervisorParts& parts, const caf::down_msg& down) {
  for (const auto& [actor, obituary] : parts.others) {
    if (caf::actor_cast<caf::actor_addr>(actor) != down.source) continue;
    Status why = obituary->read();
    if (why.ok()) why = internal_error("an actor ended: " + self->system().render(down.reason));
    return give_up(self, parts, why.at("the engine stopped"));
  }
}

}  // namespace

SupervisorActor::behavior_type supervisor(Self self, ShellParts shell, const SupervisorParts& parts,
                                          FrontdeskActor frontdesk, SchedulerActor scheduler) {
  keep_last_words(self, shell.obituary);
  self->state.frontdesk = std::move(frontdesk);
  self->state.scheduler = std::move(scheduler);
  self->state.supervision = std::make_unique<Supervision>(parts.limits);
  for (const auto& [actor, obituary] : parts.others) self->monitor(actor);
  self->set_down_handler([self, parts](const caf::down_msg& down) {
    if (down.reason == caf::exit_reason::user_shutdown) return;  // the cast is being closed
    if (down.source == self->state.executor.address()) {
      executor_died(self, parts, down.reason);
    } else if (!encoder_died(self, parts, down)) {
      other_died(self, parts, down);
    }
  });
  self->set_exit_handler([self](const caf::exit_msg& exit) {
    self->send_exit(self->state.executor, exit.reason);
    for (const auto& encoder : self->state.encoders) self->send_exit(encoder.actor, exit.reason);
    self->quit(exit.reason);
  });
  self->state.executor = parts.first;
  self->state.executor_obituary = parts.first_obituary;
  install(self, {});
  adopt_encoders(self, parts);
  return {
      measured(shell.clock,
               [self, parts](tick_atom, const Pulse& pulse) {
                 const auto stall = self->state.supervision->look(
                     pulse.now_ns, parts.gauge->launched_ns.load(std::memory_order_relaxed));
                 if (stall == Supervision::Stall::warn) {
                   log(LogLevel::warn, "a step takes unusually long; " +
                                           std::to_string(pulse.step) + " steps are done");
                 } else if (stall == Supervision::Stall::fatal) {
                   give_up(self, parts, {Code::device_failed,
                                         "the device has not answered a step for too long"});
                 }
               }),
  };
}

}  // namespace troupe::actors
