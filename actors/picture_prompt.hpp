// The prompt of a request with its pictures in their places: sizes read from headers, layouts, text
// expanded, ids, and what the scheduler must know of the rows. Nothing is decoded here.
#pragma once

#include "actors/encode.hpp"

namespace troupe::actors {

// Fills order.job.prompt and, when there are pictures, order.sight.
[[nodiscard]] Status read_prompt(Order& order, const EncodeParts& parts);

}  // namespace troupe::actors
