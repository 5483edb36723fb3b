// How a device's memory is shared out, decided once before the first step and printed: weights,
// workspace, and what is left for the KV groups, which are sized together so that they run out
// together. Too little is refused with what would fit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.hpp"
#include "models/facts.hpp"

namespace troupe::engine {

struct MemoryRequest {
  int64_t budget_bytes = 0;     // everything below together; 0: kv_bytes alone decides
  int64_t weight_bytes = 0;     // on this device
  int64_t workspace_bytes = 0;
  int64_t vision_bytes = 0;     // tower, encoders' workspace, pictures in work and their rows
  int64_t kv_bytes = 0;         // 0: what the budget leaves, but at most what the limits can use
  // Without kv_bytes the cache is no larger than this, but one whole context; 0: no such bound.
  int64_t kv_bytes_most = 0;
  int32_t max_sequences = 0;
  int32_t context_length = 0;
  int32_t step_rows = 0;        // a chunk's rows stand in a window group beside the window
  std::vector<models::CacheGroup> groups;  // cache.blocks are what is to be found
  std::vector<int64_t> block_bytes;        // of one block of each group
};

struct MemoryPlan {
  int64_t weight_bytes = 0, workspace_bytes = 0, vision_bytes = 0, kv_bytes = 0, budget_bytes = 0;
  std::vector<models::CacheGroup> groups;  // with cache.blocks
  int64_t kv_tokens = 0;       // tokens that fit when they belong to one sequence after another
  int32_t context_length = 0;  // of one sequence: may be less than asked for
  std::string table;           // for people
};

Result<MemoryPlan> plan_memory(const MemoryRequest& request);

}  // namespace troupe::engine
