// What CAF is told before its first thread: the plan's names for its threads, how ready actors find
// one, no file of settings, no logger.
#pragma once

#include <caf/actor_system_config.hpp>

#include "base/thread_plan.hpp"

namespace troupe::actors {

// Never parsed: a library reads no caf-application.ini from wherever it happens to be started.
class CafConfig final : public caf::actor_system_config {
 public:
  // Simulated: one message at a time, when it is asked for.
  CafConfig(const ThreadPlan& plan, bool simulated);
};

// Making a system, or an actor, leaves a reference to the system's logger in the calling thread,
// and ~actor_system waits until every thread has dropped its own: without this it would wait for
// ever on any thread but the one that made it.
void drop_logger();

}  // namespace troupe::actors
