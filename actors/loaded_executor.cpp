#include "actors/loaded_executor.hpp"

#include <algorithm>
#include <utility>

#include "actors/port_text.hpp"
#include "base/limits.hpp"
#include "engine/executor_core.hpp"
#include "engine/step_defaults.hpp"
#include "kernels/packed_weights.hpp"

namespace troupe::actors {
namespace {

constexpr int32_t kSpanRows = 1024;
constexpr int32_t kScoreRows = 256;  // logit rows beside those of the running sequences
constexpr int64_t kDeviceSharePercent = 90;
constexpr int64_t kHostSharePercent = 50;  // other programs live there too

class LoadedExecutor final : public engine::StepExecutor {
 public:
  LoadedExecutor(std::unique_ptr<Backend> backend, std::unique_ptr<models::Model> model,
                 std::unique_ptr<engine::ExecutorCore> core, int64_t cache_bytes)
      : backend_(std::move(backend)),
        model_(std::move(model)),
        core_(std::move(core)),
        cache_bytes_(cache_bytes) {}

  Status forward(std::span<const std::byte> plan) override { return core_->forward(plan); }
  Status sample(std::span<const uint32_t> mask) override { return core_->sample(mask); }
  Result<StepResult> collect() override { return core_->collect(); }
  void reuse(StepResult&& read) override { core_->reuse(std::move(read)); }
  // What a backend has allocated is told apart here.
  [[nodiscard]] std::vector<MemoryShare> memory() const override {
    std::vector<MemoryShare> shares = core_->memory();
    const auto whole = std::find_if(shares.begin(), shares.end(),
                                    [](const MemoryShare& s) { return s.what == "allocated"; });
    if (whole == shares.end()) return shares;
    const int64_t allocated = whole->bytes, weights = model_->facts().weight_bytes;
    *whole = {"weights", weights};
    shares.push_back({"cache", cache_bytes_});
    shares.push_back({"workspace", allocated - weights - cache_bytes_});
    return shares;
  }
  [[nodiscard]] int64_t waited_ns() const override { return core_->waited_ns(); }
  [[nodiscard]] int64_t recorded_ns() const override { return core_->recorded_ns(); }
  Status put_embedding(uint64_t id, const Matrix& rows) override {
    return core_->put_embedding(id, rows);
  }
  void drop_embedding(uint64_t id) override { core_->drop_embedding(id); }

