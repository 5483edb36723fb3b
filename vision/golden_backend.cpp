#include "vision/golden_backend.hpp"

#include <gtest/gtest.h>

#include "kernels/cpu/cpu_backend.hpp"

namespace troupe::vision::testing {

std::unique_ptr<Backend> open_golden_backend() {
  auto opened = cpu::open_cpu_backend({.threads = 1, .device = 0, .cores = {}});
  EXPECT_TRUE(opened.ok()) << opened.status().message();
  return std::move(opened).value();
}

}  // namespace troupe::vision::testing
