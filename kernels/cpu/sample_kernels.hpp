// Passes over a row of logits: what sampling does to every token of the vocabulary.
#pragma once

#include <cstdint>
#include <span>

namespace troupe::cpu {

struct RowRange {
  float highest = 0.0F;
  bool poisoned = false;  // some element is NaN
};

// x = cap(x * scale), cap 0: none; and the highest of the result.
RowRange scale_and_cap(std::span<float> x, float scale, float cap);
float highest_of(std::span<const float> x);
// Sum of e^((x - highest) / temperature); the terms go to `weights` unless it is null.
double sum_of_exponentials(std::span<const float> x, float highest, float temperature,
                           float* weights);
// The first element that equals `value`; -1: none.
int64_t first_equal(std::span<const float> x, float value);
int64_t count_greater(std::span<const float> x, float value);
// The first index at or after `from` whose element is greater than `value`; x.size(): none.
int64_t next_greater(std::span<const float> x, int64_t from, float value);

}  // namespace troupe::cpu
