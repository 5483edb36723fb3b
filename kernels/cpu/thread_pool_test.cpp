#include "kernels/cpu/thread_pool.hpp"

#include <gtest/gtest.h>
#include <time.h>

#include <chrono>
#include <numeric>
#include <thread>

namespace troupe::cpu {
namespace {

TEST(ThreadPool, RunsEveryChunkOnce) {
  ThreadPool pool(4, {});
  EXPECT_EQ(pool.threads(), 4);
  for (int64_t chunks : {0, 1, 2, 3, 7, 100, 5000}) {
    std::vector<std::atomic<int>> hits(static_cast<size_t>(chunks));
    pool.run(chunks, [&](int32_t chunk, int32_t thread) {
      EXPECT_TRUE(thread >= 0 && thread < 4);
      hits[static_cast<size_t>(chunk)].fetch_add(1);
    });
    for (auto& h : hits) EXPECT_EQ(h.load(), 1);
  }
}

TEST(ThreadPool, ManySmallJobsInARow) {
  ThreadPool pool(3, {});
  std::vector<int64_t> parts(64);
  for (int64_t job = 0; job < 20000; ++job) {
    const int64_t chunks = 2 + job % 7;
    pool.run(chunks, [&](int32_t chunk, int32_t) { parts[static_cast<size_t>(chunk)] = job + chunk; });
    int64_t sum = 0;  // plain memory: what the chunks wrote is visible here
    for (int64_t c = 0; c < chunks; ++c) sum += parts[static_cast<size_t>(c)];
    ASSERT_EQ(sum, chunks * job + chunks * (chunks - 1) / 2);
  }
}

TEST(ThreadPool, RangesCoverExactly) {
  ThreadPool pool(2, {});
  for (int64_t count : {0, 1, 5, 1000, 100003}) {
    std::atomic<int64_t> sum{0};
    pool.for_range(count, 16, [&](int64_t begin, int64_t end, int32_t) {
      int64_t local = 0;
      for (int64_t i = begin; i < end; ++i) local += i;
      sum.fetch_add(local);
    });
    EXPECT_EQ(sum.load(), count * (count - 1) / 2);
  }
}

// CPU time of the whole process, in seconds.
double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

TEST(ThreadPool, IdleThreadsUseNoCpu) {
  ThreadPool pool(4, {});
  pool.run(16, [](int32_t, int32_t) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // they spin a moment, then park
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(cpu_seconds() - before, 0.01);
  std::atomic<int> hits{0};
  pool.run(16, [&](int32_t, int32_t) { hits.fetch_add(1); });  // and wake again
  EXPECT_EQ(hits.load(), 16);
}

}  // namespace
}  // namespace troupe::cpu
