// Streams over the wire with the delay of every event: an echo engine, a server and its clients in
// this process, and between engine and server a port that notes when each token was said.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/port.hpp"

namespace troupe::bench {

struct Percentiles {
  double p50_ms = 0.0, p99_ms = 0.0, max_ms = 0.0;
  size_t count = 0;
};
Percentiles percentiles(std::vector<int64_t>& delays_ns);

struct Load {
  int connections = 50, streams = 500;
  double seconds = 10.0;
};

struct LoadResult {
  double tokens_per_s = 0.0, events_per_s = 0.0, cpu_s_per_s = 0.0;
  Percentiles delay;
  int failed = 0;
};

// The engine, served; streams run on it for as long as it is asked.
class Stage {
 public:
  // `step_ms` 0: as fast as it goes; else every stream gets a token per step.
  Stage(double step_ms, int streams, const std::string& bind);
  ~Stage();

  [[nodiscard]] std::string endpoint() const { return server_->endpoint(); }
  LoadResult run(const Load& load);

 private:
  class TimedPort;
  std::shared_ptr<TimedPort> engine_;
  std::unique_ptr<ServerPort> server_;
};

// Resident memory of a process, and processor time of this one.
int64_t resident_bytes(int pid);
double cpu_seconds();

}  // namespace troupe::bench
