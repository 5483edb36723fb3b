// What the scheduler is given and what it gives: a request whose prompt is token ids already, and
// the flat lists of what came of a step. Plain data, no behaviour.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "base/request.hpp"
#include "engine/prompt.hpp"
#include "engine/sampling_plan.hpp"
#include "kernels/batch.hpp"

namespace troupe::engine {

inline constexpr int64_t kNoDeadline = std::numeric_limits<int64_t>::max();

struct Job {
  RequestId id = 0;
  Prompt prompt;  // never changes once admitted, but for pictures that become ready
  SamplingPlan sampling;
  int32_t priority = 0;
  int64_t submitted_ns = 0;
  int64_t deadline_ns = kNoDeadline;  // absolute
  uint64_t session = 0;               // 0: none; else the prompt continues what the session holds …
  int32_t opening = 0;                // … less so many tokens in front that only begin a text
  uint64_t tenant_salt = 0;           // prefixes are shared within one salt
  int32_t adapter = -1;
};

// ---- what comes out ----
struct TokenOutput {
  RequestId request = 0;
  int32_t choice = 0;
  int32_t index = 0;  // of the choice's output
  int32_t token = 0;
  float logprob = 0.0F;
  int32_t rank = 0;
  uint32_t top_begin = 0, top_count = 0;  // into Outputs::tops
};
// The logprob of a prompt's token at `position` (from 1 on), given the tokens before it.
struct ScoreOutput {
  RequestId request = 0;
  int32_t position = 0;
  int32_t token = 0;
  float logprob = 0.0F;
  int32_t rank = 0;
  uint32_t top_begin = 0, top_count = 0;
};
struct ChoiceEnd {
  RequestId request = 0;
  int32_t choice = 0;
  FinishReason reason = FinishReason::none;
  int32_t stop_token = -1;
};
struct RequestEnd {
  RequestId request = 0;
  EventKind kind = EventKind::done;  // done, cancelled or failed
  Status status;
  Usage usage;
  Timings timings;
};

// Appended to by the scheduler, in the order: started, scores, tokens, choices, requests. Whoever
// consumes it may move it away or clear() it and give it back: then nothing allocates.
struct Outputs {
  std::vector<RequestId> started;  // left the waiting ones
  std::vector<ScoreOutput> scores;
  std::vector<TokenOutput> tokens;
  std::vector<ChoiceEnd> choices;
  std::vector<RequestEnd> requests;
  std::vector<StepTop> tops;

  void clear() {
    started.clear();
    scores.clear();
    tokens.clear();
    choices.clear();
    requests.clear();
    tops.clear();
  }
  [[nodiscard]] bool empty() const {
    return started.empty() && scores.empty() && tokens.empty() && choices.empty() &&
           requests.empty();
  }
};

}  // namespace troupe::engine
