// The encoder: drives one device's vision tower on a thread of its own. Like the executor it may wait.
#include "actors/shells.hpp"

namespace troupe::actors {
namespace {

using Self = EncoderActor::stateful_pointer<EncoderState>;

void die(Self self, const ObituaryPtr& obituary, const Status& why) {
  obituary->write(why);
  self->state.device.reset();  // here, on the thread that drove it
  self->quit(caf::exit_reason::unhandled_exception);
}

Result<std::vector<engine::EmbeddingPtr>> answer(engine::VisionExecutor& device, const VisionCall& call) {
  std::vector<engine::EmbeddingPtr> rows;
  if (call.picture == nullptr) return device.encode(call.tiles);
  if (call.picture->input.kind == ImageKind::embedding) {
    TR_ASSIGN(engine::EmbeddingPtr adopted, device.adopt(call.picture->input));
    rows.push_back(std::move(adopted));
  } else {
    TR_ASSIGN(engine::EmbeddingPtr joined, device.join(call.picture->layout, call.parts));
    rows.push_back(std::move(joined));
  }
  return rows;
}

}  // namespace

EncoderActor::behavior_type encoder(Self self, ShellParts shell, const EncoderParts& parts) {
  keep_last_words(self, shell.obituary);
  if (parts.own_thread) enter_thread(parts.thread);
  Status status;
  try {
    Result<std::unique_ptr<engine::VisionExecutor>> device = parts.open();
    status = device.status();
    if (device.ok()) self->state.device = std::move(device).value();
  } catch (...) {
    status = status_of(std::current_exception()).at("opening the encoder");
  }
  if (!status.ok()) die(self, shell.obituary, status);
  if (parts.opened) parts.opened(status);
  return {
      measured(shell.clock,
               [self, shell, parts](call_atom, const VisionCallPtr& call) {
                 EncoderState& state = self->state;
                 if (state.device == nullptr) return;
                 const int64_t begin = parts.clock->now_ns();
                 auto rows = answer(*state.device, *call);
                 call->status = rows.status();
                 call->ns = parts.clock->now_ns() - begin;
                 if (call->status.code() == Code::device_failed) {
                   return die(self, shell.obituary, call->status);
                 }
                 call->tiles = {};  // megabytes: given back here and not on an actor's thread
                 call->parts = {};
                 if (rows.ok()) call->rows = std::move(rows).value();
                 self->send(caf::actor_cast<BalancerActor>(self->current_sender()), called_atom_v,
                            call);
               }),
  };
}

}  // namespace troupe::actors
