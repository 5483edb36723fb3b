// StepExecutor: what runs the steps. One device's (ExecutorCore over Backend and Model) or none's
// (FakeDevice, for simulations and `echo:`). Driven by one thread. A step is
//   forward(plan) ... sample(mask) ... collect()
// and the next step may be sent off before this one is collected: collect() answers in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.hpp"
#include "kernels/batch.hpp"
#include "kernels/device_account.hpp"
#include "kernels/tensor.hpp"

namespace troupe::engine {

class StepExecutor {
 public:
  virtual ~StepExecutor() = default;

  // Sends the forward pass off. The plan's bytes are copied or used up before it returns.
  virtual Status forward(std::span<const std::byte> plan) = 0;
  // Sends the drawing of that step's tokens off. Between the two is where a grammar's mask is made:
  // rows x ceil(vocab / 32) words, row i for PlanSampling::mask_row == i; empty: no grammar.
  virtual Status sample(std::span<const uint32_t> grammar_mask) = 0;
  // Waits for the oldest step sent off. After a failure the executor is of no further use.
  virtual Result<StepResult> collect() = 0;
  // A result that everybody has read: its memory may serve one to come.
  virtual void reuse(StepResult&&) {}

  // What lies on the device now, by what took it; empty: not told apart.
  [[nodiscard]] virtual std::vector<MemoryShare> memory() const { return {}; }
  // How long the thread has stood still for the device so far.
  [[nodiscard]] virtual int64_t waited_ns() const { return 0; }
  // How long it has taken so far for recording steps, once each kind of them.
  [[nodiscard]] virtual int64_t recorded_ns() const { return 0; }

  // The embeddings that PlanInject refers to. `rows` lies on the executor's device, and stays there
  // until it is dropped.
  virtual Status put_embedding(uint64_t id, const Matrix& rows) = 0;
  virtual void drop_embedding(uint64_t id) = 0;
};

}  // namespace troupe::engine
