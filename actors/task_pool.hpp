// Own threads for work that is too long for an actor: templates, tokenizing, decoding pictures.
//
// Tasks below `long_bytes` go to the short lane, others to the long one, so that a book never
// stands in front of a greeting. The pool needs no bound of its own: what is in it was admitted.
// Tests give their own TaskRunner and decide when a task runs.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/thread_plan.hpp"

namespace troupe::actors {

class TaskRunner {
 public:
  virtual ~TaskRunner() = default;
  // `task` must not throw. Tasks of one lane start in order.
  virtual void run(size_t bytes, std::function<void()> task) = 0;
  // Each thread calls `sweep` once, as soon as it has nothing else to do.
  virtual void rest(const std::function<void()>& sweep) = 0;
  [[nodiscard]] virtual size_t threads() const = 0;
};

class TaskPool final : public TaskRunner {
 public:
  // The owner's first thread serves short tasks, the others serve long ones and help with
  // short ones when there are none.
  TaskPool(const ThreadPlan& plan, size_t long_bytes, ThreadOwner owner = ThreadOwner::tokenizer);
  ~TaskPool() override;  // runs what is queued, then joins
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  void run(size_t bytes, std::function<void()> task) override;
  void rest(const std::function<void()>& sweep) override;
  [[nodiscard]] size_t threads() const override { return threads_.size(); }

 private:
  void serve(const PlannedThread& planned, bool takes_long);

  const size_t long_bytes_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> short_, long_;
  std::function<void()> sweep_;
  uint32_t rests_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace troupe::actors
