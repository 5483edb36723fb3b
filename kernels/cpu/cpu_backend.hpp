// The CPU as a device: the embedded default, and what every other device is compared with.
//
// Activations are f32 whatever the weights are; f32, f16 and bf16 weights are read where the model
// file is mapped and never expanded. The thread that calls the ops is thread 0 of the device's.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.hpp"
#include "kernels/backend.hpp"

namespace troupe::cpu {

struct CpuOptions {
  int32_t threads = 1;         // the calling thread included
  int32_t device = 0;          // gives the name: cpu:0, cpu:1 …
  std::vector<int32_t> cores{};  // core of thread i; empty: not pinned. Thread 0 is the caller's affair.
};

Result<std::unique_ptr<Backend>> open_cpu_backend(const CpuOptions& options);

}  // namespace troupe::cpu
