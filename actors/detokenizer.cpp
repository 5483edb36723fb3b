// The detokenizer: outputs become events; choices that a stop string ended go back to the scheduler.
#include "actors/shells.hpp"

namespace troupe::actors {

DetokenizerActor::behavior_type detokenizer(
    DetokenizerActor::stateful_pointer<DetokenizerState> self, ShellParts shell,
    std::shared_ptr<const engine::TextSource> text) {
  keep_last_words(self, shell.obituary);
  self->state.desk = std::make_unique<OutputDesk>(std::move(text));
  return {
      measured(shell.clock,
               [self](deliver_atom, const DeliveryPtr& delivery) {
                 auto cuts = std::make_shared<Cuts>();
                 self->state.desk->take(*delivery, cuts->cuts);
                 if (cuts->cuts.empty()) return;
                 self->send(caf::actor_cast<SchedulerActor>(self->current_sender()), cut_atom_v,
                            std::move(cuts));
               }),
  };
}

}  // namespace troupe::actors
