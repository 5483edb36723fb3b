// How ready actors find a thread: one queue, and whoever is idle takes from it, like CAF's own
// "sharing" with two differences that cost a step four system calls and as many thread switches.
//
//  1. Whoever wakes a worker has let go of the queue's lock before (CAF's has not: the woken thread
//     runs into the lock and sleeps again).
//  2. A thread with a Helper runs itself what its messages make ready. The executor has one: when a
//     step is over it would only tell the scheduler, sleep, and be woken with the next plan. Instead
//     it runs the scheduler where it stands, launches what comes of it, and lets the detokenizer
//     speak before it waits for its device again: a step then wakes nobody at all. What is meant for
//     the owner itself, or may be said by it directly, is handed over without a message. (Where a
//     step takes a device milliseconds, telling is left to the others: CastParts::tells_apart.)
//
// All that is specific to the scheduler of CAF 0.17 is in this header.
#pragma once

#include <caf/actor_system.hpp>
#include <caf/policy/unprofiled.hpp>
#include <caf/resumable.hpp>
#include <caf/scheduler/coordinator.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/send.hpp>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "actors/messages.hpp"

namespace troupe::actors {

// What the scheduler would have delivered.
struct HandedDelivery {
  SchedulerActor from;
  DetokenizerActor to;
  DeliveryPtr delivery;
  void send() const { caf::send_as(from, to, deliver_atom_v, delivery); }
};

// Runs on its owner's thread what that thread makes ready inside a Scope. Used by one thread.
class Helper {
 public:
  Helper(caf::actor_system& system, caf::actor_id owner) : system_(system), owner_(owner) {}
  // What has not been said becomes a message, what has not been run is anybody's.
  ~Helper() {
    for (const HandedDelivery& handed : std::exchange(deliveries_, {})) handed.send();
    for (caf::resumable* job : std::exchange(jobs_, {})) system_.scheduler().enqueue(job);
  }
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  // While it lives, the thread's messages make work for the helper. Null: for everybody.
  class Scope {
   public:
    explicit Scope(Helper* helper) : before_(std::exchange(current_, helper)) {}
    ~Scope() { current_ = before_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Helper* const before_;
  };

  // Runs what is ready now; what that makes ready in its turn waits for the next call.
  void run(caf::execution_unit* unit) {
    const Scope scope(this);
    running_.swap(jobs_);
    for (caf::resumable* job : running_) {
      if (job->resume(unit, kMessagesAtOnce) == caf::resumable::resume_later) {
        const Scope others(nullptr);
        system_.scheduler().enqueue(job);  // it has more to do than there is time for here
      } else {
        caf::intrusive_ptr_release(job);
      }
    }
    running_.clear();
  }
  [[nodiscard]] bool has_work() const { return !jobs_.empty() || !deliveries_.empty(); }

  // Of the thread, if `owner` runs it and will take over what is handed to it; else null.
  static Helper* of(caf::actor_id owner) {
    return current_ != nullptr && current_->owner_ == owner ? current_ : nullptr;
  }
  void hand_over(StepJobPtr job) { handed_.push_back(std::move(job)); }
  void hand_over(HandedDelivery delivery) { deliveries_.push_back(std::move(delivery)); }
  // The oldest; null: none is left.
  [[nodiscard]] StepJobPtr take_handed() {
    if (handed_.empty()) return nullptr;
    StepJobPtr job = std::move(handed_.front());
    handed_.erase(handed_.begin());
    return job;
  }

  // Deliveries that were handed over: what `speak` cannot say becomes a message.
  template <class F>
  void deliver(const F& speak) {
    const Scope scope(this);
    telling_.swap(deliveries_);
    for (const HandedDelivery& handed : telling_) {
      if (!speak(handed.delivery)) handed.send();
    }
    telling_.clear();
  }

  // True: this thread has a helper, and it will run the job.
  static bool takes(caf::resumable* job) {
    if (current_ == nullptr) return false;
    current_->jobs_.push_back(job);
    return true;
  }

 private:
  static constexpr size_t kMessagesAtOnce = 16;
  static inline thread_local Helper* current_ = nullptr;

  caf::actor_system& system_;
  const caf::actor_id owner_;
  std::vector<StepJobPtr> handed_;
  std::vector<HandedDelivery> deliveries_, telling_;
  std::vector<caf::resumable*> jobs_, running_;
};

// The policy behind caf::scheduler::coordinator.
class Sharing final : public caf::policy::unprofiled {
 public:
  struct coordinator_data {
    explicit coordinator_data(caf::scheduler::abstract_coordinator*) {}
    std::mutex mutex;
    std::condition_variable ready;
    std::deque<caf::resumable*> jobs;
    std::function<void()> sweep;
    uint32_t rests = 0;
  };
  struct worker_data {
    explicit worker_data(caf::scheduler::abstract_coordinator*) {}
    uint32_t rested = 0;
  };

  // Each worker calls `sweep` once, as soon as it has nothing else to do.
  template <class Coordinator>
  static void rest(Coordinator& self, const std::function<void()>& sweep) {
    coordinator_data& data = self.data();
    {
      const std::scoped_lock lock(data.mutex);
      data.sweep = sweep;
      ++data.rests;
    }
    data.ready.notify_all();
  }

  template <class Coordinator>
  void central_enqueue(Coordinator* self, caf::resumable* job) {
    if (!Helper::takes(job)) share(d(self), job);
  }
  template <class Worker>
  void external_enqueue(Worker* self, caf::resumable* job) {
    share(d(self->parent()), job);
  }
  template <class Worker>
  void internal_enqueue(Worker* self, caf::resumable* job) {
    share(d(self->parent()), job);
  }
  template <class Worker>
  void resume_job_later(Worker* self, caf::resumable* job) {
    share(d(self->parent()), job);
  }
  template <class Worker>
  caf::resumable* dequeue(Worker* self) {
    coordinator_data& data = d(self->parent());
    uint32_t& rested = d(self).rested;
    std::unique_lock lock(data.mutex);
    while (data.jobs.empty()) {
      data.ready.wait(lock, [&] { return !data.jobs.empty() || rested != data.rests; });
      if (!data.jobs.empty()) break;
      rested = data.rests;
      const std::function<void()> sweep = data.sweep;
      lock.unlock();
      sweep();
      lock.lock();
    }
    caf::resumable* const job = data.jobs.front();
    data.jobs.pop_front();
    return job;
  }
  template <class Worker, class F>
  void foreach_resumable(Worker*, F) {}
  template <class Coordinator, class F>
  void foreach_central_resumable(Coordinator* self, F f) {
    std::deque<caf::resumable*> left;
    {
      const std::scoped_lock lock(d(self).mutex);
      left.swap(d(self).jobs);
    }
    for (caf::resumable* job : left) f(job);
  }

 private:
  static void share(coordinator_data& data, caf::resumable* job) {
    {
      const std::scoped_lock lock(data.mutex);
      data.jobs.push_back(job);
    }
    data.ready.notify_one();
  }
};

using SharingCoordinator = caf::scheduler::coordinator<Sharing>;

// The same without threads, for simulations.
class SimulatedSharing final : public caf::scheduler::test_coordinator {
 public:
  using test_coordinator::test_coordinator;
  static caf::actor_system::module* make(caf::actor_system& system, caf::detail::type_list<>) {
    return new SimulatedSharing(system);
  }

 protected:
  void enqueue(caf::resumable* job) override {
    if (!Helper::takes(job)) test_coordinator::enqueue(job);
  }
};

}  // namespace troupe::actors
