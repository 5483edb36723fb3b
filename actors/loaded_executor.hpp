// A model brought onto its device: backend, weights, memory plan, executor core, as one thing that
// is opened, driven and dropped on one thread.
#pragma once

#include <memory>
#include <string>

#include "actors/devices.hpp"
#include "base/port.hpp"
#include "base/status.hpp"
#include "base/thread_plan.hpp"
#include "engine/executor.hpp"
#include "engine/memory_plan.hpp"
#include "engine/scheduler.hpp"
#include "models/model.hpp"

namespace troupe::actors {

struct LoadRequest {
  std::shared_ptr<const models::ModelFolder> folder;
  models::LoadOptions load;
  DeviceChoice device;
  ThreadPlan threads;
  EngineOptions options;
};

// What opening taught: made by the first load, taken as it is by replacements.
struct LoadedPlan {
  engine::SchedulerConfig scheduler;
  engine::MemoryPlan memory;
  DeviceInfo device;
};

// `plan` empty: it is made, and put there.
Result<std::unique_ptr<engine::StepExecutor>> load_executor(const LoadRequest& request,
                                                            std::shared_ptr<LoadedPlan>& plan);

// What the plan would be, from the folder alone. Without the workspace, which only a model knows.
Result<engine::MemoryPlan> estimate_memory(const LoadRequest& request, Backend& backend,
                                           const models::ModelFacts& facts);

models::LoadOptions load_options(const EngineOptions& options);

}  // namespace troupe::actors
