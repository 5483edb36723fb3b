// Weights made up: normal with a standard deviation of 0.02, a function of (seed, tensor name,
// element) alone, so every rank and every run has the same model. Fast: one 64-bit hash draws four
// values from a table of quantiles.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "kernels/tensor.hpp"
#include "models/description.hpp"

namespace troupe::models {

std::shared_ptr<const std::byte> make_dummy(std::string_view name, size_t elements, DType dtype,
                                            Fill fill, uint64_t seed);

}  // namespace troupe::models
