#include "base/cores.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <string>
#include <thread>
#include <vector>

#include "base/fake_root.hpp"

namespace troupe {
namespace {

using List = std::vector<int32_t>;

TEST(CoreList, IsReadAsTheSystemWritesIt) {
  EXPECT_EQ(parse_core_list("0-2,8,10-11"), (List{0, 1, 2, 8, 10, 11}));
  EXPECT_EQ(parse_core_list("5"), (List{5}));
  EXPECT_EQ(parse_core_list("0-1\n"), (List{0, 1}));
  EXPECT_EQ(parse_core_list(""), List{});
  EXPECT_EQ(parse_core_list("1,-4"), (List{1}));
  EXPECT_EQ(parse_core_list("1,3-"), (List{1}));
  EXPECT_EQ(parse_core_list("0-99999999"), List{});
}

// A machine of eight cores, two nodes; hyperthreads n and n + 4 are one core.
class Machine {
 public:
  Machine() { look_back({}); }
  void give_nodes() const {
    root.write("sys/devices/system/node/online", "0-1\n");
    root.write("sys/devices/system/node/node0/cpulist", "0-1,4-5\n");
    root.write("sys/devices/system/node/node1/cpulist", "2-3,6-7\n");
  }
  void give_siblings() const {
    for (int core = 0; core < 8; ++core) {
      root.write("sys/devices/system/cpu/cpu" + std::to_string(core) + "/topology/thread_siblings_list",
                 std::to_string(core % 4) + "," + std::to_string(core % 4 + 4) + "\n");
    }
  }
  // A second later: so many hundredths of it each core has worked, one after the other.
  void look_back(const List& worked) {
    std::string text = "cpu  1 2 3 4 5 6 7 8 0 0\n";
    for (size_t core = 0; core < 8; ++core) {
      const int32_t busy = core < worked.size() ? worked[core] : 0;
      busy_[core] += busy;
      idle_[core] += 100 - busy;
      text += "cpu" + std::to_string(core) + " " + std::to_string(busy_[core]) + " 1 1 " +
              std::to_string(idle_[core]) + " 1 0 0 0 0 0\n";
    }
    root.write("proc/stat", text + "intr 1 2 3\nctxt 4\n");
  }
  FakeRoot root;

 private:
  int64_t busy_[8] = {}, idle_[8] = {};
};

const List kAll = {0, 1, 2, 3, 4, 5, 6, 7};

TEST(SystemCores, IdleCoresComeFirstAndBusyOnesNotAtAll) {
  Machine machine;
  SystemCores cores(machine.root.path());
  machine.look_back({100, 30, 5, 90, 0, 10, 20, 51});
  EXPECT_EQ(cores.others(0, kAll), (List{4, 2, 5, 6, 1}));
  EXPECT_EQ(cores.others(4, {1, 2, 3, 4}), (List{1, 2, 3})) << "idle since the last look";
}

TEST(SystemCores, WhatWasStolenIsNotIdle) {
  FakeRoot root;
  root.write("proc/stat", "cpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0\n");
  SystemCores cores(root.path());
  root.write("proc/stat", "cpu0 9 0 0 0 0 0 0 0\ncpu1 0 0 0 20 0 0 0 80\ncpu2 0 0 0 50 50 0 0 0\n");
  EXPECT_EQ(cores.others(0, {0, 1, 2}), (List{2}));
}

TEST(SystemCores, CoresOfTheSameNodeIfThereAreAny) {
  Machine machine;
  machine.give_nodes();
  SystemCores cores(machine.root.path());
  machine.look_back({0, 40, 0, 0, 10, 20, 0, 0});
  EXPECT_EQ(cores.others(0, kAll), (List{4, 5, 1}));
  machine.look_back({0, 100, 0, 30, 100, 100, 0, 60});
  EXPECT_EQ(cores.others(0, kAll), (List{2, 6, 3})) << "the others of the node are busy";
  machine.look_back({});
  EXPECT_EQ(cores.others(0, {0, 6, 7}), (List{6, 7})) << "none of the node is allowed";
}

TEST(SystemCores, ACoreIsAsBusyAsItsOtherThread) {
  Machine machine;
  machine.give_siblings();
  SystemCores cores(machine.root.path());
  machine.look_back({100, 80, 10, 0, 0, 0, 0, 5});
  EXPECT_EQ(cores.others(0, kAll), (List{3, 7, 2, 6}))
      << "neither the sibling of the one it is on nor that of another's";
}

TEST(SystemCores, KnowsNothingOfTheMachineAndNamesWhatIsAllowed) {
  FakeRoot root;
  SystemCores cores(root.path());
  EXPECT_EQ(cores.others(2, {1, 2, 5}), (List{1, 5}));
  EXPECT_EQ(cores.others(2, {2}), List{});
}

// Of this machine.
TEST(SystemCores, GoesThereAndLeavesTheMaskAsItWas) {
  std::thread([] {
    const List mask = allowed_cores();
    SystemCores cores;
    for (const int32_t core : mask) {
      bool arrived = false;  // until the system has a reason of its own to move it
      for (int i = 0; i < 100 && !arrived; ++i) {
        EXPECT_TRUE(cores.go(core));
        arrived = cores.now() == core;
        EXPECT_EQ(allowed_cores(), mask);
      }
      EXPECT_TRUE(arrived) << core;
    }
  }).join();
}

TEST(SystemCores, NeverLeavesTheMaskThatItIsGiven) {
  std::thread([] {
    const List mask = allowed_cores();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(mask.front()), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    SystemCores cores;
    EXPECT_EQ(cores.others(), List{});
    for (const int32_t core : {mask.front() + 1, -1, 100'000}) EXPECT_FALSE(cores.go(core)) << core;
    EXPECT_EQ(allowed_cores(), (List{mask.front()}));
    EXPECT_EQ(cores.now(), mask.front());
  }).join();
}

}  // namespace
}  // namespace troupe
