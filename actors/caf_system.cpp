#include "actors/caf_system.hpp"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <caf/actor_system.hpp>
#include <caf/logger.hpp>
#include <string_view>

#include "actors/caf_sharing.hpp"

namespace troupe::actors {
namespace {

// Gives CAF's threads the names of the plan.
class NamingHook final : public caf::thread_hook {
 public:
  explicit NamingHook(const ThreadPlan& plan) : plan_(plan) {}
  void init(caf::actor_system&) override {}
  void thread_started() override {
    std::array<char, 16> name{};
    pthread_getname_np(pthread_self(), name.data(), name.size());
    const std::string_view kind = name.data();
    if (kind == "caf.multiplexer") {
      if (const PlannedThread* t = plan_.find(ThreadOwner::actors, next_.fetch_add(1))) {
        enter_thread(*t);
      }
    } else if (kind == "caf.clock") {
      pthread_setname_np(pthread_self(), "tr-clock");
    } else {
      pthread_setname_np(pthread_self(), "tr-printer");  // an executor takes its own name later
    }
  }
  void thread_terminates() override {}

 private:
  const ThreadPlan plan_;
  std::atomic<int32_t> next_{0};
};

}  // namespace

CafConfig::CafConfig(const ThreadPlan& plan, bool simulated) {
  add_message_types<caf::id_block::troupe>();
  if (simulated) {
    load<SimulatedSharing>();
  } else {
    load<SharingCoordinator>();
  }
  const int32_t workers = plan.count(ThreadOwner::actors) - kActorHelperThreads;
  set("scheduler.max-threads", static_cast<size_t>(std::max(workers, 1)));
  set("logger.console", caf::atom("none"));
  add_thread_hook<NamingHook>(plan);
}

void drop_logger() {
  caf::logger::set_current_actor_system(nullptr);
}

}  // namespace troupe::actors
