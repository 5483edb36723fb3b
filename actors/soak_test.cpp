// Start and stop, over and over: the spike that decides whether CAF 0.17.6 may be trusted with it.
// 200 rounds in ctest; --gtest_repeat=N for more. Watches threads, descriptors and memory.
#include <dirent.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "actors/local_port.hpp"
#include "actors/test_sinks.hpp"

namespace troupe::actors {
namespace {

size_t entries(const char* folder) {
  size_t count = 0;
  DIR* const dir = opendir(folder);
  while (readdir(dir) != nullptr) ++count;
  closedir(dir);
  return count;
}

int64_t resident_kib() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("VmRSS:")) return std::stoll(line.substr(6));
  }
  return 0;
}

void one_round(int round) {
  EngineOptions options;
  options.max_sequences = 8;
  auto port = open_local_port("echo:", options, {});
  ASSERT_TRUE(port.ok()) << port.status().message();
  auto sink = std::make_shared<Listener>();
  size_t accepted = 0;
  for (int i = 0; i < round % 5; ++i) {
    if ((*port)->submit(text_request("soak " + std::to_string(i), 16), sink).ok()) ++accepted;
  }
  // Some are closed while they run, some idle, some at once, some by their destructor alone.
  if (round % 3 == 0) {
    ASSERT_TRUE(sink->wait_for(accepted));
  }
  if (round % 4 != 0) {
    ASSERT_TRUE((*port)->close(round % 2 == 0 ? 0 : 1'000'000'000).ok());
  }
  *port = nullptr;
  EXPECT_EQ(sink->ended(), accepted);
}

TEST(Soak, TwoHundredEnginesStartAndStop) {
  // Until each of malloc's heaps has had an engine in it once: from there on only a leak grows.
  for (int i = 0; i < 200; ++i) one_round(i);
  const size_t descriptors = entries("/proc/self/fd");
  const int64_t memory = resident_kib();
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 200 && !HasFatalFailure(); ++i) one_round(i);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // joined threads leave /proc late
  RecordProperty("milliseconds_per_round", std::to_string(took.count() * 1000 / 200));
  RecordProperty("resident_growth_kib", std::to_string(resident_kib() - memory));
  EXPECT_EQ(entries("/proc/self/fd"), descriptors);
  EXPECT_LE(entries("/proc/self/task"), 3U + 1U) << "threads were left behind";
  EXPECT_LT(resident_kib() - memory, 8 * 1024) << "an engine leaks";
}

}  // namespace
}  // namespace troupe::actors
