// The detokenizer: outputs become events; choices that a stop string ended go back to the scheduler.
#include "actors/shells.hpp"

namespace troupe::actors {

DetokenizerActor::behavior_type detokenizer(
    DetokenizerActor::stateful_pointer<DetokenizerState> self, ShellParts shell,
    std::shared_ptr<const engine::TextSource> text, std::shared_ptr<DetokenizerLine> line) {
  keep_last_words(self, shell.obituary);
  self->state.desk = std::make_unique<OutputDesk>(std::move(text));
  self->state.line = std::move(line);
  self->state.line->open(*self->state.desk, shell.clock, last_words(self, shell.obituary));
  return {
      in_turn(self->state.line,
              [self](deliver_atom, const DeliveryPtr& delivery) {
                std::vector<engine::Cut>& cuts = self->state.cuts;
                self->state.desk->take(delivery, cuts);
                if (cuts.empty()) return;
                self->send(caf::actor_cast<SchedulerActor>(self->current_sender()), cut_atom_v,
                           std::make_shared<Cuts>(Cuts{std::exchange(cuts, {})}));
              }),
  };
}

}  // namespace troupe::actors
