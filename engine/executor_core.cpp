#include "engine/executor_core.hpp"

#include <string>
#include <utility>

namespace troupe::engine {
namespace {

constexpr size_t kFlightsMax = 2;

}  // namespace

Result<std::unique_ptr<ExecutorCore>> ExecutorCore::open(
    Backend& backend, models::Model& model, const std::vector<models::CacheGroup>& groups,
    const ExecutorOptions& options) {
  const int32_t block_tokens = groups.empty() ? 1 : groups.front().cache.block_tokens;
  std::unique_ptr<ExecutorCore> core(new ExecutorCore(
      backend, model, static_cast<int32_t>(groups.size()), block_tokens, options.slots));
  core->account_ = dynamic_cast<const DeviceAccount*>(&backend);
  for (const models::CacheGroup& group : groups) {
    TR_ASSIGN(std::unique_ptr<KvCache> cache, backend.create_cache(group.cache));
    core->cache_views_.push_back(cache.get());
    core->caches_.push_back(std::move(cache));
  }
  TR_TRY(backend.reserve_steps(options.slots, options.rows_max, options.logit_rows_max,
                               model.facts().vocab));
  TR_TRY(model.reserve(options.rows_max, options.logit_rows_max));
  return core;
}

Status ExecutorCore::find_injects(const PlanView& plan) {
  injects_.clear();
  for (const PlanInject& inject : plan.injects()) {
    TR_ASSIGN(const Matrix rows, embedding(inject.id, inject.source_row + inject.count));
    injects_.push_back(rows);
  }
  return ok_status();
}

Result<Matrix> ExecutorCore::embedding(uint64_t id, int32_t rows) const {
  const auto it = embeddings_.find(id);
  if (it != embeddings_.end() && rows <= it->second.rows) return it->second;
  return internal_error("step plan: embedding " + std::to_string(id) +
                        (it == embeddings_.end() ? " is not on this device" : " has fewer rows"));
}

// Encoder rows go into the cache once per sequence, all of its pictures' together.
Status ExecutorCore::encode(const Batch& batch) {
  const auto encodes = batch.plan.encodes();
  for (size_t i = 0; i < encodes.size();) {
    size_t end = i + 1;
    while (end < encodes.size() && encodes[end].sequence == encodes[i].sequence) ++end;
    const int32_t index = encodes[i].sequence;
    TR_ASSIGN(const Matrix states, encoder_rows(batch.plan.sequences()[static_cast<size_t>(index)],
                                                encodes.subspan(i, end - i)));
    model_.encode(batch, cache_views_, index, states);
    i = end;
  }
  return ok_status();
}

Result<Matrix> ExecutorCore::encoder_rows(const PlanSequence& sequence,
                                          std::span<const PlanEncode> parts) {
  TR_ASSIGN(const Matrix first, embedding(parts.front().id, parts.front().count));
  if (parts.size() == 1) return first;
  const size_t width = static_cast<size_t>(first.cols) * dtype_bytes(first.dtype);
  const size_t bytes = static_cast<size_t>(sequence.cross_len) * width;
  if (encoder_rows_ == nullptr || encoder_rows_->bytes() < bytes) {
    TR_ASSIGN(encoder_rows_, backend_.allocate(bytes, "encoder rows"));
  }
  const Matrix all{encoder_rows_->data(), first.dtype, sequence.cross_len, first.cols, first.cols};
  for (const PlanEncode& part : parts) {
    TR_ASSIGN(const Matrix rows, embedding(part.id, part.count));
    Matrix to = all;
    to.data = static_cast<std::byte*>(all.data) + static_cast<size_t>(part.row) * width;
    to.rows = part.count;
    backend_.add({.input = rows.first_rows(part.count), .addend = {}, .scale = 1.0F, .output = to});
  }
  return all;
}

Status ExecutorCore::forward(std::span<const std::byte> bytes) {
  TR_ASSERT(flights_.size() < kFlightsMax);
  Flight flight;
  TR_TRY(tables_.take(bytes));
  const PlanView* const repeated = tables_.repeated();
  flight.repeats = repeated != nullptr && backend_.repeat_step(*repeated, cache_views_, flight.batch);
  if (flight.repeats) {
    flights_.push_back(flight);
    return ok_status();
  }
  const PlanView& plan = tables_.complete();
  TR_TRY(find_injects(plan));
  TR_ASSIGN(flight.batch, backend_.begin_step(plan, cache_views_));
  TR_TRY(encode(flight.batch));
  // Passes that come again and again are recorded by the model itself.
  flight.logits = model_.forward(flight.batch, cache_views_, injects_);
  flights_.push_back(flight);
  return ok_status();
}

Status ExecutorCore::sample(std::span<const uint32_t> grammar_mask) {
  if (flights_.empty() || flights_.back().sampled) return internal_error("sample: no step to sample");
  Flight& flight = flights_.back();
  flight.sampled = true;
  if (flight.repeats || flight.batch.plan.logit_rows().empty()) return ok_status();
  SampleArgs args = model_.sampling(flight.logits);
  args.grammar_mask = grammar_mask;
  backend_.sample(flight.batch, args);
  return ok_status();
}

Result<StepResult> ExecutorCore::collect() {
  if (flights_.empty() || !flights_.front().sampled) return internal_error("collect: no step is under way");
  Result<StepResult> result = backend_.finish_step(flights_.front().batch);
  flights_.erase(flights_.begin());
  return result;
}

std::vector<MemoryShare> ExecutorCore::memory() const {
  return account_ == nullptr ? std::vector<MemoryShare>() : account_->memory_shares();
}

int64_t ExecutorCore::waited_ns() const { return account_ == nullptr ? 0 : account_->waited_ns(); }
int64_t ExecutorCore::recorded_ns() const { return account_ == nullptr ? 0 : account_->recorded_ns(); }

Status ExecutorCore::put_embedding(uint64_t id, const Matrix& rows) {
  if (!embeddings_.emplace(id, rows).second) {
    return internal_error("embedding " + std::to_string(id) + " is there already");
  }
  return ok_status();
}

void ExecutorCore::drop_embedding(uint64_t id) { embeddings_.erase(id); }

}  // namespace troupe::engine
