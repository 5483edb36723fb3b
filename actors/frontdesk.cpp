// The frontdesk: admitted requests come in here, and here they are found again by id.
#include "actors/shells.hpp"

namespace troupe::actors {

FrontdeskActor::behavior_type frontdesk(FrontdeskActor::stateful_pointer<FrontdeskState> self,
                                        ShellParts shell, TokenizerActor tokenizer,
                                        SchedulerActor scheduler, BalancerActor balancer) {
  keep_last_words(self, shell.obituary);
  self->state.tokenizer = std::move(tokenizer);
  self->state.scheduler = std::move(scheduler);
  self->state.balancer = std::move(balancer);
  // An order may still be on its way to the scheduler or the balancer; there it is stopped on
  // arrival, because its ticket has been asked before this message goes out.
  const auto tell_scheduler = [self](const TicketPtr& ticket) {
    self->send<caf::message_priority::high>(self->state.scheduler, cancel_atom_v, ticket);
    if (self->state.balancer) self->send(self->state.balancer, cancel_atom_v, ticket);
  };
  return {
      measured(shell.clock,
               [self](submit_atom, const OrderPtr& order) {
                 Event admitted;
                 admitted.kind = EventKind::admitted;
                 order->ticket->push(std::move(admitted));
                 self->state.core.add(order->ticket);
                 self->send(self->state.tokenizer, encode_atom_v, order);
               }),
      measured(shell.clock,
               [self, tell_scheduler](cancel_atom, uint64_t id) {
                 const TicketPtr ticket = self->state.core.find(id);
                 if (ticket == nullptr) return;
                 if (!ticket->ask_to_stop({Code::cancelled, "cancelled by the caller"})) return;
                 tell_scheduler(ticket);
               }),
      measured(shell.clock,
               [self, tell_scheduler](stop_atom, const StatusPtr& why) {
                 for (const TicketPtr& ticket : self->state.core.ask_all(*why)) {
                   tell_scheduler(ticket);
                 }
               }),
      measured(shell.clock,
               [self](end_all_atom, const StatusPtr& why) { self->state.core.end_all(*why); }),
      measured(shell.clock,
               [self, tell_scheduler](tick_atom, const Pulse& pulse) {
                 for (const TicketPtr& ticket : self->state.core.tick(pulse.now_ns)) {
                   tell_scheduler(ticket);
                 }
               }),
  };
}

}  // namespace troupe::actors
