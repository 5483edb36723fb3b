#include "base/cores.hpp"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

namespace troupe {
namespace {

// Who works half of the time would share the core rather than leave it.
constexpr double kBusy = 0.5;

bool holds(const std::vector<int32_t>& cores, int32_t core) {
  return std::find(cores.begin(), cores.end(), core) != cores.end();
}

}  // namespace

std::vector<int32_t> allowed_cores() {
  std::vector<int32_t> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) cores.push_back(core);
    }
  }
  if (cores.empty()) cores.push_back(0);
  return cores;
}

std::vector<int32_t> parse_core_list(std::string_view text) {
  std::vector<int32_t> cores;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    int32_t first = 0;
    auto read = std::from_chars(at, end, first);
    if (read.ec != std::errc() || first < 0) break;
    int32_t last = first;
    if (read.ptr != end && *read.ptr == '-') read = std::from_chars(read.ptr + 1, end, last);
    if (read.ec != std::errc() || last >= CPU_SETSIZE) break;
    for (int32_t core = first; core <= last; ++core) cores.push_back(core);
    at = read.ptr;
    if (at == end || *at != ',') break;
    ++at;
  }
  return cores;
}

SystemCores::SystemCores(std::string root) : root_(std::move(root)), last_(read_ticks()) {}

int32_t SystemCores::now() const { return sched_getcpu(); }

std::vector<int32_t> SystemCores::others() { return others(now(), allowed_cores()); }

std::vector<int32_t> SystemCores::others(int32_t core, const std::vector<int32_t>& allowed) {
  const std::vector<Ticks> ticks = read_ticks();
  const auto share_of = [&](int32_t of) {  // of the time since the last look; unknown cores are idle
    const auto i = static_cast<size_t>(of);
    if (i >= ticks.size() || i >= last_.size() || ticks[i].all <= last_[i].all) return 0.0;
    return static_cast<double>(ticks[i].busy - last_[i].busy) /
           static_cast<double>(ticks[i].all - last_[i].all);
  };
  const std::vector<int32_t> node = node_of(core);
  std::vector<std::pair<double, int32_t>> near, far;  // and how busy they are
  for (const int32_t other : allowed) {
    if (other == core) continue;
    double busy = share_of(other);
    for (const int32_t sibling : read_list("/sys/devices/system/cpu/cpu" + std::to_string(other) +
                                           "/topology/thread_siblings_list")) {
      busy = std::max(busy, share_of(sibling));
    }
    if (busy <= kBusy) (node.empty() || holds(node, other) ? near : far).emplace_back(busy, other);
  }
  last_ = ticks;
  std::vector<std::pair<double, int32_t>>& found = near.empty() ? far : near;
  std::sort(found.begin(), found.end());
  std::vector<int32_t> cores;
  for (const auto& [busy, other] : found) cores.push_back(other);
  return cores;
}

bool SystemCores::go(int32_t core) {
  cpu_set_t own, one;
  if (core < 0 || core >= CPU_SETSIZE || sched_getaffinity(0, sizeof own, &own) != 0 ||
      !CPU_ISSET(static_cast<size_t>(core), &own)) {
    return false;
  }
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(core), &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0) return false;
  if (sched_setaffinity(0, sizeof own, &own) == 0) return true;
  // None of these is there any more: wherever the process may be.
  for (size_t i = 0; i < CPU_SETSIZE; ++i) CPU_SET(i, &own);
  sched_setaffinity(0, sizeof own, &own);
  return true;
}

// Lines like "cpu3 user nice system idle iowait irq softirq steal ..." in hundredths of a second.
std::vector<SystemCores::Ticks> SystemCores::read_ticks() const {
  std::vector<Ticks> ticks;
  std::ifstream in(root_ + "/proc/stat");
  for (std::string line; std::getline(in, line) && line.starts_with("cpu");) {
    std::istringstream words(line.substr(3));
    int32_t core = 0;
    int64_t user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
    if (line.starts_with("cpu ") || !(words >> core) || core < 0 || core >= CPU_SETSIZE) continue;
    if (!(words >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal)) continue;
    if (ticks.size() <= static_cast<size_t>(core)) ticks.resize(static_cast<size_t>(core) + 1);
    const int64_t busy = user + nice + system + irq + softirq + steal;
    ticks[static_cast<size_t>(core)] = {busy, busy + idle + iowait};
  }
  return ticks;
}

std::vector<int32_t> SystemCores::read_list(const std::string& path) const {
  std::ifstream in(root_ + path);
  std::string line;
  std::getline(in, line);
  return parse_core_list(line);
}

std::vector<int32_t> SystemCores::node_of(int32_t core) const {
  const std::string nodes = "/sys/devices/system/node/";
  for (const int32_t node : read_list(nodes + "online")) {
    std::vector<int32_t> cores = read_list(nodes + "node" + std::to_string(node) + "/cpulist");
    if (holds(cores, core)) return cores;
  }
  return {};
}

}  // namespace troupe
