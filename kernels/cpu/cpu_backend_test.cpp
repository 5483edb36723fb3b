// The CPU backend against the plain definitions, alone and with several threads.
#include "kernels/cpu/cpu_backend.hpp"

#include <fstream>

#include "kernels/ops_suite/gtest.hpp"

namespace troupe::cpu {
namespace {

Result<std::unique_ptr<Backend>> open_one() { return open_cpu_backend({.threads = 1}); }
Result<std::unique_ptr<Backend>> open_three() { return open_cpu_backend({.threads = 3}); }

TROUPE_OPS_SUITE(CpuOneThread, open_one);
TROUPE_OPS_SUITE(CpuThreeThreads, open_three);

TEST(CpuBackend, RefusesAbsurdThreadCounts) {
  EXPECT_EQ(open_cpu_backend({.threads = 0}).status().code(), Code::invalid);
  EXPECT_EQ(open_cpu_backend({.threads = 100000}).status().code(), Code::invalid);
}

TEST(CpuBackend, ReadsWeightsInPlace) {
  auto backend = open_one();
  ASSERT_TRUE(backend.ok());
  std::vector<uint16_t> file(64 * 32 + 1);
  LinearWeight weight;
  weight.in = 32;
  weight.out = 64;
  weight.parts.emplace_back().values = {file.data(), DType::f16, 64, 32, 32};
  std::vector<std::unique_ptr<DeviceBuffer>> arena;
  auto placed = (*backend)->place(weight, arena);
  ASSERT_TRUE(placed.ok());
  EXPECT_EQ(placed->parts[0].values.data, file.data());
  EXPECT_TRUE(arena.empty());
  // At an odd address it is copied, because a CPU of another kind could not read it.
  weight.parts[0].values.data = reinterpret_cast<std::byte*>(file.data()) + 1;
  placed = (*backend)->place(weight, arena);
  ASSERT_TRUE(placed.ok());
  EXPECT_NE(placed->parts[0].values.data, weight.parts[0].values.data);
  EXPECT_EQ(arena.size(), 1U);
}

TEST(CpuBackend, RefusesQuantisedWeightsByName) {
  auto backend = open_one();
  ASSERT_TRUE(backend.ok());
  std::vector<float> file(64);
  LinearWeight weight;
  weight.in = weight.out = 8;
  weight.parts.emplace_back().values = {file.data(), DType::f32, 8, 8, 8};
  weight.parts[0].format = WeightFormat::awq_u4;
  std::vector<std::unique_ptr<DeviceBuffer>> arena;
  const auto placed = (*backend)->place(weight, arena);
  ASSERT_FALSE(placed.ok());
  EXPECT_EQ(placed.status().code(), Code::unsupported);
  EXPECT_NE(placed.status().message().find("awq_u4"), std::string::npos);
}

// Bytes of this process that are in memory.
int64_t resident() {
  std::ifstream statm("/proc/self/statm");
  int64_t pages = 0, in_memory = 0;
  statm >> pages >> in_memory;
  return in_memory * 4096;
}

TEST(CpuBackend, TakesASmallCacheAtOnceAndALargeOneAsItFills) {
  auto backend = open_one();
  ASSERT_TRUE(backend.ok());
  constexpr int64_t kMiB = 1 << 20;
  KvCacheSpec spec;
  spec.dtype = DType::f32;
  spec.layers = 1;
  spec.kv_heads = 1;
  spec.key_dim = spec.value_dim = 512;  // with blocks of 16 tokens 64 KiB a block
  spec.block_tokens = 16;
  spec.blocks = 64 * 16;
  int64_t before = resident();
  const auto small = (*backend)->create_cache(spec);
  ASSERT_TRUE(small.ok());
  EXPECT_GE(resident() - before, 60 * kMiB);
  before = resident();
  spec.blocks = 1024 * 16;
  const auto large = (*backend)->create_cache(spec);
  ASSERT_TRUE(large.ok());
  EXPECT_LE(resident() - before, 16 * kMiB);
}

TEST(CpuBackend, RefusesPlansBeyondWhatWasReserved) {
  auto backend = open_one();
  ASSERT_TRUE(backend.ok());
  ASSERT_TRUE((*backend)->reserve_steps(2, 4, 2, 10).ok());
  StepPlanDraft draft;
  draft.sequences.push_back({.slot = 2, .row_begin = 0, .row_count = 1, .kv_len = 1});
  draft.token_ids = {1};
  draft.positions = {0};
  std::vector<std::byte> bytes;
  draft.seal(bytes);
  auto plan = PlanView::parse(bytes);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ((*backend)->begin_step(*plan, {}).status().code(), Code::invalid);
}

}  // namespace
}  // namespace troupe::cpu
