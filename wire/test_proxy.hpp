// A TCP proxy with faults, for tests: it closes, stalls and slows what goes through it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace troupe::wire {

class Proxy {
 public:
  // Forwards 127.0.0.1:port() to 127.0.0.1:target.
  explicit Proxy(uint16_t target);
  ~Proxy();
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] std::string endpoint() const { return "tcp://127.0.0.1:" + std::to_string(port_); }
  void retarget(uint16_t target) { target_ = target; }
  // Every connection is reset now.
  void kill() { kills_.fetch_add(1); }
  // Nothing goes through any more, and nobody is told: half-open links, to both sides.
  void stall(bool stalled) { stalled_ = stalled; }
  // At most so many bytes per millisecond and direction; 0: as they come.
  void slow(int bytes_per_ms) { rate_ = bytes_per_ms; }

 private:
  struct Pair;
  void loop();
  void accept_one();
  void forward(Pair& pair, int side, int64_t budget);

  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<uint16_t> target_;
  std::atomic<uint64_t> kills_{0};
  std::atomic<bool> stalled_{false}, over_{false};
  std::atomic<int> rate_{0};
  std::vector<std::unique_ptr<Pair>> pairs_;
  std::thread thread_;
};

}  // namespace troupe::wire
