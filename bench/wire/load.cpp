#include "bench/wire/load.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "actors/local_port.hpp"
#include "base/clock.hpp"
#include "wire/client.hpp"
#include "wire/server.hpp"

namespace troupe::bench {
namespace {

constexpr int32_t kTokensMax = 1 << 16;

// When each token of a stream was said, and when it arrived.
struct Probe {
  std::vector<int64_t> said_ns = std::vector<int64_t>(static_cast<size_t>(kTokensMax));
  std::atomic<int64_t> said{0};
};

// Written by the engine's thread before the server hears of it.
class NotingSink final : public EventSink {
 public:
  NotingSink(std::shared_ptr<EventSink> to, std::shared_ptr<Probe> probe)
      : to_(std::move(to)), probe_(std::move(probe)) {}
  void push(Event&& event) override {
    if (event.kind == EventKind::tokens) {
      const int64_t now = steady_now_ns();
      const int64_t from = probe_->said.load(std::memory_order_relaxed);
      for (size_t i = 0; i < event.tokens.size(); ++i) {
        const auto at = static_cast<size_t>(from) + i;
        if (at < probe_->said_ns.size()) probe_->said_ns[at] = now;
      }
      probe_->said.store(from + static_cast<int64_t>(event.tokens.size()),
                         std::memory_order_release);
    }
    to_->push(std::move(event));
  }

 private:
  const std::shared_ptr<EventSink> to_;
  const std::shared_ptr<Probe> probe_;
};

struct Tally {
  std::atomic<bool> counting{false};
  std::atomic<int64_t> tokens{0}, events{0};
  std::atomic<int> ended{0}, failed{0};
};

class MeasuringSink final : public EventSink {
 public:
  MeasuringSink(std::shared_ptr<Probe> probe, Tally& tally)
      : probe_(std::move(probe)), tally_(tally) {}
  void push(Event&& event) override {
    if (is_terminal(event.kind)) {
      if (event.kind == EventKind::failed) {
        if (tally_.failed++ == 0)
          std::fprintf(stderr, "failed: %s\n", event.status.message().c_str());
      }
      ++tally_.ended;
      return;
    }
    if (event.kind != EventKind::tokens || !tally_.counting.load(std::memory_order_relaxed)) return;
    tally_.tokens.fetch_add(static_cast<int64_t>(event.tokens.size()), std::memory_order_relaxed);
    tally_.events.fetch_add(1, std::memory_order_relaxed);
    const auto at = static_cast<size_t>(event.from);
    if (at >= probe_->said_ns.size()) return;
    const std::scoped_lock lock(mutex_);
    delays_ns_.push_back(steady_now_ns() - probe_->said_ns[at]);
  }
  std::vector<int64_t> take() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(delays_ns_, {});
  }

 private:
  const std::shared_ptr<Probe> probe_;
  Tally& tally_;
  std::mutex mutex_;
  std::vector<int64_t> delays_ns_;
};

// Asks a small question over a connection of its own, again and again.
class Asker {
 public:
  explicit Asker(const std::string& endpoint) {
    auto port = wire::connect(endpoint, {});
    if (!port.ok()) give_up(port.status());
    port_ = std::move(*port);
    thread_ = std::thread([this] { loop(); });
  }
  ~Asker() {
    over_ = true;
    thread_.join();
  }
  std::vector<int64_t> take() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(delays_ns_, {});
  }

 private:
  void loop() {
    std::minstd_rand random(1);
    while (!over_) {
      const int64_t asked = steady_now_ns();
      if (const auto ids = port_->tokenize("how long?", false, false); !ids.ok())
        give_up(ids.status());
      {
        const std::scoped_lock lock(mutex_);
        delays_ns_.push_back(steady_now_ns() - asked);
      }
      // At no fixed place between the engine's steps.
      std::this_thread::sleep_for(std::chrono::microseconds(2'000 + random() % 6'000));
    }
  }
  std::unique_ptr<EnginePort> port_;
  std::atomic<bool> over_{false};
  std::mutex mutex_;
  std::vector<int64_t> delays_ns_;
  std::thread thread_;
};

}  // namespace

void give_up(const Status& why) {
  std::fprintf(stderr, "%s\n", why.message().c_str());
  std::exit(1);
}

Percentiles percentiles(std::vector<int64_t>& all) {
  if (all.empty()) return {};
  std::sort(all.begin(), all.end());
  const auto at = [&](double q) {
    return static_cast<double>(all[static_cast<size_t>(q * static_cast<double>(all.size() - 1))]) /
           1e6;
  };
  return {at(0.5), at(0.99), at(1.0), all.size()};
}

