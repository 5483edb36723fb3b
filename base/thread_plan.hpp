// The thread plan: one table of every thread that an engine starts, its owner and its core.
//
// It is made once, before the first thread, from what the process may really use: the affinity mask
// and the CPU quota of its control group (v1 or v2), which are often less than the machine has.
// `troupe doctor` prints it. No library starts threads behind its back: whoever starts one takes
// its name and core from here and calls enter_thread() first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

// What this process may use. `root` is "" but in tests: it stands in front of /proc and /sys.
struct CpuBudget {
  std::vector<int32_t> cores;  // the affinity mask
  double quota = 0.0;          // CPUs per second that the control group grants; 0: no quota
  std::string quota_origin;    // the file that says so; empty without a quota

  // Threads that can compute at once: never less than one.
  [[nodiscard]] int32_t usable() const;
};
[[nodiscard]] CpuBudget read_cpu_budget(const std::string& root = "");

enum class ThreadOwner : uint8_t {
  actors, executor, compute, tokenizer, watchdog, wire,
  encoder,  // of pictures, one per device; and the threads that compute with it
  vision,
  decoder,  // of picture files
};
[[nodiscard]] std::string_view owner_name(ThreadOwner owner);

struct PlannedThread {
  std::string name;  // as the operating system shows it: at most 15 characters
  ThreadOwner owner = ThreadOwner::actors;
  int32_t index = 0;  // among its owner's, or of its executor's device
  int32_t core = -1;  // -1: any of the mask
};

// CAF brings a timer thread and a printer along with the threads that run actors.
inline constexpr int32_t kActorHelperThreads = 2;

// What an engine asks for; zeros take the default.
struct ThreadNeeds {
  int32_t devices = 1;
  int32_t compute_per_device = 0;  // CPU devices: threads that do arithmetic; the executor is one
  bool cpu_devices = true;         // arithmetic happens on host threads
  int32_t actors = 0;
  int32_t tokenizers = 0;
  int32_t encoders = 0;            // devices that encode pictures; 0: the model has no eyes
  int32_t decoders = 0;            // 0: as many as may compute at once, when there are encoders
  bool pin = false;  // one core per arithmetic thread: only for a process that owns its cores
};

struct ThreadPlan {
  CpuBudget budget;
  std::vector<PlannedThread> threads;

  [[nodiscard]] int32_t count(ThreadOwner owner) const;
  // Threads that share the arithmetic of device `device`, its executor included.
  [[nodiscard]] int32_t compute_threads(int32_t device) const;
  // Likewise, of encoder `device`.
  [[nodiscard]] int32_t vision_threads(int32_t device) const;
  [[nodiscard]] const PlannedThread* find(ThreadOwner owner, int32_t index) const;
  // For people: one line per thread under a line that names the budget.
  [[nodiscard]] std::string table() const;
};
[[nodiscard]] ThreadPlan make_thread_plan(CpuBudget budget, const ThreadNeeds& needs);

// Names the calling thread and takes it to its core, if it has one.
void enter_thread(const PlannedThread& planned);

}  // namespace troupe
