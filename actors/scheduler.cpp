// The scheduler: carries messages between its desk and the executor and detokenizer.
#include "actors/caf_sharing.hpp"
#include "actors/shells.hpp"

namespace troupe::actors {

SchedulerActor::behavior_type scheduler(SchedulerActor::stateful_pointer<SchedulerState> self,
                                        ShellParts shell, const SchedulerParts& parts,
                                        DetokenizerActor detokenizer) {
  keep_last_words(self, shell.obituary);
  SchedulerState& state = self->state;
  state.detokenizer = std::move(detokenizer);
  SchedulerLinks links;
  links.step = [self](StepJobPtr job) {
    if (Helper::hand_over(self->state.executor.id(), job)) return;
    self->send(self->state.executor, step_atom_v, std::move(job));
  };
  links.collect = [self] { self->send(self->state.executor, collect_atom_v); };
  links.deliver = [self](DeliveryPtr delivery) {
    self->send(self->state.detokenizer, deliver_atom_v, std::move(delivery));
  };
  links.distrust = [self](const Status&) {
    self->send_exit(self->state.executor, caf::exit_reason::kill);
  };
  links.rest = [self, rest = parts.rest] {
    if (rest) rest();
    if (self->state.executor) self->send(self->state.executor, rest_atom_v);
  };
  state.desk = std::make_unique<SchedulerDesk>(parts.config, parts.runs_ahead, parts.clock,
                                               parts.board, parts.sessions, std::move(links));
  return {
      measured(shell.clock,
               [self](encoded_atom, const OrderPtr& order) { self->state.desk->encoded(order); }),
      measured(shell.clock,
               [self](ready_atom, const DevelopedPtr& rows) { self->state.desk->ready(*rows); }),
      measured(shell.clock,
               [self](cancel_atom, const TicketPtr& ticket) { self->state.desk->cancel(*ticket); }),
      measured(shell.clock,
               [self](done_atom, const StepJobPtr& job) { self->state.desk->done(job); }),
      measured(shell.clock,
               [self](cut_atom, const CutsPtr& cuts) { self->state.desk->cut(*cuts); }),
      measured(shell.clock,
               [self](device_atom, const ExecutorActor& executor, const StatusPtr& why) {
                 self->state.executor = executor;
                 self->state.desk->device(*why);
               }),
      measured(shell.clock,
               [self](visit_atom, const VisitPtr& visit) { self->state.desk->visit(*visit); }),
      measured(shell.clock, [self](tick_atom, const Pulse&) { self->state.desk->tick(); }),
  };
}

}  // namespace troupe::actors
