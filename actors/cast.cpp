#include "actors/cast.hpp"

#include <algorithm>
#include <atomic>
#include <caf/actor_system.hpp>
#include <caf/send.hpp>
#include <chrono>
#include <future>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <utility>

#include "actors/caf_sharing.hpp"
#include "actors/caf_system.hpp"
#include "actors/shells.hpp"
#include "base/heap_sweep.hpp"
#include "base/log.hpp"
#include "engine/session_book.hpp"
#include "engine/slab.hpp"

namespace troupe::actors {
namespace {

constexpr size_t kLongTextBytes = 16 * 1024;
constexpr std::chrono::seconds kVisitTimeout{10};
constexpr std::chrono::seconds kCancelTimeout{20};  // for cancelled requests to end by themselves
constexpr std::chrono::seconds kExitTimeout{60};    // for a device to come back from its step

Status set_out(SessionList& sessions, uint64_t session, RequestId id, SessionList::Way& way) {
  auto taken = sessions.set_out(session, id);
  if (const auto* refused = std::get_if<SessionList::Refused>(&taken)) {
    return refused->first == 0 ? engine::unknown_session(session)
                               : engine::busy_session(session, refused->first);
  }
  way = std::move(std::get<SessionList::Way>(taken));
  return {};
}

}  // namespace

struct Cast::State {
  explicit State(CastParts given)
      : parts(std::move(given)),
        board(std::make_shared<Board>()),
        admission(std::make_shared<Admission>(parts.bounds, board)),
        sessions(std::make_shared<SessionList>()),
        gauge(std::make_shared<ExecutorGauge>()),
        encode(std::make_shared<const EncodeParts>(parts.encode)) {}

  CastParts parts;
  std::shared_ptr<Board> board;
  std::shared_ptr<Admission> admission;
  std::shared_ptr<SessionList> sessions;
  std::shared_ptr<ExecutorGauge> gauge;
  std::shared_ptr<const EncodeParts> encode;
  const std::shared_ptr<SchedulerLine> scheduler_line = std::make_shared<SchedulerLine>();
  const std::shared_ptr<DetokenizerLine> detokenizer_line = std::make_shared<DetokenizerLine>();
  std::shared_ptr<TaskRunner> runner;
  const std::shared_ptr<HeapSweep> heap = std::make_shared<HeapSweep>();
  std::vector<HandlerClockPtr> clocks;
  std::unique_ptr<CafConfig> config;
  std::unique_ptr<caf::actor_system> system;
  DetokenizerActor detokenizer;
  SchedulerActor scheduler;
  TokenizerActor tokenizer;
  FrontdeskActor frontdesk;
  SupervisorActor supervisor;
  HeartbeatActor heartbeat;
  BalancerActor balancer;        // null: the model has no eyes
  std::vector<std::pair<EncoderActor, ObituaryPtr>> first_encoders;  // until the supervisor has them
  HandlerClockPtr encoder_clock;
  std::shared_ptr<TaskRunner> decoders;
  ExecutorActor first_executor;  // until the supervisor has it
  ObituaryPtr first_obituary;
  HandlerClockPtr executor_clock;
  std::atomic<RequestId> next_id{1};
  const std::shared_ptr<engine::Slab> tickets = std::make_shared<engine::Slab>();
  std::shared_mutex handles;  // shared: to send through one; alone: to drop them all
  bool gone = false;          // guarded by handles
  std::mutex closing;         // one close() at a time
  bool closed = false;
  Status close_status;

