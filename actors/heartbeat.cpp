// The heartbeat: the one clock of the cast. Ticks to whoever keeps deadlines or watches progress.
#include "actors/shells.hpp"

namespace troupe::actors {

HeartbeatActor::behavior_type heartbeat(HeartbeatActor::stateful_pointer<HeartbeatState> self,
                                        ShellParts shell, std::shared_ptr<const Clock> clock,
                                        std::shared_ptr<const Board> board, HeartbeatLinks links) {
  keep_last_words(self, shell.obituary);
  self->state.links = std::move(links);
  self->delayed_send(self, kTick, tick_atom_v);
  return {
      measured(shell.clock,
               [self, clock, board](tick_atom) {
                 const Pulse pulse{clock->now_ns(), board->steps.load(std::memory_order_relaxed)};
                 self->send(self->state.links.frontdesk, tick_atom_v, pulse);
                 self->send(self->state.links.scheduler, tick_atom_v, pulse);
                 self->send(self->state.links.supervisor, tick_atom_v, pulse);
                 self->delayed_send(self, kTick, tick_atom_v);
               }),
  };
}

}  // namespace troupe::actors
