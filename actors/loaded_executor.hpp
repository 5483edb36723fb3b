// A model brought onto its device: backend, weights, memory plan, executor core, as one thing that
// is opened, driven and dropped on one thread.
#pragma once

#include <memory>
#include <string>

#include "actors/devices.hpp"
#include "actors/sight.hpp"
#include "base/port.hpp"
#include "base/status.hpp"
#include "base/thread_plan.hpp"
#include "engine/executor.hpp"
#include "engine/memory_plan.hpp"
#include "engine/scheduler.hpp"
#include "models/model.hpp"

namespace troupe::actors {

// What a model's eyes may take of memory, decided before anything is placed.
struct VisionMemory {
  int64_t weight_bytes = 0;
  int64_t embedding_bytes = 0;  // rows: wanted, made or kept
  int64_t work_bytes = 0;       // pictures being decoded, tiles waiting to be encoded
  int64_t workspace_bytes = 0;  // of one encoder, at most
  int32_t encoders = 0;
  [[nodiscard]] int64_t total() const {
    return weight_bytes + embedding_bytes + work_bytes + encoders * workspace_bytes;
  }
};

struct LoadRequest {
  std::shared_ptr<const models::ModelFolder> folder;
  models::LoadOptions load;
  DeviceChoice device;
  ThreadPlan threads;
  EngineOptions options;
  std::shared_ptr<const Eyes> eyes;  // null: the model has none
  VisionMemory vision;
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
