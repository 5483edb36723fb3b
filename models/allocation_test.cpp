// INV-WORKSPACE-1: a step stays within the workspace that reserve() took. Once warm, the loop over
// layers allocates nothing on the host either, whatever the family and the shape of the batch. What
// the ops do is their room's affair: counting pauses while one runs.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "kernels/cpu/cpu_backend.hpp"
#include "models/test_runner.hpp"

namespace {
std::atomic<bool> g_counting{false};
std::atomic<long> g_allocations{0};
}  // namespace

[[gnu::noinline]] void* operator new(size_t bytes) {
  if (g_counting) ++g_allocations;
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept {
  std::free(p);
}

namespace troupe::models::testing {
namespace {

struct Pause {
  Pause() { g_counting = false; }
  ~Pause() { g_counting = true; }
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;
};

class PausingBackend final : public Backend {
 public:
  explicit PausingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}
  using Arena = std::vector<std::unique_ptr<DeviceBuffer>>;
  const DeviceInfo& info() const override { return inner_->info(); }
  DType activation_dtype(DType t) const override { return inner_->activation_dtype(t); }
  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t n, std::string_view what) override {
    return inner_->allocate(n, what);
  }
  Status upload(void* to, const void* from, size_t n) override {
    return inner_->upload(to, from, n);
  }
  Status download(void* to, const void* from, size_t n) override {
    return inner_->download(to, from, n);
  }
  Result<LinearWeight> place(const LinearWeight& w, Arena& arena) override {
    return inner_->place(w, arena);
  }
  Result<Matrix> place(const Matrix& m, Arena& arena) override { return inner_->place(m, arena); }
  Result<std::unique_ptr<KvCache>> create_cache(const KvCacheSpec& s) override {
    return inner_->create_cache(s);
  }
  size_t cache_block_bytes(const KvCacheSpec& s) const override {
    return inner_->cache_block_bytes(s);
  }
  Status reserve_steps(int32_t a, int32_t b, int32_t c, int32_t d) override {
    return inner_->reserve_steps(a, b, c, d);
  }
  Result<Batch> begin_step(const PlanView& p, std::span<KvCache* const> c) override {
    return inner_->begin_step(p, c);
  }
  void sample(const Batch& b, const SampleArgs& a) override { inner_->sample(b, a); }
  Result<StepResult> finish_step(const Batch& b) override { return inner_->finish_step(b); }
  Status synchronize() override { return inner_->synchronize(); }

  void embed(const Batch& b, const EmbedArgs& a) override {
    Pause p;
    inner_->embed(b, a);
  }
  void inject(const Batch& b, const InjectArgs& a) override {
    Pause p;
    inner_->inject(b, a);
  }
  void norm(const NormArgs& a) override {
    Pause p;
    inner_->norm(a);
  }
  void add(const AddArgs& a) override {
    Pause p;
    inner_->add(a);
  }
  void scale_columns(const ScaleColumnsArgs& a) override {
    Pause p;
    inner_->scale_columns(a);
  }
  void mix_rows(const MixRowsArgs& a) override {
    Pause p;
    inner_->mix_rows(a);
  }
  void linear(const Batch& b, const LinearArgs& a) override {
    Pause p;
    inner_->linear(b, a);
  }
  void head_linear(const HeadLinearArgs& a) override {
    Pause p;
    inner_->head_linear(a);
  }
  void rope_write(const Batch& b, const RopeWriteArgs& a) override {
    Pause p;
    inner_->rope_write(b, a);
  }
  void attention(const Batch& b, const AttentionArgs& a) override {
    Pause p;
    inner_->attention(b, a);
  }
  void cross_write(const Batch& b, const CrossWriteArgs& a) override {
    Pause p;
    inner_->cross_write(b, a);
  }
  void packed_attention(const PackedAttentionArgs& a) override {
    Pause p;
    inner_->packed_attention(a);
  }
  void gated_activation(const ActivationArgs& a) override {
    Pause p;
    inner_->gated_activation(a);
  }
  void activation(const ActivationArgs& a) override {
    Pause p;
    inner_->activation(a);
  }
  void experts(const Batch& b, const ExpertsArgs& a) override {
    Pause p;
    inner_->experts(b, a);
  }
  void gather(const Batch& b, const GatherArgs& a) override {
    Pause p;
    inner_->gather(b, a);
  }

 private:
  std::unique_ptr<Backend> inner_;
};

class Allocations : public ::testing::TestWithParam<const char*> {};

TEST_P(Allocations, NoneInAWarmForwardPass) {
  auto backend = std::make_unique<PausingBackend>(std::move(cpu::open_cpu_backend({})).value());
  LoadOptions options;
  const auto folder = ModelFolder::open(std::string("tests/golden/models/") + GetParam(), options);
  ASSERT_TRUE(folder.ok()) << folder.status().message();
  auto runner = std::move(Runner::open(*folder, *backend, nullptr, options)).value();
  runner->around_forward([] { g_counting = true; }, [] { g_counting = false; });
  const auto run = [&] {
    for (const int32_t sequence : {0, 1, 2}) runner->forget(sequence);
    const std::vector<int32_t> prompt = {3, 4, 5, 6, 7, 8, 9};
    ASSERT_TRUE(
        runner
            ->step(
                {{.sequence = 0,
                  .prompt_len = 7,
                  .tokens = prompt,
                  .targets = prompt,
                  .modality = {}},
                 {.sequence = 1, .prompt_len = 7, .tokens = prompt, .targets = {}, .modality = {}}})
            .ok());
    for (int32_t token = 10; token < 14; ++token) {
      ASSERT_TRUE(runner
                      ->step({{.sequence = 0,
                               .prompt_len = 7,
                               .tokens = {token},
                               .targets = {token},
                               .modality = {}},
                              {.sequence = 1,
                               .prompt_len = 7,
                               .tokens = {token},
                               .targets = {token},
                               .modality = {}}})
                      .ok());
    }
  };
  run();
  g_allocations = 0;
  run();
  EXPECT_EQ(g_allocations, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, Allocations,
                         ::testing::Values("llama3", "gemma2", "bloom", "neox-parallel",
                                           "qwen2-moe", "deepseek-v2"),
                         [](const auto& model) {
                           std::string name = model.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace troupe::models::testing
