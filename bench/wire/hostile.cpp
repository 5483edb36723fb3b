// What others feel of a client without manners, as a ratio of p99s: windows of the same running
// streams alternate, alone and beside the attack, and each window beside it is held against the two
// alone around it. The attackers are processes at the same priority as everybody else: they take
// processor time as any stranger's client would, as much as the server's back-pressure lets them.
#include "bench/wire/hostile.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "bench/wire/load.hpp"
#include "wire/client.hpp"
#include "wire/control.hpp"
#include "wire/event_codec.hpp"
#include "wire/fair_share.hpp"
#include "wire/protocol.hpp"
#include "wire/request_codec.hpp"

namespace troupe::bench {
namespace {

std::atomic<bool> g_over{false};

// ---- the attacker's process ---------------------------------------------------------------------

// A raw connection that has been welcomed.
class Rude {
 public:
  explicit Rude(const std::string& endpoint)
      : context_(zmq_ctx_new()), socket_(zmq_socket(context_, ZMQ_DEALER)) {
    const int none = 0;
    zmq_setsockopt(socket_, ZMQ_LINGER, &none, sizeof none);
    zmq_connect(socket_, endpoint.c_str());
    wire::Hello hello;
    hello.speaks_this_version = true;
    const int64_t now = steady_now_ns();
    std::memcpy(hello.client.data(), &now, sizeof now);
    std::string body;
    wire::write_hello(body, hello);
    try_send(wire::Kind::hello, body);
    zmq_pollitem_t item{socket_, 0, ZMQ_POLLIN, 0};
    zmq_poll(&item, 1, 10'000);
    drain();
  }
  ~Rude() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  Rude(const Rude&) = delete;
  Rude& operator=(const Rude&) = delete;

  // Waits until the message has gone, as a blocking socket does, and throws away what comes back.
  void send(wire::Kind kind, const std::string& body) {
    while (!g_over && !try_send(kind, body)) {
      zmq_pollitem_t item{socket_, 0, ZMQ_POLLIN | ZMQ_POLLOUT, 0};
      zmq_poll(&item, 1, 100);
      drain();
    }
    ++sent_;
  }
  [[nodiscard]] uint64_t sent() const { return sent_; }

 private:
  bool try_send(wire::Kind kind, const std::string& body) {
    const auto head = wire::head_of(kind);
    if (zmq_send(socket_, head.data(), head.size(), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return false;
    return zmq_send(socket_, body.data(), body.size(), 0) >= 0;
  }
  void drain() {
    std::array<char, 1 << 16> bytes{};
    while (zmq_recv(socket_, bytes.data(), bytes.size(), ZMQ_DONTWAIT) >= 0) {
    }
  }
  void* context_;
  void* socket_;
  uint64_t sent_ = 0;
};

Request small_request(const char* text, int32_t max_tokens) {
  Request request;
  request.prompt.push_back({PromptPart::Kind::text, text, {}, 0});
  request.sampling.ignore_eos = true;
  request.sampling.max_tokens = max_tokens;
  return request;
}

wire::Id128 numbered(uint64_t n) {
  wire::Id128 id{1};
  std::memcpy(id.data() + 8, &n, sizeof n);
  return id;
}

// Asks for 16 endless answers with all the credit there is, and reads nothing.
void stop_reading(const std::string& endpoint) {
  Rude rude(endpoint);
  const Request request = small_request("never read; ", 60'000);
  for (uint64_t i = 0; i < 16; ++i)
    rude.send(wire::Kind::submit, wire::pack_submit(numbered(i), 1U << 20, request, {}).body);
  while (!g_over) std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

// Pings and nonsense as fast as they are taken.
void flood(const std::string& endpoint) {
  Rude rude(endpoint);
  std::string ping;
  const std::string junk(300, '\xc1');
  wire::write_ping(ping, 1);
  for (uint64_t i = 0; !g_over; ++i)
    rude.send(i % 2 == 0 ? wire::Kind::ping : wire::Kind::submit, i % 2 == 0 ? ping : junk);
  std::printf("%llu messages", static_cast<unsigned long long>(rude.sent()));
}

// The same flood, against a socket of its own that reads as fast as the server reads a flood: what
// the flooder's processor time alone does to the others.
void flood_itself(const std::string&) {
  void* const context = zmq_ctx_new();
  void* const socket = zmq_socket(context, ZMQ_ROUTER);
  const int most = 256, none = 0;
  zmq_setsockopt(socket, ZMQ_RCVHWM, &most, sizeof most);
  zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none);
  zmq_bind(socket, "tcp://127.0.0.1:*");
  std::array<char, 256> at{};
  size_t size = at.size();
  zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, at.data(), &size);
  std::thread reader([socket] {
    std::array<char, 1 << 10> bytes{};
    const int name = zmq_recv(socket, bytes.data(), bytes.size(), 0);  // of who says HELLO
    zmq_send(socket, bytes.data(), static_cast<size_t>(name), ZMQ_SNDMORE);
    zmq_send(socket, "", 0, 0);
    while (!g_over) {
      int more = 1;
      size_t length = sizeof more;
      while (more != 0 && zmq_recv(socket, bytes.data(), bytes.size(), ZMQ_DONTWAIT) >= 0)
        zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &length);
      std::this_thread::sleep_for(std::chrono::nanoseconds(wire::FairShare::kMessage_ns));
    }
  });
  flood(at.data());
  reader.join();
  zmq_close(socket);
  zmq_ctx_term(context);
}

// Good requests, as fast as they are taken.
void flood_requests(const std::string& endpoint) {
  Rude rude(endpoint);
  const Request request = small_request("x", 1);
  for (uint64_t i = 0; !g_over; ++i)
    rude.send(wire::Kind::submit, wire::pack_submit(numbered(i), 8, request, {}).body);
  std::printf("%llu requests", static_cast<unsigned long long>(rude.sent()));
}

// Images of 8 MB, one after the other, as a client sends them.
void send_images(const std::string& endpoint) {
  auto port = wire::connect(endpoint, {});
  if (!port.ok()) give_up(port.status());
  class Nobody final : public EventSink {
    void push(Event&&) override {}
  };
  const auto bytes = std::make_shared<std::vector<std::byte>>(size_t{8} << 20);
  double sent = 0.0;
  while (!g_over) {
    Request request = small_request("", 1);
    request.prompt[0].kind = PromptPart::Kind::image;
    request.images.push_back({ImageKind::encoded, {bytes, bytes->data(), bytes->size()}});
    if ((*port)->submit(std::move(request), std::make_shared<Nobody>()).ok())
      sent += static_cast<double>(bytes->size());
  }
  std::printf("%.3f GB of images", sent / 1e9);
}

struct Attack {
  const char *name, *what;
  void (*run)(const std::string& endpoint);
};
constexpr Attack kAttacks[] = {{"stops", "a reader that stops", stop_reading},
                               {"flood", "a flood of messages", flood},
                               {"elsewhere", "the same flood, at somebody else's", flood_itself},
                               {"requests", "a flood of requests", flood_requests},
                               {"images", "images by the gigabyte", send_images}};

// ---- the bench ----------------------------------------------------------------------------------

// An attack as a child of this process, from its making until stop().
class Attacker {
 public:
  Attacker(const char* name, const std::string& endpoint) {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::close(ends[0]);
      ::execl("/proc/self/exe", "wire_bench", "attack", name, endpoint.c_str(), nullptr);
      std::_Exit(127);
    }
    ::close(ends[1]);
    out_ = ends[0];
  }
  ~Attacker() { static_cast<void>(stop()); }
  Attacker(const Attacker&) = delete;
  Attacker& operator=(const Attacker&) = delete;
  // What it says that it did.
  std::string stop() {
    if (pid_ < 0) return {};
    ::kill(pid_, SIGTERM);
    std::array<char, 256> line{};
    std::string said;
    for (ssize_t got = 0; (got = ::read(out_, line.data(), line.size())) > 0;)
      said.append(line.data(), static_cast<size_t>(got));
    ::close(out_);
    rusage usage{};
    ::wait4(pid_, nullptr, 0, &usage);
    pid_ = -1;
    const auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    std::snprintf(line.data(), line.size(), ", %.2f s of processor time",
                  seconds(usage.ru_utime) + seconds(usage.ru_stime));
    return said + line.data();
  }

 private:
  pid_t pid_ = -1;
  int out_ = -1;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

void one(const Attack& attack, const HostileRun& run,
         const std::function<void(const std::string&, double)>& note) {
  Stage stage(10.0, 500 + 64, "tcp://127.0.0.1:*");
  Streams streams(stage, 50, 200);
  const auto settle = [] { std::this_thread::sleep_for(std::chrono::seconds(1)); };
  std::printf("%s\n", attack.what);
  std::vector<double> ratios, answers;
  double gigabytes = 0.0;
  Window before = streams.measure(run.seconds);
  for (int pair = 0; pair < run.pairs || gigabytes < run.gigabytes; ++pair) {
    Attacker attacker(attack.name, stage.endpoint());
    settle();
    const Window beside = streams.measure(run.seconds);
    const std::string did = attacker.stop();
    if (attack.run == send_images) gigabytes += std::atof(did.c_str());
    settle();
    const Window after = streams.measure(run.seconds);
    const double alone = (before.delay.p99_ms + after.delay.p99_ms) / 2;
    ratios.push_back(beside.delay.p99_ms / alone);
    answers.push_back(2 * beside.answer.p50_ms / (before.answer.p50_ms + after.answer.p50_ms));
    std::printf(
        "  p99 %6.2f ms beside, %6.2f and %6.2f alone: %.3f; a question's p50 %5.2f beside, "
        "%5.2f alone  %s\n",
        beside.delay.p99_ms, before.delay.p99_ms, after.delay.p99_ms, ratios.back(),
        beside.answer.p50_ms, after.answer.p50_ms, did.c_str());
    std::fflush(stdout);
    before = after;
  }
  const int failed = streams.stop();
  std::printf("  median of %zu pairs: p99 %.3f, a question's p50 %.3f; %d streams failed\n",
              ratios.size(), median(ratios), median(answers), failed);
  const std::string name = attack.name;
  note(name + "_p99_ratio", median(ratios));
  note(name + "_question_p50_ratio", median(answers));
  note(name + "_pairs", static_cast<double>(ratios.size()));
  if (gigabytes > 0) note("images_gb", gigabytes);
}

}  // namespace

bool hostile(const HostileRun& run, const std::function<void(const std::string&, double)>& note) {
  bool found = false;
  for (const Attack& attack : kAttacks) {
    if (!run.only.empty() && run.only != attack.name) continue;
    found = true;
    HostileRun mine = run;
    if (attack.run != send_images) mine.gigabytes = 0.0;
    one(attack, mine, note);
  }
  return found;
}

int attack(const std::string& name, const std::string& endpoint) {
  std::signal(SIGTERM, [](int) { g_over = true; });
  for (const Attack& attack : kAttacks) {
    if (name != attack.name) continue;
    attack.run(endpoint);
    return 0;
  }
  return -1;
}

}  // namespace troupe::bench