 private:
  const std::unique_ptr<Backend> backend_;  // outlives what lies on it
  const std::unique_ptr<models::Model> model_;
  const std::unique_ptr<engine::ExecutorCore> core_;
  const int64_t cache_bytes_;
};

// A cache fills with what might be asked again until it is full. In a process that shares its
// machine's memory with others, twice the weights is a cache, and all that is free would be greed.
constexpr int64_t kHostCacheLeast = int64_t{256} << 20;
constexpr int64_t kHostCacheWeights = 2;

engine::SchedulerConfig device_scheduler(const LoadRequest& request) {
  const EngineOptions& options = request.options;
  engine::SchedulerConfig config = scheduler_config(request.folder->facts(), options);
  const engine::StepDefaults& defaults =
      request.device.cpu() ? engine::kHostSteps : engine::kDeviceSteps;
  config.step_rows =
      options.max_step_tokens > 0 ? options.max_step_tokens : defaults.step_rows;
  config.step_rows = std::min(std::max(config.step_rows, config.slots), limits::step_rows);
  config.logit_rows = config.slots + kScoreRows;
  config.long_step_rows = defaults.long_step_rows;
  // Pictures come one by one as they are encoded: their rows would seldom be a crowd.
  if (request.eyes == nullptr && options.max_step_tokens == 0)
    config.prompt_rows_beside = defaults.prompt_rows_beside;
  if (request.eyes == nullptr) return config;
  // Rows that attend both ways are read in one step, however many sequences decode beside them.
  const bool spans = request.eyes->folder->rules().sight == vision::Sight::bidirectional;
  if (spans && options.max_step_tokens == 0) {
    config.step_rows = std::max(config.step_rows, config.slots + kSpanRows);
    config.logit_rows = std::max(config.logit_rows, config.slots + kSpanRows);
  }
  config.session_embedding_bytes = request.vision.embedding_bytes / 4;
  return config;
}

engine::MemoryRequest memory_request(const LoadRequest& request,
                                     const engine::SchedulerConfig& config, const Backend& backend,
                                     const models::ModelFacts& facts) {
  engine::MemoryRequest memory;
  const auto free = static_cast<int64_t>(backend.info().memory_free);
  const int64_t share = request.device.cpu() ? kHostSharePercent : kDeviceSharePercent;
  memory.budget_bytes = free / 100 * share;
  memory.weight_bytes = facts.weight_bytes;
  memory.kv_bytes = request.options.kv_bytes;
  if (request.device.cpu()) {
    memory.kv_bytes_most = std::max(kHostCacheLeast, kHostCacheWeights * facts.weight_bytes);
  }
  if (request.eyes != nullptr) memory.vision_bytes = request.vision.total();
  memory.max_sequences = config.slots;
  memory.context_length = config.context_length;
  memory.step_rows = config.step_rows;
  memory.groups = facts.groups;
  for (const models::CacheGroup& group : memory.groups) {
    memory.block_bytes.push_back(static_cast<int64_t>(backend.cache_block_bytes(group.cache)));
  }
  return memory;
}

// What comes after the backend's own: the model's steps, and eyes on the same device.
void say_what_copies_leave(Backend& backend, const LoadRequest& request, const models::Model& model,
                           const engine::SchedulerConfig& config) {
  auto* const copies = dynamic_cast<PackedWeights*>(&backend);
  if (copies == nullptr) return;
  if (!request.options.packed_weights) copies->keep_weights_plain();
  const auto eyes = static_cast<size_t>(request.eyes == nullptr ? 0 : request.vision.total());
  copies->leave_free(model.workspace_bytes(config.step_rows, config.logit_rows) + eyes);
}

}  // namespace

models::LoadOptions load_options(const EngineOptions& options) {
  models::LoadOptions load;
  load.format = options.load_format == "dummy" ? models::LoadFormat::dummy : models::LoadFormat::files;
  load.dtype = options.dtype;
  load.kv_dtype = options.kv_dtype;
  load.block_tokens = options.block_tokens;
  load.context_length = options.context_length;
  load.seed = options.seed;
  return load;
}

Result<engine::MemoryPlan> estimate_memory(const LoadRequest& request, Backend& backend,
                                           const models::ModelFacts& facts) {
  return engine::plan_memory(memory_request(request, device_scheduler(request), backend, facts));
}

Result<std::unique_ptr<engine::StepExecutor>> load_executor(const LoadRequest& request,
                                                            std::shared_ptr<LoadedPlan>& known) {
  TR_ASSIGN(auto backend, open_backend(request.device, request.threads));
  if (request.options.deterministic) backend->keep_rows_independent();
  TR_ASSIGN(auto model, models::Model::load(request.folder, *backend, nullptr, request.load));
  if (known == nullptr) {
    auto made = std::make_shared<LoadedPlan>();
    made->scheduler = device_scheduler(request);
    engine::MemoryRequest memory =
        memory_request(request, made->scheduler, *backend, model->facts());
    // A device's weights are there already: what is free is free beside them.
    if (!request.device.cpu()) memory.budget_bytes += memory.weight_bytes;
    memory.workspace_bytes = static_cast<int64_t>(
        model->workspace_bytes(made->scheduler.step_rows, made->scheduler.logit_rows));
    TR_ASSIGN(made->memory, engine::plan_memory(memory));
    made->scheduler.groups = made->memory.groups;
    made->scheduler.context_length = made->memory.context_length;
    made->device = backend->info();
    known = std::move(made);
  }
  say_what_copies_leave(*backend, request, *model, known->scheduler);
  engine::ExecutorOptions options;
  options.slots = known->scheduler.slots;
  options.rows_max = known->scheduler.step_rows;
  options.logit_rows_max = known->scheduler.logit_rows;
  TR_ASSIGN(auto core,
            engine::ExecutorCore::open(*backend, *model, known->scheduler.groups, options));
  return std::unique_ptr<engine::StepExecutor>(std::make_unique<LoadedExecutor>(
      std::move(backend), std::move(model), std::move(core), known->memory.kv_bytes));
}

}  // namespace troupe::actors
