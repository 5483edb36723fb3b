// What the cast costs: CPU of the actor threads per step, idle time of the executor between steps,
// and what a flood of refused requests does to running streams. Over `echo:` with a fake step;
// prints one JSON object. Numbers of one run are compared with one another, never gated by a test.
//
//   cast_bench [sequences = 256] [steps = 1500] [step_ms = 2]
#include <dirent.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "actors/cast.hpp"
#include "actors/echo_house.hpp"
#include "base/clock.hpp"

namespace troupe::actors {
namespace {

// Counts tokens; one stream also notes when they came.
class Counter final : public EventSink {
 public:
  explicit Counter(bool notes) : notes_(notes) {}
  void push(Event&& event) override {
    tokens.fetch_add(event.tokens.size(), std::memory_order_relaxed);
    if (is_terminal(event.kind)) ended.fetch_add(1);
    if (!notes_ || event.tokens.empty()) return;
    const std::scoped_lock lock(mutex_);
    times_.push_back(steady_now_ns());
  }
  // Gaps between tokens since the last call, in ns, sorted.
  std::vector<int64_t> take_gaps() {
    const std::scoped_lock lock(mutex_);
    std::vector<int64_t> gaps;
    for (size_t i = 1; i < times_.size(); ++i) gaps.push_back(times_[i] - times_[i - 1]);
    times_.clear();
    std::sort(gaps.begin(), gaps.end());
    return gaps;
  }
  std::atomic<uint64_t> tokens{0}, ended{0};

 private:
  const bool notes_;
  std::mutex mutex_;
  std::vector<int64_t> times_;
};

// CPU time of every thread so far, by name.
std::map<std::string, int64_t> thread_times() {
  std::map<std::string, int64_t> times;
  DIR* const tasks = opendir("/proc/self/task");
  while (const dirent* entry = readdir(tasks)) {
    const std::string folder = std::string("/proc/self/task/") + entry->d_name;
    std::ifstream name_in(folder + "/comm");
    std::ifstream time_in(folder + "/schedstat");
    std::string name;
    int64_t ns = 0;
    if (std::getline(name_in, name) && time_in >> ns) times[name] += ns;
  }
  closedir(tasks);
  return times;
}

Request endless(int32_t tokens) {
  Request request;
  PromptPart part;
  part.text = "a prompt";
  request.prompt.push_back(part);
  request.sampling.max_tokens = tokens;
  request.sampling.ignore_eos = true;
  return request;
}

double percentile(const std::vector<int64_t>& sorted, double share) {
  if (sorted.empty()) return 0.0;
  return static_cast<double>(sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))]);
}

