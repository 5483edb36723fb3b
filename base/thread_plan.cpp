#include "base/thread_plan.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "base/assert.hpp"
#include "base/cores.hpp"

namespace troupe {
namespace {

constexpr size_t kNameMax = 15;  // pthread_setname_np
// Few cores: one thread runs all actors, which saves a wake-up per step.
constexpr int32_t kActorThreadsMax = 2;
constexpr int32_t kTokenizerThreadsMax = 2;
constexpr int32_t kDecoderThreadsMax = 32;

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

struct Quota {
  double cpus = 0.0;
  std::string origin;
};

// Control group v2: "max 100000" or "150000 100000".
Quota quota_v2(const std::string& file) {
  std::istringstream in(first_line(file));
  double quota = 0.0;
  double period = 0.0;
  if (!(in >> quota >> period) || quota <= 0.0 || period <= 0.0) return {};
  return {quota / period, file};
}

// Control group v1: -1, or microseconds in a second file's period.
Quota quota_v1(const std::string& folder) {
  std::istringstream quota_in(first_line(folder + "/cpu.cfs_quota_us"));
  std::istringstream period_in(first_line(folder + "/cpu.cfs_period_us"));
  double quota = 0.0;
  double period = 0.0;
  if (!(quota_in >> quota) || !(period_in >> period) || quota <= 0.0 || period <= 0.0) return {};
  return {quota / period, folder + "/cpu.cfs_quota_us"};
}

void keep_smaller(Quota& best, Quota other) {
  if (other.cpus > 0.0 && (best.cpus == 0.0 || other.cpus < best.cpus)) best = std::move(other);
}

// Every level from the process's group up to the mount may hold the smallest quota.
Quota read_quota(const std::string& root) {
  Quota best;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    const bool v2 = controllers.empty();
    if (!v2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    while (true) {
      if (path == "/") path.clear();
      if (v2) {
        keep_smaller(best, quota_v2(root + "/sys/fs/cgroup" + path + "/cpu.max"));
        keep_smaller(best, quota_v2(root + "/sys/fs/cgroup/unified" + path + "/cpu.max"));
      } else {
        keep_smaller(best, quota_v1(root + "/sys/fs/cgroup/" + controllers + path));
        keep_smaller(best, quota_v1(root + "/sys/fs/cgroup/cpu" + path));
      }
      const size_t slash = path.rfind('/');
      if (slash == std::string::npos) break;
      path.resize(slash);
    }
  }
  return best;
}

void add(ThreadPlan& plan, ThreadOwner owner, int32_t index, std::string name, int32_t core) {
  name.resize(std::min(name.size(), kNameMax));
  plan.threads.push_back({std::move(name), owner, index, core});
}

}  // namespace

int32_t CpuBudget::usable() const {
  const auto in_mask = static_cast<int32_t>(cores.size());
  if (quota <= 0.0) return std::max(in_mask, 1);
  return std::clamp(static_cast<int32_t>(std::lround(quota)), 1, std::max(in_mask, 1));
}

CpuBudget read_cpu_budget(const std::string& root) {
  CpuBudget budget;
  budget.cores = allowed_cores();
  Quota quota = read_quota(root);
  budget.quota = quota.cpus;
  budget.quota_origin = std::move(quota.origin);
  return budget;
}

std::string_view owner_name(ThreadOwner owner) {
  switch (owner) {
    case ThreadOwner::actors: return "actors";
    case ThreadOwner::executor: return "executor";
    case ThreadOwner::compute: return "compute";
    case ThreadOwner::tokenizer: return "tokenizer";
    case ThreadOwner::watchdog: return "watchdog";
    case ThreadOwner::wire: return "wire";
    case ThreadOwner::encoder: return "encoder";
    case ThreadOwner::vision: return "vision";
    case ThreadOwner::decoder: return "decoder";
  }
  return "unknown";
}

ThreadPlan make_thread_plan(CpuBudget budget, const ThreadNeeds& needs) {
  TR_ASSERT(needs.devices >= 1);
  ThreadPlan plan;
  plan.budget = std::move(budget);
  const int32_t usable = plan.budget.usable();
  const int32_t actors =
      needs.actors > 0 ? needs.actors : std::clamp(usable - 1, 1, kActorThreadsMax);
  const int32_t tokenizers = needs.tokenizers > 0 ? needs.tokenizers : kTokenizerThreadsMax;
  int32_t compute = 1;
  if (needs.cpu_devices) {
    compute = needs.compute_per_device > 0 ? needs.compute_per_device
                                           : std::max(usable / needs.devices, 1);
  }
  const int32_t slices = std::max(needs.devices, needs.encoders);
  if (needs.cpu_devices && needs.compute_per_device == 0) compute = std::max(usable / slices, 1);
  size_t next_core = 0;
  const auto take_core = [&] {
    if (!needs.pin || next_core >= plan.budget.cores.size()) return -1;
    return plan.budget.cores[next_core++];
  };
  for (int32_t device = 0; device < needs.devices; ++device) {
    add(plan, ThreadOwner::executor, device, "tr-exec-" + std::to_string(device), take_core());
    for (int32_t i = 1; i < compute; ++i) {
      add(plan, ThreadOwner::compute, device,
          "tr-cpu" + std::to_string(device) + "-" + std::to_string(i), take_core());
    }
  }
  // Encoders are slices of the same cores: what is parked costs nothing, and texts and pictures that
  // compute at once share by the system's scheduler.
  for (int32_t device = 0; device < needs.encoders; ++device) {
    add(plan, ThreadOwner::encoder, device, "tr-eye-" + std::to_string(device), -1);
    for (int32_t i = 1; i < compute; ++i) {
      add(plan, ThreadOwner::vision, device,
          "tr-eye" + std::to_string(device) + "-" + std::to_string(i), -1);
    }
  }
  const int32_t decoders = needs.decoders > 0 ? needs.decoders : std::min(usable, kDecoderThreadsMax);
  for (int32_t i = 0; i < decoders && needs.encoders > 0; ++i) {
    add(plan, ThreadOwner::decoder, i, "tr-picture-" + std::to_string(i), -1);
  }
  for (int32_t i = 0; i < actors; ++i) {
    add(plan, ThreadOwner::actors, i, "tr-actor-" + std::to_string(i), -1);
  }
  add(plan, ThreadOwner::actors, actors, "tr-clock", -1);        // CAF's timers
  add(plan, ThreadOwner::actors, actors + 1, "tr-printer", -1);  // CAF's; never prints
  for (int32_t i = 0; i < tokenizers; ++i) {
    add(plan, ThreadOwner::tokenizer, i, "tr-token-" + std::to_string(i), -1);
  }
  add(plan, ThreadOwner::watchdog, 0, "tr-watchdog", -1);  // while closing
  return plan;
}

int32_t ThreadPlan::count(ThreadOwner owner) const {
  return static_cast<int32_t>(std::count_if(threads.begin(), threads.end(),
                                            [&](const auto& t) { return t.owner == owner; }));
}

int32_t ThreadPlan::compute_threads(int32_t device) const {
  return static_cast<int32_t>(std::count_if(threads.begin(), threads.end(), [&](const auto& t) {
    return t.index == device &&
           (t.owner == ThreadOwner::compute || t.owner == ThreadOwner::executor);
  }));
}

int32_t ThreadPlan::vision_threads(int32_t device) const {
  return static_cast<int32_t>(std::count_if(threads.begin(), threads.end(), [&](const auto& t) {
    return t.index == device &&
           (t.owner == ThreadOwner::vision || t.owner == ThreadOwner::encoder);
  }));
}

const PlannedThread* ThreadPlan::find(ThreadOwner owner, int32_t index) const {
  const auto it = std::find_if(threads.begin(), threads.end(), [&](const auto& t) {
    return t.owner == owner && t.index == index;
  });
  return it == threads.end() ? nullptr : &*it;
}

std::string ThreadPlan::table() const {
  std::ostringstream out;
  out << "cores " << budget.cores.size();
  if (budget.quota > 0.0) {
    out << ", quota " << budget.quota << " (" << budget.quota_origin << ")";
  } else {
    out << ", no quota";
  }
  out << ", threads that may compute at once: " << budget.usable() << "\n";
  for (const PlannedThread& t : threads) {
    char line[64];
    std::snprintf(line, sizeof line, "  %-15s  %-9s  ", t.name.c_str(),
                  std::string(owner_name(t.owner)).c_str());
    out << line << (t.core < 0 ? "any core" : "core " + std::to_string(t.core)) << "\n";
  }
  return out.str();
}

void enter_thread(const PlannedThread& planned) {
  pthread_setname_np(pthread_self(), planned.name.c_str());
  if (planned.core < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(planned.core), &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);  // the mask may have changed: best effort
}

}  // namespace troupe
