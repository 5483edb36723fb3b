// What the executor's clock counts as the host's: not the waits for a device, and recordings apart. And
// that it leaves a core on which that takes long.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "actors/cast.hpp"
#include "actors/cast_parts.hpp"
#include "actors/echo_house.hpp"
#include "actors/test_sinks.hpp"
#include "engine/echo.hpp"
#include "engine/executor.hpp"

namespace troupe::actors {
namespace {

constexpr int kTokens = 40, kRecordings = 5;
constexpr int64_t kWaitNs = 3'000'000, kRecordingNs = 20'000'000, kWorkNs = 500'000;

// What a step takes of the executor's thread.
struct Costs {
  int recordings = 0;  // so many steps begin with one
  int64_t recording_ns = 0, wait_ns = 0;
  std::function<int64_t()> work_ns;
};

// A device whose steps it waits for, some of which it records, and for which it works a little.
class SlowDevice final : public engine::StepExecutor {
 public:
  SlowDevice(std::unique_ptr<StepExecutor> device, Costs costs)
      : device_(std::move(device)), costs_(std::move(costs)) {}
  Status forward(std::span<const std::byte> plan) override {
    if (recordings_ < costs_.recordings) {
      ++recordings_;
      recorded_ns_ += spend(costs_.recording_ns);
    }
    spend(costs_.work_ns());
    return device_->forward(plan);
  }
  Status sample(std::span<const uint32_t> mask) override { return device_->sample(mask); }
  Result<StepResult> collect() override {
    waited_ns_ += spend(costs_.wait_ns);
    return device_->collect();
  }
  [[nodiscard]] int64_t waited_ns() const override { return waited_ns_; }
  [[nodiscard]] int64_t recorded_ns() const override { return recorded_ns_; }
  Status put_embedding(uint64_t, const Matrix&) override { return {}; }
  void drop_embedding(uint64_t) override {}

 private:
  static int64_t spend(int64_t ns) {
    const int64_t begin = steady_now_ns();
    if (ns > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
    return steady_now_ns() - begin;
  }
  const std::unique_ptr<StepExecutor> device_;
  const Costs costs_;
  int recordings_ = 0;
  int64_t waited_ns_ = 0, recorded_ns_ = 0;
};

// A cast that has said so many tokens and is closed.
std::unique_ptr<Cast> cast_after(int tokens, const Costs& costs, std::shared_ptr<Cores> cores) {
  EngineOptions options;
  options.max_sequences = 2;
  CastParts parts = echo_parts({}, options);
  parts.cores = std::move(cores);
  parts.open_device = [open = parts.open_device, costs](
                          int32_t generation) -> Result<std::unique_ptr<engine::StepExecutor>> {
    TR_ASSIGN(auto device, open(generation));
    return std::unique_ptr<engine::StepExecutor>(
        std::make_unique<SlowDevice>(std::move(device), costs));
  };
  auto cast = Cast::open(std::move(parts));
  EXPECT_TRUE(cast.ok()) << cast.status().message();
  auto sink = std::make_shared<Listener>();
  const std::string text(static_cast<size_t>(tokens), 'x');
  EXPECT_TRUE((*cast)->submit(text_request(text, tokens), sink).ok());
  EXPECT_TRUE(sink->wait_for(1));
  EXPECT_TRUE((*cast)->close(0).ok());
  return std::move(cast).value();
}

TEST(HostTime, IsNeitherWaitingNorRecording) {
  const auto cast =
      cast_after(kTokens, {kRecordings, kRecordingNs, kWaitNs, [] { return kWorkNs; }}, nullptr);
  EXPECT_EQ(cast->executor_moves(), 0U);
  EXPECT_GE(cast->executor_recording_ns(), kRecordings * kRecordingNs);
  EXPECT_GE(cast->executor_host_ns(), (kTokens - 1) * kWorkNs);
  // Had it counted either of them, it would be more: the waits alone take so long.
  EXPECT_LT(cast->executor_host_ns(), (kTokens - 1) * kWaitNs);
}

// Three cores, of which the first is slow; those that the executor went to.
class PretendCores final : public Cores {
 public:
  [[nodiscard]] int32_t now() const override { return core_; }
  [[nodiscard]] std::vector<int32_t> others() override {
    return core_ == 0 ? std::vector<int32_t>{1, 2} : std::vector<int32_t>{3 - core_, 0};
  }
  bool go(int32_t core) override {
    core_ = core;
    ++visits;
    return true;
  }
  [[nodiscard]] int64_t work_ns() const { return core_ == 0 ? kWorkNs : 0; }
  uint64_t visits = 0;

 private:
  int32_t core_ = 0;
};

TEST(SlowCore, IsLeftForABetterOne) {
  const auto cores = std::make_shared<PretendCores>();
  // Enough for a round, too few for a second one, which might be on its way when all is said.
  const auto cast = cast_after(180, {.work_ns = [cores] { return cores->work_ns(); }}, cores);
  EXPECT_NE(cores->now(), 0);
  EXPECT_GE(cores->visits, 1U);
  EXPECT_EQ(cast->executor_moves(), cores->visits);
}

TEST(SlowCore, IsNotOneWhereStepsAreRecorded) {
  const auto cores = std::make_shared<PretendCores>();
  const auto work = [cores] { return cores->work_ns(); };
  cast_after(200, {.recordings = 1000, .recording_ns = 1, .work_ns = work}, cores);
  EXPECT_EQ(cores->visits, 0U);
}

}  // namespace
}  // namespace troupe::actors
