// The half of a backend that any backend in host memory shares: memory, placing weights, caches,
// and the steps in flight. The plain reference and the fast CPU backend add the ops.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cpu/step_state.hpp"

namespace troupe::cpu {

class HostBackend : public Backend {
 public:
  [[nodiscard]] const DeviceInfo& info() const override { return info_; }
  [[nodiscard]] DType activation_dtype(DType) const override { return DType::f32; }

  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes, std::string_view what) override;
  Status upload(void* device, const void* host, size_t bytes) override;
  Status download(void* host, const void* device, size_t bytes) override;
  // Weights stay where they are. Only vectors (norms, biases) become f32 copies, and what is not
  // aligned to its own element is copied.
  Result<LinearWeight> place(const LinearWeight& host,
                             std::vector<std::unique_ptr<DeviceBuffer>>& arena) override;
  Result<Matrix> place(const Matrix& host,
                       std::vector<std::unique_ptr<DeviceBuffer>>& arena) override;
  Result<std::unique_ptr<KvCache>> create_cache(const KvCacheSpec& spec) override;
  [[nodiscard]] size_t cache_block_bytes(const KvCacheSpec& spec) const override;
  Status reserve_steps(int32_t slots, int32_t rows_max, int32_t logit_rows_max,
                       int32_t vocab) override;
  Result<Batch> begin_step(const PlanView& plan, std::span<KvCache* const> caches) override;
  Result<StepResult> finish_step(const Batch& batch) override;
  Status synchronize() override { return ok_status(); }

 protected:
  HostBackend(std::string name, std::string description, int32_t threads);
  [[nodiscard]] StepState& steps() { return steps_; }
  [[nodiscard]] StepResult& result_of(const Batch& batch) {
    return steps_.ring[batch.ring].result;
  }
  // The next finish_step() reports the first failure since the last.
  void fail(Status status);

 private:
  DeviceInfo info_;
  StepState steps_;
  Status failure_;
};

}  // namespace troupe::cpu
