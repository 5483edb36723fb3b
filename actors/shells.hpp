// The shells: one function per actor, given its parts, that turns messages into calls of its core.
// Executor and detokenizer answer whoever asked them, so handles point one way only.
#pragma once

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "actors/balancer_desk.hpp"
#include "actors/cast_parts.hpp"
#include "actors/direct_line.hpp"
#include "actors/frontdesk_core.hpp"
#include "actors/messages.hpp"
#include "actors/output_desk.hpp"
#include "actors/scheduler_desk.hpp"
#include "actors/shell.hpp"
#include "actors/supervision.hpp"
#include "engine/core_choice.hpp"

namespace troupe::actors {

inline constexpr std::chrono::milliseconds kTick{100};

// What every shell is given: where its times and its last words go.
struct ShellParts {
  HandlerClockPtr clock;
  ObituaryPtr obituary = std::make_shared<Obituary>();
};

// An exception that leaves a handler ends the actor; its text goes to the obituary, not to stderr.
template <class Self>
void keep_last_words(Self* self, const ObituaryPtr& obituary) {
  self->set_exception_handler([obituary](std::exception_ptr& exception) -> caf::error {
    obituary->write(status_of(exception));
    return caf::sec::runtime_error;
  });
}

// The same for an actor that somebody else spoke for when its core failed.
template <class Self>
std::function<void(const std::exception_ptr&)> last_words(Self* self, const ObituaryPtr& obituary) {
  return [self, obituary](const std::exception_ptr& exception) {
    obituary->write(status_of(exception));
    caf::anon_send_exit(self->address(), caf::exit_reason::unhandled_exception);
  };
}

struct FrontdeskState {
  FrontdeskState() = default;  // not an aggregate: CAF would take its first member for a constructor's
  static constexpr const char* name = "frontdesk";
  FrontdeskCore core;
  TokenizerActor tokenizer;
  SchedulerActor scheduler;
  BalancerActor balancer;  // null: the model has no eyes
};
FrontdeskActor::behavior_type frontdesk(FrontdeskActor::stateful_pointer<FrontdeskState> self,
                                        ShellParts shell, TokenizerActor tokenizer,
                                        SchedulerActor scheduler, BalancerActor balancer);

struct TokenizerState {
  TokenizerState() = default;
  static constexpr const char* name = "tokenizer";
  std::shared_ptr<const EncodeParts> encode;
  std::shared_ptr<TaskRunner> runner;
  SchedulerActor scheduler;
  BalancerActor balancer;  // null: the model has no eyes
};
TokenizerActor::behavior_type tokenizer(TokenizerActor::stateful_pointer<TokenizerState> self,
                                        ShellParts shell, std::shared_ptr<const EncodeParts> encode,
                                        std::shared_ptr<TaskRunner> runner, SchedulerActor scheduler,
                                        BalancerActor balancer);

struct BalancerState {
  BalancerState() = default;
  static constexpr const char* name = "balancer";
  std::unique_ptr<BalancerDesk> desk;
  SchedulerActor scheduler;
  std::vector<EncoderActor> encoders;
  std::shared_ptr<TaskRunner> runner;
};
struct BalancerParts {
  engine::VisionConfig config;
  int32_t context_limit = 0;
  std::shared_ptr<const Eyes> eyes;
  std::shared_ptr<const Clock> clock;
  std::shared_ptr<Board> board;
};
BalancerActor::behavior_type balancer(BalancerActor::stateful_pointer<BalancerState> self,
                                      ShellParts shell, const BalancerParts& parts,
                                      std::shared_ptr<TaskRunner> runner, SchedulerActor scheduler);

struct EncoderParts {
  std::function<Result<std::unique_ptr<engine::VisionExecutor>>()> open;
  std::function<void(const Status&)> opened;  // called on the encoder's thread; may be empty
  PlannedThread thread;
  bool own_thread = true;
  std::shared_ptr<const Clock> clock;
};
struct EncoderState {
  EncoderState() = default;
  static constexpr const char* name = "encoder";
  std::unique_ptr<engine::VisionExecutor> device;
};
EncoderActor::behavior_type encoder(EncoderActor::stateful_pointer<EncoderState> self,
                                    ShellParts shell, const EncoderParts& parts);

using SchedulerLine = DirectLine<SchedulerDesk>;
using DetokenizerLine = DirectLine<OutputDesk>;

struct SchedulerState {
  SchedulerState() = default;
  ~SchedulerState() {
    if (line) line->close();
  }
  static constexpr const char* name = "scheduler";
  std::shared_ptr<SchedulerLine> line;
  std::unique_ptr<SchedulerDesk> desk;
  DetokenizerActor detokenizer;
  ExecutorActor executor;
};
struct SchedulerParts {
  engine::SchedulerConfig config;
  bool runs_ahead = false;
  std::shared_ptr<const Clock> clock;
  std::shared_ptr<Board> board;
  std::shared_ptr<SessionList> sessions;
  std::function<void()> rest;  // SchedulerLinks::rest
  std::shared_ptr<SchedulerLine> line;
  bool tells_apart = false;    // outputs are told by whoever is idle, never on the executor's thread
};
SchedulerActor::behavior_type scheduler(SchedulerActor::stateful_pointer<SchedulerState> self,
                                        ShellParts shell, const SchedulerParts& parts,
                                        DetokenizerActor detokenizer);

struct DetokenizerState {
  DetokenizerState() = default;
  ~DetokenizerState() {
    if (line) line->close();
  }
  static constexpr const char* name = "detokenizer";
  std::shared_ptr<DetokenizerLine> line;
  std::unique_ptr<OutputDesk> desk;
  std::vector<engine::Cut> cuts;  // of the delivery being taken
};
DetokenizerActor::behavior_type detokenizer(
    DetokenizerActor::stateful_pointer<DetokenizerState> self, ShellParts shell,
    std::shared_ptr<const engine::TextSource> text, std::shared_ptr<DetokenizerLine> line);

// How an executor spends its time; read by the board's readers.
struct ExecutorGauge {
  std::atomic<int64_t> launched_ns{0};  // of the oldest step in flight; 0: none
  std::atomic<int64_t> idle_ns{0};      // between steps that followed one another
  std::atomic<uint64_t> gaps{0};
  // Its thread's time in steps, without that in which it stood still for the device: launching,
  // collecting, and what planning and telling it does for others meanwhile (CastParts::tells_apart).
  std::atomic<int64_t> host_ns{0};
  std::atomic<int64_t> recording_ns{0};  // not in host_ns: recording steps, once each kind of them
  std::atomic<uint64_t> moves{0};        // from core to core, of its own will
  std::mutex mutex;
  std::vector<MemoryShare> memory;  // guarded; as it was when the device last had nothing to do
};
struct ExecutorParts {
  std::function<Result<std::unique_ptr<engine::StepExecutor>>()> open;
  std::function<void(const Status&)> opened;  // called on the executor's thread; may be empty
  PlannedThread thread;
  bool own_thread = true;
  bool helps = false;  // runs scheduler and detokenizer itself while its device is busy
  std::shared_ptr<const Clock> clock;
  std::shared_ptr<Cores> cores;  // CastParts::cores
  std::shared_ptr<ExecutorGauge> gauge;
  std::shared_ptr<SchedulerLine> scheduler;      // used by one that helps
  std::shared_ptr<DetokenizerLine> detokenizer;
  std::function<void()> sweep;  // when the engine rests; may be empty
};
class Helper;
struct ExecutorState {
  ExecutorState();
  ~ExecutorState();
  static constexpr const char* name = "executor";
  std::unique_ptr<engine::StepExecutor> device;
  std::vector<StepJobPtr> flights;  // oldest first, at most two
  uint64_t last_step = UINT64_MAX - 1;  // that was launched
  std::unique_ptr<Helper> helper;   // null: others run what it makes ready (actors/caf_sharing.hpp)
  std::vector<engine::Cut> cuts;    // of the delivery being told
  std::unordered_map<uint64_t, int32_t> embeddings;  // on the device: uses by steps in flight
  int64_t idle_since_ns = 0;
  int64_t waited_ns = 0, recorded_ns = 0;  // by the device, as of the last look
  int32_t launched = 0, collected = 0;     // since then
  int32_t repeats = 0;                     // StepJob's, of the last one launched
  std::optional<engine::CoreChoice> core;  // none: the thread stays where the system puts it
  int64_t next_memory_look_ns = 0;
};
ExecutorActor::behavior_type executor(ExecutorActor::stateful_pointer<ExecutorState> self,
                                      ShellParts shell, const ExecutorParts& parts);

struct HeartbeatLinks {
  FrontdeskActor frontdesk;
  SchedulerActor scheduler;
  SupervisorActor supervisor;
};
struct HeartbeatState {
  HeartbeatState() = default;
  static constexpr const char* name = "heartbeat";
  HeartbeatLinks links;
};
HeartbeatActor::behavior_type heartbeat(HeartbeatActor::stateful_pointer<HeartbeatState> self,
                                        ShellParts shell, std::shared_ptr<const Clock> clock,
                                        std::shared_ptr<const Board> board, HeartbeatLinks links);

struct SupervisorState {
  SupervisorState() = default;
  static constexpr const char* name = "supervisor";
  FrontdeskActor frontdesk;
  SchedulerActor scheduler;
  ExecutorActor executor;
  ObituaryPtr executor_obituary;
  int32_t generation = 0;
  bool failed = false;
  std::unique_ptr<Supervision> supervision;
  struct Encoder {
    EncoderActor actor;
    ObituaryPtr obituary;
    int32_t generation = 0;
    std::unique_ptr<Supervision> supervision;
  };
  BalancerActor balancer;
  std::vector<Encoder> encoders;
};
struct SupervisorParts {
  ExecutorActor first;  // generation 0, open already
  ObituaryPtr first_obituary;
  // Makes executor number `generation`, monitored by nobody yet.
  std::function<ExecutorActor(int32_t generation, const ObituaryPtr&)> spawn_executor;
  BalancerActor balancer;  // null: the model has no eyes
  std::vector<std::pair<EncoderActor, ObituaryPtr>> encoders;  // generation 0, open already
  std::function<EncoderActor(int32_t device, int32_t generation, const ObituaryPtr&)> spawn_encoder;
  // Those whose end is the engine's. Strong: monitoring an address whose actor is gone is undefined.
  std::vector<std::pair<caf::strong_actor_ptr, ObituaryPtr>> others;
  std::shared_ptr<Admission> admission;
  std::shared_ptr<ExecutorGauge> gauge;
  Supervision::Limits limits;
};
SupervisorActor::behavior_type supervisor(SupervisorActor::stateful_pointer<SupervisorState> self,
                                          ShellParts shell, const SupervisorParts& parts,
                                          FrontdeskActor frontdesk, SchedulerActor scheduler);

}  // namespace troupe::actors
