// The tokenizer: hands each order to the pool, which answers the scheduler, or the balancer when there
// are pictures in it.
#include <caf/send.hpp>

#include "actors/shells.hpp"

namespace troupe::actors {
namespace {

// On a thread of the pool. A refused order ends here, with its ticket.
void encode_and_send(const OrderPtr& order, const EncodeParts& parts,
                     const SchedulerActor& scheduler, const BalancerActor& balancer) {
  Ticket& ticket = *order->ticket;
  Status status;
  if (ticket.asked_to_stop()) {
    status = ticket.stop_reason();
  } else {
    try {
      status = encode_order(*order, parts);
    } catch (...) {
      status = status_of(std::current_exception()).at("while reading the prompt");
    }
  }
  if (!status.ok()) {
    ticket.end(status);
    return;
  }
  if (order->sight != nullptr) {
    caf::anon_send(balancer, see_atom_v, order);
  } else {
    caf::anon_send(scheduler, encoded_atom_v, order);
  }
}

}  // namespace

TokenizerActor::behavior_type tokenizer(TokenizerActor::stateful_pointer<TokenizerState> self,
                                        ShellParts shell, std::shared_ptr<const EncodeParts> encode,
                                        std::shared_ptr<TaskRunner> runner,
                                        SchedulerActor scheduler, BalancerActor balancer) {
  keep_last_words(self, shell.obituary);
  self->state.encode = std::move(encode);
  self->state.runner = std::move(runner);
  self->state.scheduler = std::move(scheduler);
  self->state.balancer = std::move(balancer);
  return {
      measured(shell.clock,
               [self](encode_atom, const OrderPtr& order) {
                 TokenizerState& s = self->state;
                 s.runner->run(text_bytes(order->request),
                               [order, parts = s.encode, scheduler = s.scheduler,
                                balancer = s.balancer] {
                                 encode_and_send(order, *parts, scheduler, balancer);
                               });
               }),
  };
}

}  // namespace troupe::actors
