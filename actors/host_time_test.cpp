// What the executor's clock counts as the host's: not the waits for a device, and recordings apart.
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

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

// A device whose steps it waits for, whose first ones it records, and for which it works a little.
class SlowDevice final : public engine::StepExecutor {
 public:
  explicit SlowDevice(std::unique_ptr<StepExecutor> device) : device_(std::move(device)) {}
  Status forward(std::span<const std::byte> plan) override {
    if (recordings_ < kRecordings) {
      ++recordings_;
      recorded_ns_ += spend(kRecordingNs);
    }
    spend(kWorkNs);
    return device_->forward(plan);
  }
  Status sample(std::span<const uint32_t> mask) override { return device_->sample(mask); }
  Result<StepResult> collect() override {
    waited_ns_ += spend(kWaitNs);
    return device_->collect();
  }
  [[nodiscard]] int64_t waited_ns() const override { return waited_ns_; }
  [[nodiscard]] int64_t recorded_ns() const override { return recorded_ns_; }
  Status put_embedding(uint64_t, const Matrix&) override { return {}; }
  void drop_embedding(uint64_t) override {}

 private:
  static int64_t spend(int64_t ns) {
    const int64_t begin = steady_now_ns();
    std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
    return steady_now_ns() - begin;
  }
  const std::unique_ptr<StepExecutor> device_;
  int recordings_ = 0;
  int64_t waited_ns_ = 0, recorded_ns_ = 0;
};

TEST(HostTime, IsNeitherWaitingNorRecording) {
  EngineOptions options;
  options.max_sequences = 2;
  CastParts parts = echo_parts({}, options);
  parts.open_device = [open = parts.open_device](
                          int32_t generation) -> Result<std::unique_ptr<engine::StepExecutor>> {
    TR_ASSIGN(auto device, open(generation));
    return std::unique_ptr<engine::StepExecutor>(std::make_unique<SlowDevice>(std::move(device)));
  };
  auto cast = Cast::open(std::move(parts));
  ASSERT_TRUE(cast.ok()) << cast.status().message();
  auto sink = std::make_shared<Listener>();
  ASSERT_TRUE((*cast)->submit(text_request(std::string(kTokens, 'x'), kTokens), sink).ok());
  ASSERT_TRUE(sink->wait_for(1));
  ASSERT_TRUE((*cast)->close(0).ok());
  EXPECT_GE((*cast)->executor_recording_ns(), kRecordings * kRecordingNs);
  EXPECT_GE((*cast)->executor_host_ns(), (kTokens - 1) * kWorkNs);
  // Had it counted either of them, it would be more: the waits alone take so long.
  EXPECT_LT((*cast)->executor_host_ns(), (kTokens - 1) * kWaitNs);
}

}  // namespace
}  // namespace troupe::actors
