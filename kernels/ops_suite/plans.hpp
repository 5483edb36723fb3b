// Small step plans for the cases: sequences with rows and a past in the cache.
#pragma once

#include <vector>

#include "kernels/batch.hpp"

namespace troupe::ops_suite {

struct SequenceShape {
  int32_t slot = 0;
  int32_t rows = 1;  // of this step
  int32_t past = 0;  // tokens already in the cache
  int32_t prompt_len = 0;
  int32_t cross_len = 0;
};

// Appends a sequence whose rows are the positions past, past + 1, … Tables are up to the caller.
inline void add_sequence(StepPlanDraft& draft, const SequenceShape& shape) {
  PlanSequence s;
  s.slot = shape.slot;
  s.row_begin = static_cast<int32_t>(draft.token_ids.size());
  s.row_count = shape.rows;
  s.kv_len = shape.past + shape.rows;
  s.prompt_len = shape.prompt_len;
  s.cross_len = shape.cross_len;
  draft.sequences.push_back(s);
  for (int32_t i = 0; i < shape.rows; ++i) {
    draft.token_ids.push_back(0);
    draft.positions.push_back(shape.past + i);
  }
}

// The table of the next sequence: these blocks, the first of which begins at `first_position`.
inline void add_table(StepPlanDraft& draft, const std::vector<int32_t>& blocks,
                      int32_t first_position = 0) {
  draft.tables.push_back({static_cast<int32_t>(draft.blocks.size()),
                          static_cast<int32_t>(blocks.size()), first_position});
  draft.blocks.insert(draft.blocks.end(), blocks.begin(), blocks.end());
}

}  // namespace troupe::ops_suite
