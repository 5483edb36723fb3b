#include "bench/wire/load.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <thread>

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
    if (at < probe_->said_ns.size()) delays_ns.push_back(steady_now_ns() - probe_->said_ns[at]);
  }
  std::vector<int64_t> delays_ns;  // read when the stream has ended

 private:
  const std::shared_ptr<Probe> probe_;
  Tally& tally_;
};

[[noreturn]] void give_up(const Status& why) {
  std::fprintf(stderr, "%s\n", why.message().c_str());
  std::exit(1);
}

}  // namespace

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

LoadResult Stage::run(const Load& load) {
  std::vector<std::unique_ptr<EnginePort>> ports;
  for (int i = 0; i < load.connections; ++i) {
    auto port = wire::connect(endpoint(), {});
    if (!port.ok()) give_up(port.status());
    ports.push_back(std::move(*port));
  }
  Tally tally;
  std::vector<std::shared_ptr<MeasuringSink>> sinks;
  std::vector<std::pair<EnginePort*, RequestId>> running;
  for (int i = 0; i < load.streams; ++i) {
    EnginePort& port = *ports[static_cast<size_t>(i % load.connections)];
    Request request;
    request.prompt.push_back(
        {PromptPart::Kind::text, std::to_string(i) + " and then the same again; ", {}, 0});
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = kTokensMax - 1024;
    sinks.push_back(std::make_shared<MeasuringSink>(engine_->probe(i), tally));
    const auto id = port.submit(std::move(request), sinks.back());
    if (!id.ok()) give_up(id.status());
    running.emplace_back(&port, *id);
  }
  std::this_thread::sleep_for(std::chrono::seconds(2));  // until all of them run
  const double cpu = cpu_seconds();
  const int64_t begun = steady_now_ns();
  tally.counting = true;
  std::this_thread::sleep_for(std::chrono::duration<double>(load.seconds));
  tally.counting = false;
  const double seconds = static_cast<double>(steady_now_ns() - begun) / 1e9;
  LoadResult result;
  result.cpu_s_per_s = (cpu_seconds() - cpu) / seconds;
  result.tokens_per_s = static_cast<double>(tally.tokens) / seconds;
  result.events_per_s = static_cast<double>(tally.events) / seconds;
  for (const auto& [port, id] : running) port->cancel(id);
  for (int i = 0; i < 1000 && tally.ended < load.streams; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  result.failed = tally.failed + (load.streams - tally.ended);
  ports.clear();
  std::vector<int64_t> delays;
  for (const auto& sink : sinks)
    delays.insert(delays.end(), sink->delays_ns.begin(), sink->delays_ns.end());
  result.delay = percentiles(delays);
  return result;
}

}  // namespace troupe::bench
