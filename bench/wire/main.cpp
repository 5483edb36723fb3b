// wire_bench: what the wire carries, how late it is, and what it costs (docs/protocol.md).
//
//   wire_bench stream           500 streams over 50 connections as fast as they go
//   wire_bench delay            the same at 50,000 tokens/s: the delay of every event
//   wire_bench hostile          the delay again, beside a reader that stops, a flood, and 10 GB of
//   images wire_bench idle  TROUPE     memory of a server with 5,000 idle connections wire_bench
//   soak  TROUPE [S] memory of a server over S seconds (600) of coming and going requests
//   wire_bench all   TROUPE     everything, and one JSON line at the end
//
// TROUPE is the command. Engine, server and clients share this machine, and all but the last two
// this process.
#include <zmq.h>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "bench/wire/load.hpp"
#include "bench/wire/served.hpp"
#include "wire/client.hpp"
#include "wire/control.hpp"
#include "wire/event_codec.hpp"
#include "wire/protocol.hpp"
#include "wire/request_codec.hpp"

namespace troupe::bench {
namespace {

constexpr const char* kBind = "tcp://127.0.0.1:*";
std::string g_json;

void note(const char* name, double value) {
  char text[128];
  std::snprintf(text, sizeof text, "%s\"%s\": %.3f", g_json.empty() ? "" : ", ", name, value);
  g_json += text;
}

void show(const char* what, const LoadResult& r) {
  std::printf(
      "%-22s %9.0f tokens/s  %8.0f events/s  delay p50 %6.2f  p99 %6.2f  max %6.2f ms  cpu %.2f  "
      "failed %d\n",
      what, r.tokens_per_s, r.events_per_s, r.delay.p50_ms, r.delay.p99_ms, r.delay.max_ms,
      r.cpu_s_per_s, r.failed);
}

void stream() {
  Stage stage(0.0, 500, kBind);
  const LoadResult r = stage.run({});
  show("stream", r);
  note("stream_tokens_per_s", r.tokens_per_s);
  note("stream_cpu_cores", r.cpu_s_per_s);
}

void delay() {
  Stage stage(10.0, 500, kBind);
  const LoadResult r = stage.run({});
  show("delay at half rate", r);
  note("delay_tokens_per_s", r.tokens_per_s);
  note("delay_p99_ms", r.delay.p99_ms);
}

// ---- strangers to good manners ------------------------------------------------------------------

// A raw connection that has been welcomed.
class Rude {
 public:
  explicit Rude(const std::string& endpoint)
      : context_(zmq_ctx_new()), socket_(zmq_socket(context_, ZMQ_DEALER)) {
    const int none = 0;
    zmq_setsockopt(socket_, ZMQ_LINGER, &none, sizeof none);
    zmq_connect(socket_, endpoint.c_str());
    wire::Hello hello;
    const int64_t now = steady_now_ns();
    std::memcpy(hello.client.data(), &now, sizeof now);
    std::string body;
    wire::write_hello(body, hello);
    send(wire::Kind::hello, body, {});
    char welcome[4096];
    for (int more = 1; more != 0;) {
      zmq_recv(socket_, welcome, sizeof welcome, 0);
      size_t size = sizeof more;
      zmq_getsockopt(socket_, ZMQ_RCVMORE, &more, &size);
    }
  }
  ~Rude() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  Rude(const Rude&) = delete;
  Rude& operator=(const Rude&) = delete;
  bool send(wire::Kind kind, const std::string& body, const std::vector<char>& blob) {
    const auto head = wire::head_of(kind);
    if (zmq_send(socket_, head.data(), head.size(), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return false;
    zmq_send(socket_, body.data(), body.size(), blob.empty() ? 0 : ZMQ_SNDMORE);
    if (!blob.empty()) zmq_send(socket_, blob.data(), blob.size(), 0);
    return true;
  }
  void drain() {
    char bytes[1 << 16];
    while (zmq_recv(socket_, bytes, sizeof bytes, ZMQ_DONTWAIT) >= 0) {
    }
  }

 private:
  void* context_;
  void* socket_;
};

using Attack = std::function<void(const std::string& endpoint, const std::atomic<bool>& over)>;

// Asks for 64 endless answers with all the credit there is, and reads nothing.
void stop_reading(const std::string& endpoint, const std::atomic<bool>& over) {
  Rude rude(endpoint);
  for (uint8_t i = 0; i < 16; ++i) {
    Request request;
    request.prompt.push_back({PromptPart::Kind::text, "never read; ", {}, 0});
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = 60'000;
    rude.send(wire::Kind::submit, wire::pack_submit({i, 1}, 1U << 20, request, {}).body, {});
  }
  while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

void flood(const std::string& endpoint, const std::atomic<bool>& over) {
  Rude rude(endpoint);
  std::string ping, junk(300, '\xc1');
  wire::write_ping(ping, 1);
  for (uint64_t i = 0; !over; ++i) {
    if (!rude.send(i % 2 == 0 ? wire::Kind::ping : wire::Kind::submit, i % 2 == 0 ? ping : junk,
                   {})) {
      rude.drain();
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }
}

// Images of 8 MB, one after the other, as a client sends them; 10 GB or as many as there is time
// for.
void send_images(const std::string& endpoint, const std::atomic<bool>& over) {
  auto port = wire::connect(endpoint, {});
  if (!port.ok()) return;
  class Nobody final : public EventSink {
    void push(Event&&) override {}
  };
  const auto bytes = std::make_shared<std::vector<std::byte>>(size_t{8} << 20);
  int64_t sent = 0;
  while (!over && sent < int64_t{10} * 1000 * 1000 * 1000) {
    Request request;
    request.prompt.push_back({PromptPart::Kind::image, "", {}, 0});
    request.images.push_back({ImageKind::encoded, {bytes, bytes->data(), bytes->size()}});
    request.sampling.max_tokens = 1;
    if ((*port)->submit(std::move(request), std::make_shared<Nobody>()).ok())
      sent += static_cast<int64_t>(bytes->size());
  }
  std::printf("  images: %.2f GB\n", static_cast<double>(sent) / 1e9);
}

void hostile() {
  const std::pair<const char*, Attack> attacks[] = {
      {"reader that stops", stop_reading}, {"flood", flood}, {"images", send_images}};
  for (const auto& [name, attack] : attacks) {
    Stage stage(10.0, 500 + 64, kBind);
    const Load load{50, 200, 8.0};
    const LoadResult before = stage.run(load);
    std::atomic<bool> over{false};
    std::thread attacker([&, run = attack] { run(stage.endpoint(), over); });
    const LoadResult beside = stage.run(load);
    over = true;
    attacker.join();
    show("alone", before);
    show(name, beside);
    note((std::string(name) + " p99 ratio").c_str(),
         beside.delay.p99_ms / std::max(before.delay.p99_ms, 1e-3));
  }
}

// ---- memory -------------------------------------------------------------------------------------

void idle(const std::string& command) {
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

class CountingSink final : public EventSink {
 public:
  explicit CountingSink(std::atomic<int>& running) : running_(running) { ++running_; }
  void push(Event&& event) override { running_ -= is_terminal(event.kind) ? 1 : 0; }

 private:
  std::atomic<int>& running_;
};

void soak(const std::string& command, double seconds) {
  Served served(command, "echo:?step_ms=5", {"--max-sequences", "256"});
  std::vector<std::unique_ptr<EnginePort>> ports;
  for (int i = 0; i < 20; ++i) {
    auto port = wire::connect(served.endpoint(), {});
    if (!port.ok()) std::exit(1);
    ports.push_back(std::move(*port));
  }
  std::atomic<int> running{0};
  uint64_t requests = 0;
  const int64_t begun = steady_now_ns();
  int64_t warm = 0, most = 0;
  for (double shown = 0.0;;) {
    const double now = static_cast<double>(steady_now_ns() - begun) / 1e9;
    while (running < 200) {
      Request request;
      request.prompt.push_back(
          {PromptPart::Kind::text, "request " + std::to_string(requests), {}, 0});
      request.sampling.ignore_eos = true;
      request.sampling.max_tokens = static_cast<int32_t>(20 + requests % 200);
      EnginePort& port = *ports[requests++ % ports.size()];
      if (!port.submit(std::move(request), std::make_shared<CountingSink>(running)).ok()) --running;
    }
    if (now - shown >= seconds / 20) {
      shown = now;
      const int64_t bytes = resident_bytes(served.pid());
      if (now < seconds / 4) warm = std::max(warm, bytes);
      most = std::max(most, bytes);
      std::printf("soak: %5.0f s  %8llu requests  server %.1f MB\n", now,
                  static_cast<unsigned long long>(requests), static_cast<double>(bytes) / 1e6);
      std::fflush(stdout);
    }
    if (now >= seconds) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  note("soak_seconds", seconds);
  note("soak_growth_after_first_quarter_mb", static_cast<double>(most - warm) / 1e6);
}

int run(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const std::string command = argc > 2 ? argv[2] : "";
  const bool all = mode == "all";
  if (mode == "stream" || all) stream();
  if (mode == "delay" || all) delay();
  if (mode == "hostile" || all) hostile();
  if ((mode == "idle" || all) && !command.empty()) idle(command);
  if ((mode == "soak" || all) && !command.empty())
    soak(command, argc > 3 ? std::atof(argv[3]) : 600.0);
  if (g_json.empty()) {
    std::fputs(
        "usage: wire_bench stream | delay | hostile | idle TROUPE | soak TROUPE [SECONDS] | all "
        "TROUPE\n",
        stderr);
    return 2;
  }
  std::printf("{%s}\n", g_json.c_str());
  return 0;
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  return troupe::bench::run(argc, argv);
}
