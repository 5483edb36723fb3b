// From EngineOptions::device to an open backend: the CPU that is built in, or a plugin.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.hpp"
#include "base/thread_plan.hpp"
#include "kernels/backend.hpp"

namespace troupe::actors {

struct DeviceChoice {
  std::string plugin;  // path of the backend's library; empty: the CPU
  int32_t index = 0;
  int32_t slices = 1;  // cpu:N: virtual devices, equal shares of the threads
  [[nodiscard]] bool cpu() const { return plugin.empty(); }
};

// auto | cpu | cpu:N (N virtual devices: pictures are encoded on all of them, text runs on the first) |
// cuda | cuda:1 | the path of a plugin, with :index or not. `auto` takes the first CUDA device there is,
// else the CPU.
Result<DeviceChoice> choose_device(const std::string& device);
// Cache blocks: small ones share prefixes more finely, larger ones are what GPUs copy at full speed.
int32_t block_tokens_of(const DeviceChoice& choice, int32_t asked);
Result<std::unique_ptr<Backend>> open_backend(const DeviceChoice& choice, const ThreadPlan& threads);
// The same device once more, for the vision encoder number `encoder`: with threads of its own.
Result<std::unique_ptr<Backend>> open_encoder_backend(const DeviceChoice& choice,
                                                      const ThreadPlan& threads, int32_t encoder);

}  // namespace troupe::actors
