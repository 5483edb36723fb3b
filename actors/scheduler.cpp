// The scheduler: carries messages between its desk and the executor and detokenizer. An executor that
// helps speaks for it when a step is done, and takes over what comes of it (actors/direct_line.hpp).
#include <caf/send.hpp>

#include "actors/caf_sharing.hpp"
#include "actors/shells.hpp"

namespace troupe::actors {
namespace {

using Self = SchedulerActor::stateful_pointer<SchedulerState>;

// From whichever thread the desk is on: the actor's own context is that of where it was last.
template <class To, class... Message>
void tell(Self self, const To& to, Message... message) {
  caf::send_as(caf::actor_cast<SchedulerActor>(self), to, std::move(message)...);
}

// Of this thread, if it is the executor's; else null.
Helper* helper_of(Self self) {
  const ExecutorActor& executor = self->state.executor;
  return executor ? Helper::of(executor.id()) : nullptr;
}

SchedulerLinks links_of(Self self, const SchedulerParts& parts) {
  SchedulerLinks links;
  links.step = [self](StepJobPtr job) {
    if (Helper* const helper = helper_of(self)) return helper->hand_over(std::move(job));
    tell(self, self->state.executor, step_atom_v, std::move(job));
  };
  links.collect = [self] { tell(self, self->state.executor, collect_atom_v); };
  links.deliver = [self, apart = parts.tells_apart](DeliveryPtr delivery) {
    if (apart) {
      const Helper::Scope everybody(nullptr);
      return tell(self, self->state.detokenizer, deliver_atom_v, std::move(delivery));
    }
    if (Helper* const helper = helper_of(self)) {
      return helper->hand_over(
          {caf::actor_cast<SchedulerActor>(self), self->state.detokenizer, std::move(delivery)});
    }
    tell(self, self->state.detokenizer, deliver_atom_v, std::move(delivery));
  };
  links.tick_soon = [self] { tell(self, caf::actor_cast<SchedulerActor>(self), tick_atom_v, Pulse{}); };
  links.distrust = [self](const Status&) {
    caf::anon_send_exit(self->state.executor, caf::exit_reason::kill);
  };
  links.rest = [self, rest = parts.rest] {
    if (rest) rest();
    if (self->state.executor) tell(self, self->state.executor, rest_atom_v);
  };
  return links;
}

}  // namespace

SchedulerActor::behavior_type scheduler(Self self, ShellParts shell, const SchedulerParts& parts,
                                        DetokenizerActor detokenizer) {
  keep_last_words(self, shell.obituary);
  SchedulerState& state = self->state;
  state.detokenizer = std::move(detokenizer);
  state.desk = std::make_unique<SchedulerDesk>(parts.config, parts.runs_ahead, parts.clock,
                                               parts.board, parts.sessions, links_of(self, parts));
  state.line = parts.line;
  state.line->open(*state.desk, shell.clock, last_words(self, shell.obituary));
  const std::shared_ptr<SchedulerLine>& line = state.line;
  return {
      in_turn(line,
              [self](encoded_atom, const OrderPtr& order) { self->state.desk->encoded(order); }),
      in_turn(line,
              [self](ready_atom, const DevelopedPtr& rows) { self->state.desk->ready(*rows); }),
      in_turn(line,
              [self](cancel_atom, const TicketPtr& ticket) { self->state.desk->cancel(*ticket); }),
      in_turn(line,
              [self](done_atom, const StepJobPtr& job) { self->state.desk->done(job); }),
      in_turn(line,
              [self](cut_atom, const CutsPtr& cuts) { self->state.desk->cut(*cuts); }),
      in_turn(line,
              [self](device_atom, const ExecutorActor& executor, const StatusPtr& why) {
                 self->state.executor = executor;
                 self->state.desk->device(*why);
               }),
      in_turn(line,
              [self](visit_atom, const VisitPtr& visit) { self->state.desk->visit(*visit); }),
      in_turn(line, [self](tick_atom, const Pulse&) { self->state.desk->tick(); }),
  };
}

}  // namespace troupe::actors
