// A server core, its clients and an engine in one simulated world: no sockets, no threads, time as
// a number. Links break and lose what was on them; servers restart. Used by tests and fuzzers.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/port.hpp"
#include "wire/client_core.hpp"
#include "wire/server_core.hpp"

namespace troupe::wire {

// What the tests ask a CountingEngine for.
inline Request prompt(int32_t max_tokens = 12) {
  Request request;
  request.prompt.push_back({PromptPart::Kind::text, "count", {}, 0});
  request.sampling.max_tokens = max_tokens;
  return request;
}

// Answers every request with `max_tokens` (default 12) tokens: token k of choice c is 1000 * c + k,
// its text "k ". One token per request and step, of those that have a place: who has priority comes
// before who has less, then who came first.
class CountingEngine final : public EnginePort {
 public:
  void step();
  [[nodiscard]] size_t running() const { return jobs_.size(); }

  Result<EngineInfo> info() override;
  Result<EngineStats> stats() override;
  Result<std::string> metrics() override { return std::string("counting_steps 1\n"); }
  Status set_option(std::string_view, std::string_view) override {
    return unsupported("no options");
  }
  Result<std::vector<int32_t>> tokenize(std::string_view text, bool, bool) override;
  Result<std::string> detokenize(std::span<const int32_t> ids, bool) override;
  Result<std::string> render(const Request&) override { return std::string("rendered"); }
  Result<RequestId> submit(Request request, std::shared_ptr<EventSink> sink) override;
  void cancel(RequestId id) override;
  Result<uint64_t> session_new(const SessionOptions&) override { return next_session_++; }
  Result<uint64_t> session_fork(uint64_t) override { return next_session_++; }
  Status session_rewind(uint64_t, int64_t) override { return {}; }
  Result<SessionState> session_info(uint64_t) override { return SessionState{3, 2, 1}; }
  void session_free(uint64_t) override { ++freed_sessions; }
  Status close(int64_t) override { return {}; }

  int32_t waiting_most = 2048;
  int32_t sequences = 0;  // places; 0: for everybody, and nothing is said of them
  uint64_t freed_sessions = 0, steps = 0, cancels = 0;
  std::vector<Request> requests;  // as they came

 private:
  struct Job {
    std::shared_ptr<EventSink> sink;
    int32_t choices = 1, made = 0, most = 12, priority = 0;
    bool cancelled = false, embeds = false;
  };
  [[nodiscard]] std::vector<RequestId> placed() const;
  // True: the job has ended.
  static bool step_one(RequestId id, Job& job);

  std::map<RequestId, Job> jobs_;
  RequestId next_id_ = 1;
  uint64_t next_session_ = 77;
};

// What came of one request, held against the promises as it comes.
class CheckingSink final : public EventSink {
 public:
  void push(Event&& event) override;
  [[nodiscard]] bool ended() const { return ends == 1; }
  int ends = 0;
  Event last;
  std::map<int32_t, std::vector<int32_t>> tokens;
  std::map<int32_t, std::string> text;
  std::vector<std::string> broken;  // promises that did not hold
};

class World {
 public:
  explicit World(uint64_t seed, ServerConfig config = {}, int32_t sequences = 0);
  ~World();

  struct Side;  // one client: its core and its link
  Side& add_client(ClientConfig config = {});
  // The request is accepted, refused or still on its way: `outcome` tells when it is known.
  std::shared_ptr<CheckingSink> submit(Side& side, Request request,
                                       std::shared_ptr<Status> outcome = nullptr);

  // One round: messages move, the engine steps, time passes.
  void round();
  void rounds(int n) {
    while (n-- > 0) round();
  }
  // What is on the link is lost with the given chance each; the client hears of it in time.
  void cut(Side& side, bool client_hears);
  void restart_server();
  void hold(Side& side, bool held);  // delivers nothing either way
  // Hands the server one message of the client, whatever its link does, and says how long reading
  // must rest after it.
  int64_t knock(const Side& side, Kind kind, std::string_view body,
                std::vector<SharedBytes> blobs = {}, const void* connection = nullptr);

  struct Message {
    Kind kind;
    std::string body;
    std::vector<SharedBytes> blobs;
  };
  struct Side final : Uplink {
    explicit Side(World& its_world) : world(its_world) {}
    void send(Kind kind, std::string_view body, std::span<const SharedBytes> blobs) override;
    Id128 random_id() override { return world.random_id(); }
    World& world;
    std::unique_ptr<ClientCore> core;
    std::string peer;  // routing id of the link; empty: there is none
    std::deque<Message> up, down;
    bool held = false;
    RequestId next_id = 1;
    size_t full_at = static_cast<size_t>(-1);  // `down` takes no more than this
  };

  int64_t now_ns = 1'000'000'000;
  int64_t round_ns = 20'000'000;
  bool engine_runs = true;
  std::function<bool(std::string_view identity)> allowed = [](std::string_view) { return true; };
  std::shared_ptr<CountingEngine> engine;
  std::unique_ptr<ServerCore> server;
  std::vector<std::unique_ptr<Side>> sides;
  std::mt19937_64 random;

 private:
  struct ServerHost;
  Id128 random_id();
  void connect(Side& side);
  void start_server();

  const ServerConfig config_;
  const int32_t sequences_;  // of every engine
  std::shared_ptr<ReadyList> ready_;
  std::unique_ptr<ServerHost> host_;
  uint64_t next_peer_ = 1;
};

}  // namespace troupe::wire
