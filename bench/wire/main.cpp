// wire_bench: what the wire carries, how late it is, and what it costs (docs/protocol.md).
//
//   wire_bench stream                  500 streams over 50 connections as fast as they go
//   wire_bench delay                   the same at 50,000 tokens/s: the delay of every event
//   wire_bench hostile [ATTACK] [GB]   the delay beside a reader that stops (stops), floods (flood,
//                                      requests; elsewhere: what their processor time alone does)
//                                      and images, until GB of them were sent
//   wire_bench idle  TROUPE            memory of a server with 5,000 idle connections
//   wire_bench soak  TROUPE [MINUTES]  memory of a server over 10 minutes of coming and going
//   wire_bench all   TROUPE            everything, and one JSON line at the end
//
// TROUPE is the command. Engine, server and clients share this machine and, but for the last two
// and the hostile clients, this process.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "bench/wire/hostile.hpp"
#include "bench/wire/load.hpp"
#include "bench/wire/served.hpp"
#include "wire/client.hpp"

namespace troupe::bench {
namespace {

constexpr const char* kBind = "tcp://127.0.0.1:*";
std::string g_json;

void note(const std::string& name, double value) {
  char text[128];
  std::snprintf(text, sizeof text, "%s\"%s\": %.3f", g_json.empty() ? "" : ", ", name.c_str(),
                value);
  g_json += text;
}

Window streams_at(double step_ms, const char* what) {
  Stage stage(step_ms, 500, kBind);
  Streams streams(stage, 50, 500);
  const Window w = streams.measure(10.0);
  std::printf(
      "%-20s %9.0f tokens/s  %8.0f events/s  delay p50 %6.2f  p99 %6.2f  max %6.2f ms  cpu %.2f  "
      "failed %d\n",
      what, w.tokens_per_s, w.events_per_s, w.delay.p50_ms, w.delay.p99_ms, w.delay.max_ms,
      w.cpu_s_per_s, streams.stop());
  return w;
}

void stream() {
  const Window w = streams_at(0.0, "stream");
  note("stream_tokens_per_s", w.tokens_per_s);
  note("stream_cpu_cores", w.cpu_s_per_s);
}

void delay() {
  const Window w = streams_at(10.0, "delay at half rate");
  note("delay_tokens_per_s", w.tokens_per_s);
  note("delay_p99_ms", w.delay.p99_ms);
  note("delay_cpu_cores", w.cpu_s_per_s);
}

// ---- memory -------------------------------------------------------------------------------------

void idle(const std::string& command) {
  allow_open_files(5000);
  Served served(command, "echo:", {});
  const int64_t before = resident_bytes(served.pid());
  IdleConnections connections(served.port(), 5000);
  const int64_t after = resident_bytes(served.pid());
  const size_t left = connections.serve(60.0);
  const int64_t later = resident_bytes(served.pid());
  std::printf(
      "idle: %zu welcomed, %zu after a minute; server %.1f MB before, %.1f MB with them, %.1f MB a "
      "minute later\n",
      connections.welcomed(), left, static_cast<double>(before) / 1e6,
      static_cast<double>(after) / 1e6, static_cast<double>(later) / 1e6);
  note("idle_connections", static_cast<double>(left));
  note("idle_server_mb", static_cast<double>(later) / 1e6);
}

int usage() {
  std::fputs(
      "usage: wire_bench stream | delay | hostile [stops|flood|elsewhere|requests|images] [GB] |\n"
      "       idle TROUPE | soak TROUPE [MINUTES] | all TROUPE [MINUTES]\n",
      stderr);
  return 2;
}

class CountingSink final : public EventSink {
 public:
  explicit CountingSink(std::atomic<int>& running) : running_(running) { ++running_; }
  void push(Event&& event) override { running_ -= is_terminal(event.kind) ? 1 : 0; }

 private:
  std::atomic<int>& running_;
};

// Requests, a few with images, from clients that come and go; now and then one goes without a word.
void soak(const std::string& command, double minutes) {
  const double seconds = minutes * 60;
  Served served(command, "echo:?step_ms=10", {});
  std::vector<std::unique_ptr<EnginePort>> ports(20);
  const auto open = [&](size_t i) {
    ports[i].reset();
    auto port = wire::connect(served.endpoint(), {});
    if (!port.ok()) give_up(port.status());
    ports[i] = std::move(*port);
  };
  for (size_t i = 0; i < ports.size(); ++i) open(i);
  const auto image = std::make_shared<std::vector<std::byte>>(size_t{1} << 20);
  std::atomic<int> running{0};
  uint64_t requests = 0, clients = ports.size();
  const int64_t begun = steady_now_ns();
  int64_t warm = 0, most = 0;
  double shown = 0.0, changed = 0.0, now = 0.0;
  for (; now < seconds; now = static_cast<double>(steady_now_ns() - begun) / 1e9) {
    while (running < 100) {
      Request request;
      request.prompt.push_back(
          {PromptPart::Kind::text, "request " + std::to_string(requests), {}, 0});
      request.sampling.ignore_eos = true;
      request.sampling.max_tokens = static_cast<int32_t>(20 + requests % 200);
      if (requests % 100 == 0) {
        request.prompt.push_back({PromptPart::Kind::image, "", {}, 0});
        request.images.push_back({ImageKind::encoded, {image, image->data(), image->size()}});
      }
      EnginePort& port = *ports[requests++ % ports.size()];
      auto sink = std::make_shared<CountingSink>(running);
      if (!port.submit(std::move(request), std::move(sink)).ok()) --running;
    }
    if (now - changed >= 2.0) {
      changed = now;
      open(clients++ % ports.size());
    }
    if (now - shown >= seconds / 20) {
      shown = now;
      const int64_t bytes = resident_bytes(served.pid());
      (now < seconds / 4 ? warm : most) = std::max(now < seconds / 4 ? warm : most, bytes);
      std::printf("soak: %5.0f s  %8llu requests  %5llu clients  server %.1f MB\n", now,
                  static_cast<unsigned long long>(requests),
                  static_cast<unsigned long long>(clients), static_cast<double>(bytes) / 1e6);
      std::fflush(stdout);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  note("soak_minutes", minutes);
  note("soak_requests", static_cast<double>(requests));
  note("soak_mb_after_a_quarter", static_cast<double>(warm) / 1e6);
  note("soak_mb_most_after", static_cast<double>(most) / 1e6);
}

int run(int argc, char** argv) {
  const auto word = [&](int i) { return argc > i ? std::string(argv[i]) : std::string(); };
  const std::string mode = word(1), command = word(2);
  if (mode == "attack") return attack(word(2), word(3));
  const bool all = mode == "all";
  if ((all || mode == "idle" || mode == "soak") && command.empty()) return usage();
  if (mode == "stream" || all) stream();
  if (mode == "delay" || all) delay();
  if (mode == "hostile" || all) {
    HostileRun how;
    how.only = all ? "" : word(2);
    how.gigabytes = std::atof(word(3).c_str());
    if (how.gigabytes > 2) how.seconds = 15.0;
    if (!hostile(how, note)) return usage();
  }
  if (mode == "idle" || all) idle(command);
  if (mode == "soak" || all) soak(command, argc > 3 ? std::atof(argv[3]) : 10.0);
  if (g_json.empty()) return usage();
  std::printf("{%s}\n", g_json.c_str());
  return 0;
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  return troupe::bench::run(argc, argv);
}
