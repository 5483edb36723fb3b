// troupe doctor: looks at this machine and names each problem with its remedy.

#include <dlfcn.h>
#include <sched.h>
#include <unistd.h>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "cli/engine_flags.hpp"
#include "cli/exit_codes.hpp"
#include "cli/sink.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"

namespace troupe::cli {
namespace {

enum class Verdict { good, note, problem };

struct Finding {
  std::string subject;
  Verdict verdict = Verdict::good;
  std::string seen;
  std::string remedy;
};

std::string first_line_of(const char* path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// The value of "key : value" or "key: value kB" in a /proc file.
std::string proc_field(const char* path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? std::string() : line.substr(begin);
  }
  return {};
}

Finding check_library() {
  troupe_engine* handle = nullptr;
  const Error error(troupe_engine_open("echo:", nullptr, &handle));
  const Engine engine(handle);
  if (!error) return {"library", Verdict::good, std::string("troupe ") + troupe_version_string(), {}};
  return {"library", Verdict::problem, text_of(error.get()),
          "keep libtroupe_engine.so of the same build beside libtroupe.so"};
}

Finding check_cpu() {
  const std::string model = proc_field("/proc/cpuinfo", "model name");
  const std::string flags = " " + proc_field("/proc/cpuinfo", "flags") + " ";
  std::string missing;
  for (const char* wanted : {"avx2", "fma", "f16c"}) {
    if (flags.find(std::string(" ") + wanted + " ") == std::string::npos) {
      missing += std::string(missing.empty() ? "" : ", ") + wanted;
    }
  }
  const std::string seen = model + (flags.find(" avx512f ") != std::string::npos ? ", AVX-512" : "");
  if (missing.empty()) return {"cpu", Verdict::good, seen, {}};
  return {"cpu", Verdict::note, seen + "; without " + missing,
          "Troupe runs, but several times slower than on a CPU with AVX2, FMA and F16C"};
}

Finding check_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int usable = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  std::string seen = std::to_string(usable) + " of " + std::to_string(online) + " cores usable";
  const std::string quota = first_line_of("/sys/fs/cgroup/cpu.max");
  if (!quota.empty() && !quota.starts_with("max")) {
    std::istringstream in(quota);
    double most = 0, period = 1;
    in >> most >> period;
    seen += ", cgroup quota " + std::to_string(most / period).substr(0, 4);
    if (most / period < usable) {
      return {"cores", Verdict::note, seen, "the quota, not the cores, sets the speed; --threads follows it"};
    }
  }
  return {"cores", Verdict::good, seen, {}};
}

Finding check_memory() {
  const auto kib = [](const std::string& key) {
    return std::strtoll(proc_field("/proc/meminfo", key).c_str(), nullptr, 10);
  };
  const long long total = kib("MemTotal") * 1024, free = kib("MemAvailable") * 1024;
  std::string seen = human_bytes(free) + " available of " + human_bytes(total);
  const std::string most = first_line_of("/sys/fs/cgroup/memory.max");
  if (!most.empty() && most != "max") seen += ", cgroup limit " + human_bytes(std::atoll(most.c_str()));
  if (free < (1LL << 30)) {
    return {"memory", Verdict::problem, seen, "less than 1 GiB is available: end other programs, or use a smaller model"};
  }
  return {"memory", Verdict::good, seen, {}};
}

Finding check_file_limit() {
  const long most = sysconf(_SC_OPEN_MAX);
  if (most >= 1024) return {"open files", Verdict::good, std::to_string(most), {}};
  return {"open files", Verdict::note, std::to_string(most), "ulimit -n 4096 before serving many clients"};
}

Finding check_gpu() {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  const std::string nvidia = first_line_of("/proc/driver/nvidia/version");
  if (driver == nullptr) {
    if (nvidia.empty()) return {"gpu", Verdict::note, "no NVIDIA driver: models run on the CPU", {}};
    return {"gpu", Verdict::problem, "the kernel driver is loaded, but libcuda.so.1 is not found",
            "install the driver's user libraries (in a container: the NVIDIA container toolkit)"};
  }
  using Init = int (*)(unsigned);
  using Version = int (*)(int*);
  const auto init = reinterpret_cast<Init>(dlsym(driver, "cuInit"));
  const auto version_of = reinterpret_cast<Version>(dlsym(driver, "cuDriverGetVersion"));
  const auto count_of = reinterpret_cast<Version>(dlsym(driver, "cuDeviceGetCount"));
  int version = 0, count = 0;
  const int failed = init == nullptr ? -1 : init(0);
  if (failed != 0 || version_of(&version) != 0 || count_of(&count) != 0) {
    return {"gpu", Verdict::problem, "the driver does not start (error " + std::to_string(failed) + ")",
            "run nvidia-smi; reboot after a driver update"};
  }
  const std::string seen = std::to_string(count) + " NVIDIA GPU(s), driver for CUDA " +
                           std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  if (version < 13000) {
    return {"gpu", Verdict::problem, seen, "Troupe's CUDA engine needs a driver for CUDA 13.0 (580 or newer): update it"};
  }
  return {"gpu", Verdict::good, seen, {}};
}

struct Doctor {
  bool as_json = false;

  int run() const {
    bool problems = false;
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const auto& check : {check_library, check_cpu, check_cores, check_memory, check_file_limit, check_gpu}) {
      const Finding found = check();
      static constexpr const char* kNames[] = {"ok", "note", "problem"};
      const char* verdict = kNames[static_cast<int>(found.verdict)];
      problems = problems || found.verdict == Verdict::problem;
      list.push_back({{"subject", found.subject}, {"verdict", verdict}, {"seen", found.seen}, {"remedy", found.remedy}});
      if (as_json) continue;
      out().print("%-8s %-11s %s\n", verdict, found.subject.c_str(), found.seen.c_str());
      if (!found.remedy.empty()) out().print("%-8s %-11s -> %s\n", "", "", found.remedy.c_str());
    }
    if (as_json) out().put(list.dump(2) + "\n");
    return problems ? kRequestFailed : kOk;
  }
};

}  // namespace

Run declare_doctor(CLI::App& app) {
  auto verb = std::make_shared<Doctor>();
  app.add_flag("--json", verb->as_json, "A JSON list");
  return [verb](Interrupt&) { return verb->run(); };
}

}  // namespace troupe::cli
