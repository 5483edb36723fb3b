// `troupe serve` in a process of its own, so that its memory can be told from its clients'; and raw
// connections that cost their maker next to nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace troupe::bench {

// This process and its children may hold so many connections open; if the system does not allow it,
// says so and ends the program.
void allow_open_files(int connections);

class Served {
 public:
  // `command`: the troupe command; serves `model` on a free port of 127.0.0.1.
  Served(const std::string& command, const std::string& model,
         const std::vector<std::string>& flags);
  ~Served();
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;
  [[nodiscard]] int pid() const { return pid_; }
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  [[nodiscard]] int port() const;

 private:
  int pid_ = -1;
  std::string endpoint_;
};

// Connections that have said HELLO, been welcomed, and answer ZeroMQ's own heartbeats.
class IdleConnections {
 public:
  IdleConnections(int port, int count);
  ~IdleConnections();
  IdleConnections(const IdleConnections&) = delete;
  IdleConnections& operator=(const IdleConnections&) = delete;
  // Answers heartbeats and pings for so long; how many are still connected.
  size_t serve(double seconds);
  [[nodiscard]] size_t welcomed() const { return welcomed_; }

 private:
  void read(size_t i);
  std::vector<int> fds_;
  std::vector<bool> greeted_;
  size_t welcomed_ = 0;
  int64_t pinged_ns_ = 0;
};

}  // namespace troupe::bench
