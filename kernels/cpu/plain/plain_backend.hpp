// A whole backend made of the plain ops: the oracle of the ops suite. Slow on purpose.
#pragma once

#include <memory>

#include "kernels/backend.hpp"

namespace troupe::cpu {

std::unique_ptr<Backend> open_plain_backend();

}  // namespace troupe::cpu
