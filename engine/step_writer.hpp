// Writes sequences into a step plan: which rows, at which positions, with which blocks, and how
// their tokens are drawn. Decides nothing.
#pragma once

#include "engine/sequence.hpp"
#include "kernels/batch.hpp"

namespace troupe::engine {

// Rows [begin, begin + count) of the sequence; gives its index in the plan. Tokens not known yet
// are taken from the slot. Of the block tables, what the slot does not know yet.
int32_t write_rows(StepPlanDraft& draft, Sequence& sequence, int32_t begin, int32_t count,
                   int32_t block_tokens);

// In a plan that repeats the one before, after which the sequence has `end` tokens in the cache: its
// tables, which have changed.
void write_news(StepPlanDraft& draft, Sequence& sequence, int32_t end, int32_t block_tokens);

// Draws the token that follows position `length() - 1`, from `row`. The slot's first draw brings
// the history along when the sampler needs it.
void write_draw(StepPlanDraft& draft, Sequence& sequence, int32_t plan_index, int32_t row);

// Asks for the logprob of the prompt's token behind `position`, computed in `row`.
void write_score(StepPlanDraft& draft, const Sequence& sequence, int32_t plan_index, int32_t row,
                 int32_t position);

}  // namespace troupe::engine
