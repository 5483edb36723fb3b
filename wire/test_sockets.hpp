// What the tests over real sockets share: an engine that steps by itself, sinks to wait for,
// servers with short heartbeats.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "wire/client.hpp"
#include "wire/endpoint.hpp"
#include "wire/server.hpp"
#include "wire/test_world.hpp"

namespace troupe::wire {

using namespace std::chrono_literals;

// CountingEngine with a thread that steps it.
class SteppedEngine final : public EnginePort {
 public:
  explicit SteppedEngine(std::chrono::microseconds step = 500us)
      : thread_([this, step] {
          while (!over_) {
            {
              const std::scoped_lock lock(mutex_);
              engine_.step();
            }
            std::this_thread::sleep_for(step);
          }
        }) {}
  ~SteppedEngine() override {
    over_ = true;
    thread_.join();
  }
  template <class F>
  auto with(F f) {
    const std::scoped_lock lock(mutex_);
    return f(engine_);
  }
  Result<EngineInfo> info() override {
    return with([](auto& e) { return e.info(); });
  }
  Result<EngineStats> stats() override {
    return with([](auto& e) { return e.stats(); });
  }
  Result<std::string> metrics() override {
    return with([](auto& e) { return e.metrics(); });
  }
  Status set_option(std::string_view, std::string_view) override { return unsupported("none"); }
  Result<std::vector<int32_t>> tokenize(std::string_view t, bool a, bool p) override {
    return with([&](auto& e) { return e.tokenize(t, a, p); });
  }
  Result<std::string> detokenize(std::span<const int32_t> i, bool s) override {
    return with([&](auto& e) { return e.detokenize(i, s); });
  }
  Result<std::string> render(const Request& r) override {
    return with([&](auto& e) { return e.render(r); });
  }
  Result<RequestId> submit(Request r, std::shared_ptr<EventSink> s) override {
    return with([&](auto& e) { return e.submit(std::move(r), std::move(s)); });
  }
  void cancel(RequestId id) override {
    with([&](auto& e) { return e.cancel(id); });
  }
  Result<uint64_t> session_new(const SessionOptions& o) override {
    return with([&](auto& e) { return e.session_new(o); });
  }
  Result<uint64_t> session_fork(uint64_t s) override {
    return with([&](auto& e) { return e.session_fork(s); });
  }
  Status session_rewind(uint64_t s, int64_t t) override {
    return with([&](auto& e) { return e.session_rewind(s, t); });
  }
  Result<SessionState> session_info(uint64_t s) override {
    return with([&](auto& e) { return e.session_info(s); });
  }
  void session_free(uint64_t s) override {
    with([&](auto& e) { return e.session_free(s); });
  }
  Status close(int64_t) override { return {}; }

 private:
  std::mutex mutex_;
  CountingEngine engine_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

// CheckingSink, and a way to wait for its end.
class Waiting final : public EventSink {
 public:
  void push(Event&& event) override {
    const std::scoped_lock lock(mutex_);
    sink.push(std::move(event));
    changed_.notify_all();
  }
  bool ended_within(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, time, [&] { return sink.ends > 0; });
  }
  bool has_tokens(size_t n, std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, time,
                             [&] { return sink.tokens[0].size() >= n || sink.ends > 0; });
  }
  size_t tokens() {
    const std::scoped_lock lock(mutex_);
    return sink.tokens[0].size();
  }
  CheckingSink sink;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

inline ServerOptions quick() {
  ServerOptions options;
  options.settings = {{"heartbeat_ms", "200"}, {"idle_ms", "1000"}};
  return options;
}

inline uint16_t port_of(const std::string& endpoint) {
  return static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1)));
}

inline std::unique_ptr<ServerPort> must_serve(const std::shared_ptr<EnginePort>& engine,
                                              const std::string& bind,
                                              const ServerOptions& options) {
  auto server = serve(engine, bind, options);
  EXPECT_TRUE(server.ok()) << server.status().message();
  return server.ok() ? std::move(*server) : nullptr;
}

inline Result<std::unique_ptr<EnginePort>> try_connect(const std::string& endpoint,
                                                       RemoteOptions remote = {},
                                                       std::chrono::milliseconds timeout = 30s) {
  EngineOptions options;
  options.remote = std::move(remote);
  options.remote.connect_timeout_ns = std::chrono::nanoseconds(timeout).count();
  return connect(endpoint, options);
}

inline void expect_answers(EnginePort& port, int32_t tokens = 20) {
  auto waiting = std::make_shared<Waiting>();
  const auto id = port.submit(prompt(tokens), waiting);
  ASSERT_TRUE(id.ok()) << id.status().message();
  ASSERT_TRUE(waiting->ended_within(60s));
  EXPECT_TRUE(waiting->sink.broken.empty());
  EXPECT_EQ(waiting->sink.last.kind, EventKind::done) << waiting->sink.last.status.message();
  EXPECT_EQ(waiting->sink.tokens[0].size(), static_cast<size_t>(tokens));
}

inline std::string temporary(const std::string& name) {
  const char* const folder = "/tmp";
  return std::string(folder) + "/troupe-" + std::to_string(::getpid()) + "-" + name;
}

struct Keys {
  std::string public_key, secret_key;
  static Keys make() {
    auto pair = make_keys().value();
    return {pair.first, pair.second};
  }
};

}  // namespace troupe::wire
