// The simulator's own idea of a request: made from random numbers, judged by the naive definition.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "engine/job.hpp"
#include "models/facts.hpp"

namespace troupe::engine {

class SimRandom {
 public:
  explicit SimRandom(uint64_t seed) : engine_(seed) {}
  // In [low, high].
  int32_t in(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  bool chance(int32_t percent) { return in(1, 100) <= percent; }
  uint64_t bits() { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

struct SimulatedChoice {
  std::vector<int32_t> expected;  // what a naive loop draws, to its natural end
  FinishReason natural_end = FinishReason::none;
  int32_t got = 0;        // tokens delivered
  int32_t cut_at = -1;    // a stop string ends it after so many tokens
  bool cut_sent = false;
  bool ended = false;
};

// What pictures are to a world's model.
enum class SimSight : uint8_t { none, rows, grid, spans, experts, cross };

struct SimulatedRequest {
  Job job;
  Prompt prompt;  // with what its session held
  std::vector<SimulatedChoice> choices;
  std::vector<int32_t> scored;  // positions whose logprobs came
  int64_t admitted_at_turn = 0;
  int32_t cancel_at_turn = -1;
  bool started = false, ended = false;
};

inline constexpr int32_t kSimVocab = 61;
inline constexpr int32_t kSimEos = 7;

// Fills everything but what the caller knows (id, session, times). `context`: the scheduler's limit.
Job random_job(SimRandom& random, int32_t longest_prompt, SimSight sight);
inline constexpr int32_t kSimSpan = 12;  // rows of a picture, at most
// Draws every choice's tokens with no engine in the way.
void expect_tokens(SimulatedRequest& request, const models::ModelFacts& facts, int32_t context_limit);

}  // namespace troupe::engine
