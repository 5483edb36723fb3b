// Streams over the wire with the delay of every event: an echo engine, a server and its clients in
// this process, and between engine and server a port that notes when each token was said.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/port.hpp"

namespace troupe::bench {

struct Percentiles {
  double p50_ms = 0.0, p99_ms = 0.0, max_ms = 0.0;
  size_t count = 0;
};
Percentiles percentiles(std::vector<int64_t>& delays_ns);

[[noreturn]] void give_up(const Status& why);

// What came in one stretch of time.
struct Window {
  double tokens_per_s = 0.0, events_per_s = 0.0, cpu_s_per_s = 0.0;
  Percentiles delay;  // of every event, from the engine's mouth to the client's sink
  Percentiles answer;  // of a small question, asked every few milliseconds
};

// The engine, served.
class Stage {
 public:
  // `step_ms` 0: as fast as it goes; else every stream gets a token per step.
  Stage(double step_ms, int streams, const std::string& bind);
  ~Stage();
  [[nodiscard]] std::string endpoint() const { return server_->endpoint(); }

 private:
  friend class Streams;
  class TimedPort;
  std::shared_ptr<TimedPort> engine_;
  std::unique_ptr<ServerPort> server_;
};

// Streams that run for as long as it lives, spread over so many connections.
class Streams {
 public:
  Streams(Stage& stage, int connections, int streams);
  ~Streams();
  Window measure(double seconds);
  // Ends all of them; how many did not end as they were told.
  int stop();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Resident memory of a process, and processor time of this one.
int64_t resident_bytes(int pid);
double cpu_seconds();

}  // namespace troupe::bench
