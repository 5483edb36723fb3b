#include "wire/test_world.hpp"

#include <algorithm>
#include <utility>

namespace troupe::wire {

// ---- CountingEngine -----------------------------------------------------------------------------

Result<EngineInfo> CountingEngine::info() {
  EngineInfo info;
  info.model = "counting";
  info.vocab_size = 100'000;
  info.context_length = 1 << 20;
  info.max_waiting = waiting_most;
  info.max_sequences = sequences;
  return info;
}

Result<EngineStats> CountingEngine::stats() {
  EngineStats stats;
  stats.steps = steps;
  stats.running = static_cast<uint32_t>(jobs_.size());
  return stats;
}

Result<std::vector<int32_t>> CountingEngine::tokenize(std::string_view text, bool, bool) {
  return std::vector<int32_t>(text.begin(), text.end());
}

Result<std::string> CountingEngine::detokenize(std::span<const int32_t> ids, bool) {
  return std::string(ids.begin(), ids.end());
}

Result<RequestId> CountingEngine::submit(Request request, std::shared_ptr<EventSink> sink) {
  if (request.adapter == "none") return Status(Code::not_found, "adapter: there is none");
  if (sequences > 0 && std::cmp_greater_equal(jobs_.size(), sequences + waiting_most))
    return Status(Code::overloaded, "the engine is full");
  Job job;
  job.sink = std::move(sink);
  job.priority = request.priority;
  job.choices = request.sampling.n;
  job.most = request.sampling.max_tokens.value_or(12);
  job.embeds = request.task == Task::embed;
  requests.push_back(std::move(request));
  const RequestId id = next_id_++;
  jobs_.emplace(id, std::move(job));
  return id;
}

void CountingEngine::cancel(RequestId id) {
  ++cancels;
  if (const auto it = jobs_.find(id); it != jobs_.end()) it->second.cancelled = true;
}

std::vector<RequestId> CountingEngine::placed() const {
  std::vector<RequestId> ids;
  for (const auto& [id, job] : jobs_) ids.push_back(id);
  if (sequences == 0) return ids;
  std::stable_sort(ids.begin(), ids.end(), [&](RequestId a, RequestId b) {
    return jobs_.at(a).priority > jobs_.at(b).priority;
  });
  int32_t left = sequences;  // who is cancelled needs none to end
  std::erase_if(ids, [&](RequestId id) { return !jobs_.at(id).cancelled && left-- <= 0; });
  return ids;
}

void CountingEngine::step() {
  ++steps;
  for (const RequestId id : placed()) {
    if (step_one(id, jobs_.at(id))) jobs_.erase(id);
  }
}

bool CountingEngine::step_one(RequestId id, Job& job) {
  const auto push = [&](EventKind kind, auto fill) {
    Event event;
    event.kind = kind;
    event.id = id;
    event.usage.completion_tokens = int64_t{job.made} * job.choices;
    fill(event);
    job.sink->push(std::move(event));
  };
  if (job.made == 0) push(EventKind::admitted, [](Event&) {});
  const bool over = job.cancelled || job.made >= job.most || job.embeds;
  if (!over) {
    for (int32_t c = 0; c < job.choices; ++c) {
      push(EventKind::tokens, [&](Event& event) {
        event.index = c;
        event.from = job.made;
        event.tokens = {1000 * c + job.made};
        event.text = std::to_string(job.made) + " ";
        if (job.made + 1 == job.most) event.finish = FinishReason::length;
      });
    }
    ++job.made;
    return false;
  }
  push(job.cancelled ? EventKind::cancelled : EventKind::done, [&](Event& event) {
    event.finish = job.cancelled ? FinishReason::cancelled : FinishReason::length;
    if (!job.embeds) return;
    event.data_shape = {300, 1000};
    event.data.assign(300'000, 0.5F);
    event.data.back() = 7.0F;
  });
  return true;
}

// ---- CheckingSink -------------------------------------------------------------------------------

void CheckingSink::push(Event&& event) {
  if (ends > 0) broken.push_back("an event after the end");
  if (event.kind == EventKind::tokens) {
    auto& so_far = tokens[event.index];
    if (static_cast<size_t>(event.from) != so_far.size())
      broken.push_back("`from` does not count the tokens");
    for (const int32_t token : event.tokens) {
      if (token != 1000 * event.index + static_cast<int32_t>(so_far.size())) {
        broken.push_back("token " + std::to_string(token) + " at " + std::to_string(so_far.size()));
      }
      so_far.push_back(token);
    }
    text[event.index] += event.text;
  }
  if (!is_terminal(event.kind)) return;
  ++ends;
  last = std::move(event);
}

// ---- World --------------------------------------------------------------------------------------

struct World::ServerHost final : Host {
  explicit ServerHost(World& its_world) : world(its_world) {}
  Sent send(std::string_view peer, Kind kind, std::string_view body,
            std::span<const SharedBytes> blobs) override {
    for (auto& side : world.sides) {
      if (side->peer != peer) continue;
      if (side->down.size() >= side->full_at) return Sent::full;
      side->down.push_back({kind, std::string(body), {blobs.begin(), blobs.end()}});
      return Sent::sent;
    }
    return Sent::gone;
  }
  void run(std::function<std::function<void()>()> work) override { later.push_back(work()); }
  Id128 random_id() override { return world.random_id(); }
  [[nodiscard]] bool allows(std::string_view identity) const override {
    return world.allowed(identity);
  }
  World& world;
  std::vector<std::function<void()>> later;
};

World::World(uint64_t seed, ServerConfig config, int32_t sequences)
    : random(seed), config_(config), sequences_(sequences) {
  start_server();
}

World::~World() {
  server.reset();
}

void World::start_server() {
  engine = std::make_shared<CountingEngine>();
  engine->sequences = sequences_;
  ready_ = std::make_shared<ReadyList>();
  host_ = std::make_unique<ServerHost>(*this);
  server = std::make_unique<ServerCore>(engine, *engine->info(), config_, ready_, *host_);
}

Id128 World::random_id() {
  Id128 id{};
  for (uint8_t& byte : id) byte = static_cast<uint8_t>(random());
  return id;
}

World::Side& World::add_client(ClientConfig config) {
  if (config.endpoint.empty()) config.endpoint = "sim://server";
  auto side = std::make_unique<Side>(*this);
  side->core = std::make_unique<ClientCore>(std::move(config), *side);
  sides.push_back(std::move(side));
  connect(*sides.back());
  return *sides.back();
}

void World::Side::send(Kind kind, std::string_view body, std::span<const SharedBytes> blobs) {
  if (!peer.empty()) up.push_back({kind, std::string(body), {blobs.begin(), blobs.end()}});
}

void World::connect(Side& side) {
  side.peer = "peer-" + std::to_string(next_peer_++);
  side.up.clear();
  side.down.clear();
  side.core->link_up(now_ns);
}

void World::cut(Side& side, bool client_hears) {
  side.peer.clear();
  side.up.clear();
  side.down.clear();
  if (client_hears) side.core->link_down({Code::connection_lost, "cut"}, false, now_ns);
}

void World::hold(Side& side, bool held) {
  side.held = held;
}

int64_t World::knock(const Side& side, Kind kind, std::string_view body,
                     std::vector<SharedBytes> blobs, const void* connection) {
  const auto head = head_of(kind);
  Incoming message;
  message.peer = side.peer;
  message.head = {head.data(), head.size()};
  message.body = body;
  message.blobs = std::move(blobs);
  message.connection = connection;
  server->receive(std::move(message), now_ns);
  return server->rest_ns();
}

void World::restart_server() {
  for (auto& side : sides) cut(*side, true);
  server.reset();
  start_server();
}

std::shared_ptr<CheckingSink> World::submit(Side& side, Request request,
                                            std::shared_ptr<Status> outcome) {
  auto sink = std::make_shared<CheckingSink>();
  side.core->submit(
      side.next_id++, std::move(request), sink,
      [outcome](const Status& status) {
        if (outcome) *outcome = status;
      },
      now_ns);
  return sink;
}

void World::round() {
  now_ns += round_ns;
  for (auto& side : sides) {
    while (!side->held && !side->up.empty() && !side->peer.empty()) {
      Message message = std::move(side->up.front());
      side->up.pop_front();
      const auto head = head_of(message.kind);
      Incoming in;
      in.peer = side->peer;
      in.head = {head.data(), head.size()};
      in.body = message.body;
      in.blobs = std::move(message.blobs);
      server->receive(std::move(in), now_ns);
    }
  }
  if (engine_runs) engine->step();
  for (int i = 0; i < 100 && (i == 0 || server->pending(now_ns)); ++i) server->pump(now_ns);
  server->tick(now_ns);
  std::vector<std::function<void()>> later;
  later.swap(host_->later);
  for (const auto& one : later) one();
  server->pump(now_ns);
  for (auto& side : sides) {
    while (!side->held && !side->down.empty() && !side->core->wants_down()) {
      Message message = std::move(side->down.front());
      side->down.pop_front();
      const auto head = head_of(message.kind);
      side->core->receive({head.data(), head.size()}, message.body, std::move(message.blobs),
                          now_ns);
    }
    side->core->tick(now_ns);
    side->core->flush();
    if (side->core->wants_down()) cut(*side, true);
    if (side->core->state() == ClientCore::State::down && now_ns >= side->core->try_again_ns())
      connect(*side);
  }
}

}  // namespace troupe::wire
