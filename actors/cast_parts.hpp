// What a cast is made of: everything that differs between a model, `echo:` and a simulation.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "actors/encode.hpp"
#include "actors/sight.hpp"
#include "actors/task_pool.hpp"
#include "actors/ticket.hpp"
#include "base/clock.hpp"
#include "base/cores.hpp"
#include "base/thread_plan.hpp"
#include "engine/executor.hpp"
#include "engine/scheduler.hpp"
#include "engine/vision_executor.hpp"

namespace troupe::actors {

// The model's eyes; without them `eyes` is null.
struct VisionParts {
  std::shared_ptr<const Eyes> eyes;
  int32_t devices = 0;
  // Opens encoder `device`, on the thread that will drive it.
  std::function<Result<std::unique_ptr<engine::VisionExecutor>>(int32_t device, int32_t generation)>
      open_device;
  std::function<engine::VisionConfig()> balancer;  // asked once, when the encoders are open
  std::shared_ptr<TaskRunner> runner;              // simulations; null: a TaskPool
};

struct CastParts {
  ThreadPlan threads;
  EncodeParts encode;
  std::function<engine::SchedulerConfig()> scheduler;  // asked once, when the device is open
  Admission::Bounds bounds;

  VisionParts vision;

  // Opens the device, on the thread that will drive it. `generation`: how many died before it.
  std::function<Result<std::unique_ptr<engine::StepExecutor>>(int32_t generation)> open_device;
  bool runs_ahead = false;   // forward() returns before the device is done
  bool replaceable = true;   // false: its death poisons the process, a new one would not help
  int64_t stall_warn_ns = 30'000'000'000;
  int64_t stall_fatal_ns = 600'000'000'000;

  std::shared_ptr<const Clock> clock = std::make_shared<SteadyClock>();
  // Where an executor looks for a better core (engine/core_choice.hpp); null: it stays where the system
  // puts it.
  std::shared_ptr<Cores> cores;
  // Simulations: CAF's testing scheduler, no thread at all, tasks when the test says so.
  bool simulated = false;
  // Steps take a device of its own long enough for others to wake up and tell what came of the last.
  bool tells_apart = false;
  bool helps = true;                   // a device that runs ahead: its executor helps out (caf_sharing.hpp)
  std::shared_ptr<TaskRunner> runner;  // null: a TaskPool
  bool precise_clocks = false;         // handlers are measured in CPU time
};

}  // namespace troupe::actors
