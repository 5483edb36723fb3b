// ExecutorCore: one model on one device, step by step. Turns a plan's bytes into the model's forward
// pass and the sampler, and keeps the embeddings that plans refer to.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/executor.hpp"
#include "engine/slot_tables.hpp"
#include "kernels/backend.hpp"
#include "models/model.hpp"

namespace troupe::engine {

struct ExecutorOptions {
  int32_t slots = 0;
  int32_t rows_max = 0;        // of one step
  int32_t logit_rows_max = 0;
};

class ExecutorCore final : public StepExecutor {
 public:
  // Creates the caches of `groups` (cache.blocks set by the memory plan) and reserves everything
  // that steps need: afterwards no step allocates device memory.
  static Result<std::unique_ptr<ExecutorCore>> open(Backend& backend, models::Model& model,
                                                    const std::vector<models::CacheGroup>& groups,
                                                    const ExecutorOptions& options);

  Status forward(std::span<const std::byte> plan) override;
  Status sample(std::span<const uint32_t> grammar_mask) override;
  Result<StepResult> collect() override;
  void reuse(StepResult&& read) override { backend_.reuse(std::move(read)); }
  [[nodiscard]] std::vector<MemoryShare> memory() const override;
  [[nodiscard]] int64_t waited_ns() const override;
  [[nodiscard]] int64_t recorded_ns() const override;
  Status put_embedding(uint64_t id, const Matrix& rows) override;
  void drop_embedding(uint64_t id) override;

 private:
  struct Flight {
    Batch batch;
    Matrix logits;
    bool sampled = false;
    bool repeats = false;  // its drawing is under way as well
  };

  ExecutorCore(Backend& backend, models::Model& model, int32_t groups, int32_t block_tokens,
               int32_t slots)
      : backend_(backend), model_(model), tables_(slots, groups, block_tokens) {}
  Status find_injects(const PlanView& plan);
  [[nodiscard]] Result<Matrix> embedding(uint64_t id, int32_t rows) const;
  Status encode(const Batch& batch);
  Result<Matrix> encoder_rows(const PlanSequence& sequence, std::span<const PlanEncode> parts);

  Backend& backend_;
  models::Model& model_;
  SlotTables tables_;
  std::vector<std::unique_ptr<KvCache>> caches_;
  std::vector<KvCache*> cache_views_;
  const DeviceAccount* account_ = nullptr;  // of the backend, if it keeps one
  std::vector<Flight> flights_;  // oldest first; two at most
  std::vector<Matrix> injects_;
  std::unordered_map<uint64_t, Matrix> embeddings_;
  std::unique_ptr<DeviceBuffer> encoder_rows_;  // of several pictures, one below the other
};

}  // namespace troupe::engine
