// INV-WORKSPACE-1: a step stays within the workspace that reserve() took. Once warm, a forward pass
// allocates nothing on the host either, neither the loop over layers nor the CPU's ops, whatever the
// family and the shape of the batch.
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

class Allocations : public ::testing::TestWithParam<const char*> {};

TEST_P(Allocations, NoneInAWarmForwardPass) {
  auto backend = std::move(cpu::open_cpu_backend({.threads = 2})).value();
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
