#include "base/thread_plan.hpp"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <array>
#include <set>
#include <thread>

#include "base/fake_root.hpp"

namespace troupe {
namespace {

CpuBudget budget_of(int32_t cores, double quota = 0.0) {
  CpuBudget budget;
  for (int32_t i = 0; i < cores; ++i) budget.cores.push_back(i);
  budget.quota = quota;
  return budget;
}

TEST(CpuBudget, ReadsVersionTwoOfOwnGroupAndItsParents) {
  FakeRoot root;
  root.write("proc/self/cgroup", "0::/box/inner\n");
  root.write("sys/fs/cgroup/box/inner/cpu.max", "max 100000\n");
  root.write("sys/fs/cgroup/box/cpu.max", "250000 100000\n");
  const CpuBudget budget = read_cpu_budget(root.path());
  EXPECT_DOUBLE_EQ(budget.quota, 2.5);
  EXPECT_NE(budget.quota_origin.find("/box/cpu.max"), std::string::npos);
}

TEST(CpuBudget, ReadsVersionOneBesideOtherControllers) {
  FakeRoot root;
  root.write("proc/self/cgroup", "7:memory:/job\n3:cpu,cpuacct:/job\n0::/\n");
  root.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n");
  root.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(read_cpu_budget(root.path()).quota, 3.0);
}

TEST(CpuBudget, MinusOneAndMissingAndNonsenseMeanNoQuota) {
  FakeRoot root;
  EXPECT_DOUBLE_EQ(read_cpu_budget(root.path()).quota, 0.0);
  root.write("proc/self/cgroup", "1:cpu:/\nnonsense\n0::/x\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  root.write("sys/fs/cgroup/x/cpu.max", "lots of it\n");
  EXPECT_DOUBLE_EQ(read_cpu_budget(root.path()).quota, 0.0);
}

TEST(CpuBudget, QuotaBoundsWhatComputes) {
  EXPECT_EQ(budget_of(8).usable(), 8);
  EXPECT_EQ(budget_of(8, 2.0).usable(), 2);
  EXPECT_EQ(budget_of(8, 0.2).usable(), 1);
  EXPECT_EQ(budget_of(2, 16.0).usable(), 2);
}

TEST(ThreadPlan, EveryThreadHasANameOfItsOwnThatFits) {
  ThreadNeeds needs;
  needs.devices = 3;
  const ThreadPlan plan = make_thread_plan(budget_of(16), needs);
  std::set<std::string> names;
  for (const PlannedThread& t : plan.threads) {
    EXPECT_LE(t.name.size(), 15U);
    EXPECT_TRUE(names.insert(t.name).second) << t.name;
    EXPECT_EQ(t.core, -1);
  }
  EXPECT_EQ(plan.count(ThreadOwner::executor), 3);
  EXPECT_EQ(plan.compute_threads(0), 5);
  EXPECT_NE(plan.table().find("tr-exec-2"), std::string::npos);
}

TEST(ThreadPlan, AGraphicsCardNeedsNoComputeThreads) {
  ThreadNeeds needs;
  needs.cpu_devices = false;
  const ThreadPlan plan = make_thread_plan(budget_of(16), needs);
  EXPECT_EQ(plan.compute_threads(0), 1);
}

TEST(ThreadPlan, PinnedThreadsNeverShareACore) {
  ThreadNeeds needs;
  needs.devices = 2;
  needs.pin = true;
  const ThreadPlan plan = make_thread_plan(budget_of(4), needs);
  std::set<int32_t> cores;
  for (const PlannedThread& t : plan.threads) {
    EXPECT_TRUE(t.core < 0 || cores.insert(t.core).second) << t.name;
  }
  EXPECT_EQ(cores.size(), 4U);
}

TEST(ThreadPlan, EnteringNamesThePinnedThread) {
  const int32_t core = read_cpu_budget().cores.front();
  std::array<char, 16> name{};
  int32_t cores = 0;
  std::thread([&] {
    enter_thread({"tr-test-0", ThreadOwner::compute, 0, core});
    pthread_getname_np(pthread_self(), name.data(), name.size());
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    cores = CPU_COUNT(&set);
  }).join();
  EXPECT_STREQ(name.data(), "tr-test-0");
  EXPECT_EQ(cores, 1);
}

}  // namespace
}  // namespace troupe
