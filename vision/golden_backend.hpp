// The backend that vision_golden_test runs on: a CPU here, a CUDA device in tests/gpu.
#pragma once

#include <memory>

#include "kernels/backend.hpp"

namespace troupe::vision::testing {

std::unique_ptr<Backend> open_golden_backend();  // null: there is no such device

}  // namespace troupe::vision::testing
