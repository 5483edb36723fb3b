#include "actors/task_pool.hpp"

#include <utility>

namespace troupe::actors {

TaskPool::TaskPool(const ThreadPlan& plan, size_t long_bytes, ThreadOwner owner)
    : long_bytes_(long_bytes) {
  const int32_t count = plan.count(owner);
  for (const PlannedThread& planned : plan.threads) {
    if (planned.owner != owner) continue;
    const bool takes_long = planned.index > 0 || count == 1;
    threads_.emplace_back([this, planned, takes_long] { serve(planned, takes_long); });
  }
}

TaskPool::~TaskPool() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void TaskPool::run(size_t bytes, std::function<void()> task) {
  const bool is_long = bytes >= long_bytes_;
  {
    const std::scoped_lock lock(mutex_);
    (is_long ? long_ : short_).push_back(std::move(task));
  }
  // A short lane's thread cannot take a long task: wake all when the task is long.
  is_long ? wake_.notify_all() : wake_.notify_one();
}

void TaskPool::rest(const std::function<void()>& sweep) {
  {
    const std::scoped_lock lock(mutex_);
    sweep_ = sweep;
    ++rests_;
  }
  wake_.notify_all();
}

void TaskPool::serve(const PlannedThread& planned, bool takes_long) {
  enter_thread(planned);
  std::unique_lock lock(mutex_);
  uint32_t rested = rests_;
  while (true) {
    wake_.wait(lock, [&] {
      return stopping_ || rested != rests_ || !short_.empty() || (takes_long && !long_.empty());
    });
    std::function<void()> task;
    std::deque<std::function<void()>>* lane = nullptr;
    if (takes_long && !long_.empty()) {
      lane = &long_;
    } else if (!short_.empty()) {
      lane = &short_;
    }
    if (lane != nullptr) {
      task = std::move(lane->front());
      lane->pop_front();
    } else if (stopping_) {
      return;  // and nothing left that this thread may take
    } else {
      rested = rests_;
      task = sweep_;
    }
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

}  // namespace troupe::actors