int64_t resident_bytes(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// The engine as it is, but for noting when it spoke: the prompt begins with the number of its
// probe.
class Stage::TimedPort final : public EnginePort {
 public:
  explicit TimedPort(std::unique_ptr<EnginePort> engine) : engine_(std::move(engine)) {}
  std::shared_ptr<Probe> probe(int number) {
    const std::scoped_lock lock(mutex_);
    return probes_[number] = std::make_shared<Probe>();
  }
  Result<RequestId> submit(Request request, std::shared_ptr<EventSink> sink) override {
    const int number = request.prompt.empty() ? -1 : std::atoi(request.prompt[0].text.c_str());
    std::shared_ptr<Probe> found;
    {
      const std::scoped_lock lock(mutex_);
      if (const auto it = probes_.find(number); it != probes_.end()) found = it->second;
    }
    if (!found) return engine_->submit(std::move(request), std::move(sink));
    return engine_->submit(std::move(request),
                           std::make_shared<NotingSink>(std::move(sink), std::move(found)));
  }
  Result<EngineInfo> info() override { return engine_->info(); }
  Result<EngineStats> stats() override { return engine_->stats(); }
  Result<std::string> metrics() override { return engine_->metrics(); }
  Status set_option(std::string_view k, std::string_view v) override {
    return engine_->set_option(k, v);
  }
  Result<std::vector<int32_t>> tokenize(std::string_view t, bool a, bool p) override {
    return engine_->tokenize(t, a, p);
  }
  Result<std::string> detokenize(std::span<const int32_t> i, bool s) override {
    return engine_->detokenize(i, s);
  }
  Result<std::string> render(const Request& r) override { return engine_->render(r); }
  void cancel(RequestId id) override { engine_->cancel(id); }
  Result<uint64_t> session_new(const SessionOptions& o) override { return engine_->session_new(o); }
  Result<uint64_t> session_fork(uint64_t s) override { return engine_->session_fork(s); }
  Status session_rewind(uint64_t s, int64_t t) override { return engine_->session_rewind(s, t); }
  Result<SessionState> session_info(uint64_t s) override { return engine_->session_info(s); }
  void session_free(uint64_t s) override { engine_->session_free(s); }
  Status close(int64_t drain) override { return engine_->close(drain); }

 private:
  const std::unique_ptr<EnginePort> engine_;
  std::mutex mutex_;
  std::map<int, std::shared_ptr<Probe>> probes_;
};

Stage::Stage(double step_ms, int streams, const std::string& bind) {
  EngineOptions options;
  options.max_sequences = std::max(streams, 1) + 64;
  options.context_length = kTokensMax;
  const std::string endpoint = "echo:?step_ms=" + std::to_string(step_ms) +
                               "&context=" + std::to_string(kTokensMax) +
                               "&kv_tokens=" + std::to_string(int64_t{kTokensMax} * 128);
  auto engine = actors::open_local_port(endpoint, options, nullptr);
  if (!engine.ok()) give_up(engine.status());
  engine_ = std::make_shared<TimedPort>(std::move(*engine));
  auto server = wire::serve(engine_, bind, {});
  if (!server.ok()) give_up(server.status());
  server_ = std::move(*server);
}

Stage::~Stage() {
  server_.reset();
  static_cast<void>(engine_->close(0));
}

// ---- streams ------------------------------------------------------------------------------------

struct Streams::Parts {
  std::vector<std::unique_ptr<EnginePort>> ports;
  Tally tally;
  std::vector<std::shared_ptr<MeasuringSink>> sinks;
  std::vector<std::pair<EnginePort*, RequestId>> running;
  std::unique_ptr<Asker> asker;
};

Streams::Streams(Stage& stage, int connections, int streams) : parts_(std::make_unique<Parts>()) {
  for (int i = 0; i < connections; ++i) {
    auto port = wire::connect(stage.endpoint(), {});
    if (!port.ok()) give_up(port.status());
    parts_->ports.push_back(std::move(*port));
  }
  for (int i = 0; i < streams; ++i) {
    EnginePort& port = *parts_->ports[static_cast<size_t>(i % connections)];
    Request request;
    request.prompt.push_back(
        {PromptPart::Kind::text, std::to_string(i) + " and then the same again; ", {}, 0});
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = kTokensMax - 1024;
    parts_->sinks.push_back(
        std::make_shared<MeasuringSink>(stage.engine_->probe(i), parts_->tally));
    const auto id = port.submit(std::move(request), parts_->sinks.back());
    if (!id.ok()) give_up(id.status());
    parts_->running.emplace_back(&port, *id);
  }
  parts_->asker = std::make_unique<Asker>(stage.endpoint());
  std::this_thread::sleep_for(std::chrono::seconds(2));  // until all of them run
}

Streams::~Streams() {
  static_cast<void>(stop());
}

Window Streams::measure(double seconds) {
  Tally& tally = parts_->tally;
  for (const auto& sink : parts_->sinks) static_cast<void>(sink->take());
  static_cast<void>(parts_->asker->take());
  tally.tokens = tally.events = 0;
  const double cpu = cpu_seconds();
  const int64_t begun = steady_now_ns();
  tally.counting = true;
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  tally.counting = false;
  const double took = static_cast<double>(steady_now_ns() - begun) / 1e9;
  Window window;
  window.cpu_s_per_s = (cpu_seconds() - cpu) / took;
  window.tokens_per_s = static_cast<double>(tally.tokens) / took;
  window.events_per_s = static_cast<double>(tally.events) / took;
  std::vector<int64_t> delays, answers = parts_->asker->take();
  for (const auto& sink : parts_->sinks) {
    const std::vector<int64_t> some = sink->take();
    delays.insert(delays.end(), some.begin(), some.end());
  }
  window.delay = percentiles(delays);
  window.answer = percentiles(answers);
  return window;
}

int Streams::stop() {
  parts_->asker.reset();
  for (const auto& [port, id] : parts_->running) port->cancel(id);
  const int all = static_cast<int>(parts_->running.size());
  for (int i = 0; i < 1000 && parts_->tally.ended < all; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  parts_->running.clear();
  parts_->ports.clear();
  return parts_->tally.failed + (all - std::min<int>(parts_->tally.ended, all));
}

}  // namespace troupe::bench