void wait_steps(const Cast& cast, uint64_t steps) {
  const uint64_t until = cast.board().steps.load() + steps;
  while (cast.board().steps.load() < until) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

int run(int sequences, int steps, double step_ms) {
  engine::EchoOptions echo;
  echo.step_ns = static_cast<int64_t>(step_ms * 1e6);
  echo.context_length = 16384;
  echo.kv_tokens = int64_t{sequences} * 16384;  // nobody is put back to make room
  EngineOptions options;
  options.max_sequences = sequences;
  options.max_waiting = 64;
  auto opened = Cast::open(echo_parts(echo, options));
  if (!opened.ok()) {
    std::fprintf(stderr, "%s\n", opened.status().message().c_str());
    return 1;
  }
  const std::unique_ptr<Cast> cast = std::move(opened).value();
  auto sink = std::make_shared<Counter>(false);
  auto noted = std::make_shared<Counter>(true);
  for (int i = 0; i < sequences; ++i) {
    // Not more at once than may wait.
    while (cast->waiting() >= 60) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (!cast->submit(endless(12000), i == 0 ? noted : sink).ok()) return 1;
  }
  while (cast->waiting() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  wait_steps(*cast, 200);

  const auto before = thread_times();
  const uint64_t first = cast->board().steps.load();
  const int64_t idle_before = cast->executor_idle_ns();
  const uint64_t gaps_before = cast->executor_gaps();
  const int64_t begin = steady_now_ns();
  (void)noted->take_gaps();
  wait_steps(*cast, static_cast<uint64_t>(steps));
  const auto count = static_cast<double>(cast->board().steps.load() - first);
  const double wall_us = static_cast<double>(steady_now_ns() - begin) / 1e3;
  const auto calm = noted->take_gaps();
  double actors_us = 0.0;
  std::printf("{\"sequences\": %d, \"steps\": %.0f, \"step_us\": %.1f,\n \"cpu_us_per_step\": {", sequences,
              count, wall_us / count);
  for (const auto& [name, ns] : thread_times()) {
    const auto it = before.find(name);
    const double us = static_cast<double>(ns - (it == before.end() ? 0 : it->second)) / 1e3 / count;
    if (name.starts_with("tr-actor")) actors_us += us;
    std::printf("\"%s\": %.2f, ", name.c_str(), us);
  }
  std::printf("\"all_actors\": %.2f},\n", actors_us);
  std::printf(" \"executor_idle_us_per_step\": %.3f, \"executor_gaps\": %llu,\n \"handler_us\": {",
              static_cast<double>(cast->executor_idle_ns() - idle_before) / 1e3 / count,
              static_cast<unsigned long long>(cast->executor_gaps() - gaps_before));
  for (const HandlerClockPtr& clock : cast->handler_clocks()) {
    std::printf("\"%s\": {\"mean\": %.2f, \"worst\": %.1f, \"slow\": %llu}, ", clock->actor,
                static_cast<double>(clock->busy_ns) / 1e3 / static_cast<double>(std::max<uint64_t>(clock->calls, 1)),
                static_cast<double>(clock->worst_ns) / 1e3,
                static_cast<unsigned long long>(clock->slow));
  }
  std::printf("\"limit\": %.0f},\n", static_cast<double>(kHandlerLimitNs) / 1e3);

  // The flood: the waiting places are taken, everything more is refused.
  for (int i = 0; i < 64; ++i) (void)cast->submit(endless(12000), sink);
  while (cast->waiting() < 64) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  constexpr int kFlood = 100'000;
  const Request flood = endless(1);
  const auto flood_at = [&](int burst) {  // so many at once, then a millisecond's rest; 0: no rest
    int refused = 0;
    (void)noted->take_gaps();
    const int64_t flood_begin = steady_now_ns();
    for (int i = 0; i < kFlood; ++i) {
      refused += cast->submit(flood, sink).ok() ? 0 : 1;
      if (burst > 0 && i % burst == burst - 1) {
        std::this_thread::sleep_until(std::chrono::steady_clock::time_point(
            std::chrono::nanoseconds(flood_begin + int64_t{i} * 1'000'000 / burst)));
      }
    }
    const double seconds = static_cast<double>(steady_now_ns() - flood_begin) / 1e9;
    const auto gaps = noted->take_gaps();
    std::printf("{\"refused\": %d, \"per_second\": %.0f, \"p50_us\": %.0f, \"p99_us\": %.0f, "
                "\"tokens\": %zu}",
                refused, kFlood / seconds, percentile(gaps, 0.5) / 1e3, percentile(gaps, 0.99) / 1e3,
                gaps.size());
  };
  std::printf(" \"calm\": {\"p50_us\": %.0f, \"p99_us\": %.0f, \"tokens\": %zu},\n \"flood_full_speed\": ",
              percentile(calm, 0.5) / 1e3, percentile(calm, 0.99) / 1e3, calm.size());
  flood_at(0);
  std::printf(",\n \"flood_of_50000_per_second\": ");
  flood_at(50);
  std::printf(",\n \"ended\": %llu}\n", static_cast<unsigned long long>(sink->ended));
  return cast->close(0).ok() ? 0 : 1;
}

}  // namespace
}  // namespace troupe::actors

int main(int argc, char** argv) {
  const int sequences = argc > 1 ? std::atoi(argv[1]) : 256;
  const int steps = argc > 2 ? std::atoi(argv[2]) : 1500;
  const double step_ms = argc > 3 ? std::atof(argv[3]) : 2.0;
  return troupe::actors::run(std::max(sequences, 1), std::max(steps, 1), step_ms);
}
