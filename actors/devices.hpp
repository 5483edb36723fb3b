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
  [[nodiscard]] bool cpu() const { return plugin.empty(); }
};

// auto | cpu | cpu:0 | cuda | cuda:1 | the path of a plugin, with :index or not. `auto` takes the
// first CUDA device there is, else the CPU.
Result<DeviceChoice> choose_device(const std::string& device);
Result<std::unique_ptr<Backend>> open_backend(const DeviceChoice& choice, const ThreadPlan& threads);

}  // namespace troupe::actors