  ShellParts shell(const char* name) {
    clocks.push_back(std::make_shared<HandlerClock>(name, parts.precise_clocks));
    return {clocks.back()};
  }
  // The system, the pool, and the first executor, which opens the device.
  void start(std::function<void(const Status&)> opened);
  // The encoders, which open their devices; waits for them unless simulated.
  Status start_encoders();
  void spawn_others();
  ExecutorActor spawn_executor(int32_t generation, const ObituaryPtr& obituary,
                               std::function<void(const Status&)> opened) const;
  EncoderActor spawn_encoder(int32_t device, int32_t generation, const ObituaryPtr& obituary,
                             std::function<void(const Status&)> opened) const;
  void spawn_balancer(std::vector<std::pair<caf::strong_actor_ptr, ObituaryPtr>>& others);
  SupervisorParts supervisor_parts(std::vector<std::pair<caf::strong_actor_ptr, ObituaryPtr>> others);
  // Nobody has wanted anything for a while: what bursts left in the threads' heaps goes back to the system.
  void rest();
  Status leave();
};

ExecutorActor Cast::State::spawn_executor(int32_t generation, const ObituaryPtr& obituary,
                                          std::function<void(const Status&)> opened) const {
  ExecutorParts mine;
  mine.open = [open = parts.open_device, generation] { return open(generation); };
  mine.opened = std::move(opened);
  if (const PlannedThread* thread = parts.threads.find(ThreadOwner::executor, 0)) {
    mine.thread = *thread;
  }
  mine.own_thread = !parts.simulated;
  mine.helps = parts.runs_ahead && parts.helps;
  mine.clock = parts.clock;
  mine.cores = parts.cores;
  mine.gauge = gauge;
  mine.scheduler = scheduler_line;
  mine.detokenizer = detokenizer_line;
  mine.sweep = [sweep = heap] { sweep->collect(); };
  const ShellParts given{executor_clock, obituary};
  return parts.simulated ? system->spawn(executor, given, mine)
                         : system->spawn<caf::detached>(executor, given, mine);
}

EncoderActor Cast::State::spawn_encoder(int32_t device, int32_t generation,
                                        const ObituaryPtr& obituary,
                                        std::function<void(const Status&)> opened) const {
  EncoderParts mine;
  mine.open = [open = parts.vision.open_device, device, generation] { return open(device, generation); };
  mine.opened = std::move(opened);
  if (const PlannedThread* thread = parts.threads.find(ThreadOwner::encoder, device)) {
    mine.thread = *thread;
  }
  mine.own_thread = !parts.simulated;
  mine.clock = parts.clock;
  const ShellParts given{encoder_clock, obituary};
  return parts.simulated ? system->spawn(encoder, given, mine)
                         : system->spawn<caf::detached>(encoder, given, mine);
}

Status Cast::State::start_encoders() {
  if (parts.vision.eyes == nullptr) return {};
  encoder_clock = shell("encoder").clock;
  decoders = parts.vision.runner
                 ? parts.vision.runner
                 : std::make_shared<TaskPool>(parts.threads, SIZE_MAX, ThreadOwner::decoder);
  std::vector<std::future<Status>> opened;
  for (int32_t device = 0; device < parts.vision.devices; ++device) {
    auto opening = std::make_shared<std::promise<Status>>();
    opened.push_back(opening->get_future());
    auto obituary = std::make_shared<Obituary>();
    EncoderActor actor = spawn_encoder(
        device, 0, obituary, [opening](const Status& status) { opening->set_value(status); });
    first_encoders.emplace_back(std::move(actor), std::move(obituary));
  }
  drop_logger();
  Status failure;
  for (auto& one : opened) {
    const Status status = parts.simulated ? Status() : one.get();
    if (failure.ok()) failure = status;
  }
  return failure;
}

void Cast::State::spawn_balancer(
    std::vector<std::pair<caf::strong_actor_ptr, ObituaryPtr>>& others) {
  if (parts.vision.eyes == nullptr) return;
  const ShellParts given = shell("balancer");
  BalancerParts mine;
  mine.config = parts.vision.balancer();
  mine.config.devices = parts.vision.devices;
  mine.context_limit = engine::Scheduler(parts.scheduler()).context_limit();
  mine.eyes = parts.vision.eyes;
  mine.clock = parts.clock;
  mine.board = board;
  balancer = system->spawn(actors::balancer, given, mine, decoders, scheduler);
  others.emplace_back(caf::actor_cast<caf::strong_actor_ptr>(balancer), given.obituary);
}

SupervisorParts Cast::State::supervisor_parts(
    std::vector<std::pair<caf::strong_actor_ptr, ObituaryPtr>> others) {
  SupervisorParts result;
  result.first = std::exchange(first_executor, nullptr);
  result.first_obituary = first_obituary;
  // The state outlives its actors: leave() waits for them.
  result.spawn_executor = [this](int32_t generation, const ObituaryPtr& obituary) {
    return spawn_executor(generation, obituary, nullptr);
  };
  result.others = std::move(others);
  result.balancer = balancer;
  result.encoders = std::exchange(first_encoders, {});
  result.spawn_encoder = [this](int32_t device, int32_t generation, const ObituaryPtr& obituary) {
    return spawn_encoder(device, generation, obituary, nullptr);
  };
  result.admission = admission;
  result.gauge = gauge;
  result.limits.replaceable = parts.replaceable;
  result.limits.stall_warn_ns = parts.stall_warn_ns;
  result.limits.stall_fatal_ns = parts.stall_fatal_ns;
  return result;
}

void Cast::State::start(std::function<void(const Status&)> opened) {
  config = std::make_unique<CafConfig>(parts.threads, parts.simulated);
  system = std::make_unique<caf::actor_system>(*config);
  runner = parts.runner ? parts.runner
                        : std::make_shared<TaskPool>(parts.threads, kLongTextBytes);
  executor_clock = shell("executor").clock;
  first_obituary = std::make_shared<Obituary>();
  first_executor = spawn_executor(0, first_obituary, std::move(opened));
  drop_logger();
}

void Cast::State::spawn_others() {
  std::vector<std::pair<caf::strong_actor_ptr, ObituaryPtr>> others;
  const auto watched = [&](const auto& handle, const ShellParts& given) {
    others.emplace_back(caf::actor_cast<caf::strong_actor_ptr>(handle), given.obituary);
    return handle;
  };
  ShellParts given = shell("detokenizer");
  detokenizer = watched(system->spawn(actors::detokenizer, given, parts.encode.text, detokenizer_line), given);
  given = shell("scheduler");
  const SchedulerParts scheduling{parts.scheduler(), parts.runs_ahead, parts.clock, board, sessions,
                                  [this] { rest(); }, scheduler_line, parts.tells_apart};
  scheduler = watched(system->spawn(actors::scheduler, given, scheduling, detokenizer), given);
  spawn_balancer(others);
  given = shell("tokenizer");
  tokenizer = watched(system->spawn(actors::tokenizer, given, encode, runner, scheduler, balancer), given);
  given = shell("frontdesk");
  frontdesk = watched(system->spawn(actors::frontdesk, given, tokenizer, scheduler, balancer), given);
  supervisor = system->spawn(actors::supervisor, shell("supervisor"),
                             supervisor_parts(std::move(others)), frontdesk, scheduler);
  heartbeat = system->spawn(actors::heartbeat, shell("heartbeat"), parts.clock,
                            std::shared_ptr<const Board>(board),
                            HeartbeatLinks{frontdesk, scheduler, supervisor});
  drop_logger();
}

// On the scheduler's thread, while nobody wants anything; the executor hears of it too. The state outlives
// its actors, but leave() takes the pools.
void Cast::State::rest() {
  const std::shared_lock lock(handles);
  if (gone || parts.simulated) return;
  const auto collect = [sweep = heap] { sweep->collect(); };
  auto& coordinator = static_cast<SharingCoordinator&>(system->scheduler());
  heap->begin(1 + coordinator.num_workers() + runner->threads() + (decoders ? decoders->threads() : 0));
  runner->rest(collect);
  if (decoders) decoders->rest(collect);
  Sharing::rest(coordinator, collect);
}

// Ends the actors in reverse order of creation, the pool's threads, and the system.
Status Cast::State::leave() {
  {
    const std::scoped_lock lock(handles);
    gone = true;
    const auto end = [](auto& handle) {
      if (!handle) return;
      caf::anon_send_exit(handle, caf::exit_reason::user_shutdown);
      handle = nullptr;
    };
    end(heartbeat);
    end(supervisor);  // takes the executor with it
    end(frontdesk);
    end(tokenizer);
    end(balancer);
    for (auto& [encoder, obituary] : first_encoders) end(encoder);
    end(scheduler);
    end(detokenizer);
    end(first_executor);
  }
  runner.reset();
  parts.runner.reset();
  decoders.reset();
  parts.vision.runner.reset();
  if (parts.simulated) {
    while (static_cast<caf::scheduler::test_coordinator&>(system->scheduler()).try_run_once()) {
    }
    drop_logger();
  }
  // ~actor_system waits for every actor; one that hangs in its device must not hang the caller.
  auto done = std::make_shared<std::promise<void>>();
  std::future<void> left = done->get_future();
  std::thread undertaker([sys = std::move(system), conf = std::move(config), done]() mutable {
    enter_thread({"tr-watchdog", ThreadOwner::watchdog, 0, -1});
    sys.reset();
    conf.reset();
    done->set_value();
  });
  if (left.wait_for(kExitTimeout) == std::future_status::ready) {
    undertaker.join();
    return {};
  }
  undertaker.detach();
  return {Code::device_failed, "the executor did not come back from its device within " +
                                   std::to_string(kExitTimeout.count()) +
                                   " s of closing; its thread is left behind"};
}

Cast::Cast(std::unique_ptr<State> state) : state_(std::move(state)) {}
Cast::~Cast() { (void)close(0); }

Result<std::unique_ptr<Cast>> Cast::open(CastParts parts) {
  const bool simulated = parts.simulated;
  auto state = std::make_unique<State>(std::move(parts));
  auto opening = std::make_shared<std::promise<Status>>();
  std::future<Status> opened = opening->get_future();
  state->start([opening](const Status& status) { opening->set_value(status); });
  std::unique_ptr<Cast> cast(new Cast(std::move(state)));
  // Loading takes as long as it takes; it reports its progress.
  if (!simulated) TR_TRY(opened.get());
  TR_TRY(cast->state_->start_encoders());
  cast->state_->spawn_others();
  return cast;
}

Result<RequestId> Cast::submit(Request request, std::shared_ptr<EventSink> sink) {
  State& s = *state_;
  const uint64_t bytes = image_bytes(request);
  TR_TRY(s.admission->enter(bytes));
  Ticket::Stub stub;
  stub.id = s.next_id.fetch_add(1, std::memory_order_relaxed);
  stub.user_data = request.user_data;
  stub.image_bytes = bytes;
  stub.submitted_ns = s.parts.clock->now_ns();
  Status status = check_request(request, *s.encode);
  SessionList::Way way;
  if (status.ok() && request.session != 0) status = set_out(*s.sessions, request.session, stub.id, way);
  if (!status.ok()) {
    s.admission->withdraws(bytes);
    s.board->refused.fetch_add(1, std::memory_order_relaxed);
    return status;
  }
  if (request.deadline_ns) stub.deadline_ns = stub.submitted_ns + *request.deadline_ns;
  const RequestId id = stub.id;
  auto order = std::make_shared<Order>();
  order->request = std::move(request);
  order->ticket = std::allocate_shared<Ticket>(engine::SlabAllocator<Ticket>(s.tickets), stub,
                                               std::move(sink), s.admission);
  order->ticket->sets_out(std::move(way));
  const std::shared_lock lock(s.handles);
  if (s.gone) {
    order->ticket->end({Code::closed, "the engine was closed"});
    return id;
  }
  s.board->submitted.fetch_add(1, std::memory_order_relaxed);
  caf::anon_send(s.frontdesk, submit_atom_v, std::move(order));
  return id;
}

void Cast::cancel(RequestId id) {
  const std::shared_lock lock(state_->handles);
  if (!state_->gone) caf::anon_send(state_->frontdesk, cancel_atom_v, id);
}

void Cast::session_free(uint64_t session) {
  if (state_->sessions->free_behind(session)) return;
  (void)visit([session](engine::Scheduler& s) { s.session_free(session); });
}

bool Cast::session_expects(uint64_t session) const { return state_->sessions->expects(session); }

Status Cast::visit(std::function<void(engine::Scheduler&)> visitor) {
  auto answered = std::make_shared<std::promise<void>>();
  std::future<void> answer = answered->get_future();
  {
    const std::shared_lock lock(state_->handles);
    if (state_->gone) return {Code::closed, "the engine was closed"};
    // A visitor that is dropped with its actor breaks the promise, which ends the wait.
    caf::anon_send(state_->scheduler, visit_atom_v,
                   std::make_shared<Visit>(
                       Visit{std::move(visitor), [answered] { answered->set_value(); }}));
    answered.reset();
  }
  while (state_->parts.simulated && simulate_one(0)) {
  }
  if (answer.wait_for(kVisitTimeout) != std::future_status::ready) {
    return {Code::deadline, "the scheduler did not answer within " +
                                std::to_string(kVisitTimeout.count()) + " s"};
  }
  try {
    answer.get();
  } catch (const std::future_error&) {
    return {Code::closed, "the engine was closed or has failed"};
  }
  return {};
}

Status Cast::close(int64_t drain_ns) {
  State& s = *state_;
  s.admission->shut({Code::closed, "the engine is closed"});
  s.admission->hurry(std::chrono::steady_clock::now() +
                     std::chrono::nanoseconds(std::max<int64_t>(drain_ns, 0)));
  const std::scoped_lock lock(s.closing);  // which another may hold, who drains
  if (s.closed) return s.close_status;
  if (!s.parts.simulated && !s.admission->drain()) {
    caf::anon_send(s.frontdesk, stop_atom_v,
                   std::make_shared<const Status>(Code::cancelled, "the engine was closed"));
    if (!s.admission->wait_idle(std::chrono::steady_clock::now() + kCancelTimeout)) {
      caf::anon_send(s.frontdesk, end_all_atom_v,
                     std::make_shared<const Status>(Code::closed, "the engine was closed"));
    }
  }
  s.close_status = s.leave();
  s.closed = true;
  return s.close_status;
}

const Board& Cast::board() const { return *state_->board; }
void Cast::set_waiting_max(int32_t requests) {
  state_->admission->set_waiting_max(static_cast<uint32_t>(requests));
}

uint32_t Cast::waiting() const { return state_->admission->waiting(); }
uint32_t Cast::in_flight() const { return state_->admission->in_flight(); }
const ThreadPlan& Cast::threads() const { return state_->parts.threads; }
std::vector<HandlerClockPtr> Cast::handler_clocks() const { return state_->clocks; }
int64_t Cast::executor_idle_ns() const { return state_->gauge->idle_ns.load(); }
uint64_t Cast::executor_gaps() const { return state_->gauge->gaps.load(); }
int64_t Cast::executor_host_ns() const { return state_->gauge->host_ns.load(); }
int64_t Cast::executor_recording_ns() const { return state_->gauge->recording_ns.load(); }
uint64_t Cast::executor_moves() const { return state_->gauge->moves.load(); }
std::vector<MemoryShare> Cast::device_memory() const {
  const std::scoped_lock lock(state_->gauge->mutex);
  return state_->gauge->memory;
}

bool Cast::simulate_one(uint64_t choice) {
  auto& coordinator =
      static_cast<caf::scheduler::test_coordinator&>(state_->system->scheduler());
  auto& jobs = coordinator.jobs;
  if (jobs.empty()) return false;
  const auto chosen = jobs.begin() + static_cast<std::ptrdiff_t>(choice % jobs.size());
  std::rotate(jobs.begin(), chosen, chosen + 1);
  return coordinator.try_run_once();
}

void Cast::simulate_time(int64_t ns) {
  static_cast<caf::scheduler::test_coordinator&>(state_->system->scheduler())
      .advance_time(caf::timespan(ns));
}

}  // namespace troupe::actors
