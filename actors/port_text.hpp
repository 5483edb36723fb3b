// What a port says about itself: numbers, metrics, options as text. And what its options mean.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "actors/cast_parts.hpp"
#include "actors/shell.hpp"
#include "actors/ticket.hpp"
#include "base/port.hpp"
#include "engine/scheduler.hpp"
#include "kernels/device_account.hpp"
#include "models/facts.hpp"

namespace troupe::actors {

inline constexpr int64_t kMaxWaitingMost = 1'000'000;  // what max_waiting may be

// Requests, not sequences: submitted == done + cancelled + failed + waiting + running.
EngineStats stats_of(const Board& board, uint32_t waiting, uint32_t in_flight);
// Where time and device memory went.
struct Whereabouts {
  std::vector<HandlerClockPtr> clocks;
  int64_t executor_host_ns = 0, executor_recording_ns = 0;
  uint64_t executor_moves = 0;
  std::vector<MemoryShare> memory;
};
// Prometheus text.
std::string metrics_text(const EngineStats& stats, const Whereabouts& where, const std::string& model);
std::string options_json(const EngineOptions& options);
// "llama-3" of "/models/llama-3/".
std::string last_part(std::string path);
// Tokens that fit when they belong to one sequence after another.
int64_t kv_tokens(const std::vector<models::CacheGroup>& groups);
// Threads, bounds and seeds, which every cast has.
// `encoders`: devices that encode pictures.
CastParts common_parts(const EngineOptions& options, bool cpu_device, int32_t encoders = 0);
// What options and model say to every scheduler; rows, groups and the like are its device's affair.
engine::SchedulerConfig scheduler_config(const models::ModelFacts& facts,
                                         const EngineOptions& options);
engine::SchedulerConfig echo_scheduler(const models::ModelFacts& facts, const EngineOptions& options);

}  // namespace troupe::actors
