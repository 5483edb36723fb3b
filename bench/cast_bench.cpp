// What the cast costs: CPU of its threads per step, idle time of the executor between steps, and what
// a flood of refused requests does to running streams. Over `echo:` with a fake step; prints one
// JSON object. Numbers of one run are compared with one another, never gated by a test.
//
//   cast_bench [sequences = 256] [steps = 1500] [step_ms = 2] [flood pairs = 5]
//
// What is counted, as CPU time (which a loaded machine stretches far less than the clock):
//   actors          the threads that run frontdesk, tokenizer's actor, scheduler, detokenizer,
//                   supervisor and heartbeat, whatever they do, waking up and sleeping included;
//                   the sink here, which counts tokens, is in it
//   executor_own    the executor's thread less what its device did: messages and waking up
//   helpers         CAF's clock and printer threads, the tokenizer's pool
//   cast            all of these: this is what the 50 us of docs/cast.md speak of
//   device          the fake device: launching, drawing, sleeping until a step is over
// Steps are measured in five rounds; the median and the least are given.
#include <dirent.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <numeric>
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
    if (is_terminal(event.kind)) ended.fetch_add(1);
    hear(event.tokens.size());
  }
  void push_delta(const TokenDelta& delta) override { hear(delta.tokens.size()); }
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
  void hear(size_t count) {
    tokens.fetch_add(count, std::memory_order_relaxed);
    if (!notes_ || count == 0) return;
    const std::scoped_lock lock(mutex_);
    times_.push_back(steady_now_ns());
  }

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

// CPU time of the device's own calls, apart from the thread that makes them.
class MeteredDevice final : public engine::StepExecutor {
 public:
  MeteredDevice(std::unique_ptr<StepExecutor> device, std::atomic<int64_t>& spent_ns)
      : device_(std::move(device)), spent_ns_(spent_ns) {}
  Status forward(std::span<const std::byte> plan) override {
    begin_ns_ = thread_cpu_ns();
    return device_->forward(plan);
  }
  Status sample(std::span<const uint32_t> mask) override {
    Status status = device_->sample(mask);
    spent_ns_.fetch_add(thread_cpu_ns() - begin_ns_, std::memory_order_relaxed);
    return status;
  }
  Result<StepResult> collect() override {
    const int64_t begin_ns = thread_cpu_ns();
    Result<StepResult> result = device_->collect();
    spent_ns_.fetch_add(thread_cpu_ns() - begin_ns, std::memory_order_relaxed);
    return result;
  }
  Status put_embedding(uint64_t id, const Matrix& rows) override {
    return device_->put_embedding(id, rows);
  }
  void drop_embedding(uint64_t id) override { device_->drop_embedding(id); }

 private:
  const std::unique_ptr<StepExecutor> device_;
  std::atomic<int64_t>& spent_ns_;
  int64_t begin_ns_ = 0;
};

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

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

struct Bench {
  int sequences = 256, steps = 1500;
  double step_ms = 2.0;
  int pairs = 5;

  std::unique_ptr<Cast> cast;
  std::shared_ptr<std::atomic<int64_t>> device_ns = std::make_shared<std::atomic<int64_t>>(0);
  std::shared_ptr<Counter> sink = std::make_shared<Counter>(false);
  std::shared_ptr<Counter> noted = std::make_shared<Counter>(true);

  Status open();
  void measure_steps();
  void measure_flood();
};

Status Bench::open() {
  engine::EchoOptions echo;
  echo.step_ns = static_cast<int64_t>(step_ms * 1e6);
  echo.context_length = 16384;
  echo.kv_tokens = int64_t{sequences} * 16384;  // nobody is put back to make room
  EngineOptions options;
  options.max_sequences = sequences;
  options.max_waiting = 64;
  CastParts parts = echo_parts(echo, options);
  parts.open_device = [open = parts.open_device, spent = device_ns](int32_t generation)
      -> Result<std::unique_ptr<engine::StepExecutor>> {
    TR_ASSIGN(auto device, open(generation));
    return std::unique_ptr<engine::StepExecutor>(
        std::make_unique<MeteredDevice>(std::move(device), *spent));
  };
  TR_ASSIGN(cast, Cast::open(std::move(parts)));
  for (int i = 0; i < sequences; ++i) {
    // Not more at once than may wait.
    while (cast->waiting() >= 60) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    TR_TRY(cast->submit(endless(16000), i == 0 ? noted : sink).status());
  }
  while (cast->waiting() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  wait_steps(*cast, 200);
  return {};
}

void Bench::measure_steps() {
  constexpr int kRounds = 5;
  std::map<std::string, std::vector<double>> rounds;
  const int64_t idle_before = cast->executor_idle_ns();
  const uint64_t gaps_before = cast->executor_gaps();
  const uint64_t first = cast->board().steps.load();
  for (int round = 0; round < kRounds; ++round) {
    const auto before = thread_times();
    const uint64_t steps_before = cast->board().steps.load();
    const int64_t device_before = device_ns->load();
    const int64_t begin = steady_now_ns();
    wait_steps(*cast, static_cast<uint64_t>(steps / kRounds));
    const auto count = static_cast<double>(cast->board().steps.load() - steps_before);
    rounds["step"].push_back(static_cast<double>(steady_now_ns() - begin) / 1e3 / count);
    const double device = static_cast<double>(device_ns->load() - device_before) / 1e3 / count;
    std::map<std::string, double> spent = {{"device", device}, {"executor_own", -device}};
    for (const auto& [name, ns] : thread_times()) {
      const auto it = before.find(name);
      const double us = static_cast<double>(ns - (it == before.end() ? 0 : it->second)) / 1e3 / count;
      if (name.starts_with("tr-exec")) spent["executor_own"] += us;
      else if (name.starts_with("tr-actor")) spent["actors"] += us;
      else if (name.starts_with("tr-")) spent["helpers"] += us;
    }
    spent["cast"] = spent["actors"] + spent["executor_own"] + spent["helpers"];
    for (const auto& [name, us] : spent) rounds[name].push_back(us);
  }
  const auto count = static_cast<double>(cast->board().steps.load() - first);
  std::printf(" \"cpu_us_per_step\": {");
  for (const char* name : {"cast", "actors", "executor_own", "helpers", "device"}) {
    std::printf("%s\"%s\": %.1f", name[0] == 'c' ? "" : ", ", name, median(rounds[name]));
  }
  const std::vector<double>& all = rounds["cast"];
  std::printf(", \"cast_least\": %.1f},\n \"step_us\": %.1f, \"executor_idle_us_per_step\": %.3f, "
              "\"executor_gaps\": %llu,\n \"handler_us\": {",
              *std::min_element(all.begin(), all.end()), median(rounds["step"]),
              static_cast<double>(cast->executor_idle_ns() - idle_before) / 1e3 / count,
              static_cast<unsigned long long>(cast->executor_gaps() - gaps_before));
  for (const HandlerClockPtr& clock : cast->handler_clocks()) {
    std::printf("\"%s\": {\"mean\": %.2f, \"worst\": %.1f, \"slow\": %llu}, ", clock->actor,
                static_cast<double>(clock->busy_ns) / 1e3 / static_cast<double>(std::max<uint64_t>(clock->calls, 1)),
                static_cast<double>(clock->worst_ns) / 1e3,
                static_cast<unsigned long long>(clock->slow));
  }
  std::printf("\"limit\": %.0f},\n", static_cast<double>(kHandlerLimitNs) / 1e3);
}

// Calm and flooded, turn by turn: 100,000 requests beyond the bounds at 60,000 per second, then as
// long without.
void Bench::measure_flood() {
  constexpr int kFlood = 100'000, kBurst = 60;  // as many in a millisecond
  for (int i = 0; i < 64; ++i) (void)cast->submit(endless(16000), sink);
  while (cast->waiting() < 64) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const Request flood = endless(1);
  std::vector<double> ratios, rates, calm_p99, flood_p99;
  std::vector<int64_t> calm_all, flood_all;
  int64_t refused = 0;
  for (int pair = 0; pair < pairs; ++pair) {
    (void)noted->take_gaps();
    const int64_t begin = steady_now_ns();
    for (int i = 0; i < kFlood; ++i) {
      refused += cast->submit(flood, sink).ok() ? 0 : 1;
      if (i % kBurst != kBurst - 1) continue;
      std::this_thread::sleep_until(std::chrono::steady_clock::time_point(
          std::chrono::nanoseconds(begin + int64_t{i} * 1'000'000 / kBurst)));
    }
    const int64_t took = steady_now_ns() - begin;
    const auto flooded = noted->take_gaps();
    std::this_thread::sleep_for(std::chrono::nanoseconds(took));
    const auto calm = noted->take_gaps();
    rates.push_back(kFlood / (static_cast<double>(took) / 1e9));
    flood_p99.push_back(percentile(flooded, 0.99) / 1e3);
    calm_p99.push_back(percentile(calm, 0.99) / 1e3);
    ratios.push_back(flood_p99.back() / std::max(1.0, calm_p99.back()));
    flood_all.insert(flood_all.end(), flooded.begin(), flooded.end());
    calm_all.insert(calm_all.end(), calm.begin(), calm.end());
  }
  std::sort(flood_all.begin(), flood_all.end());
  std::sort(calm_all.begin(), calm_all.end());
  // As fast as one thread can: what refusing costs.
  const int64_t begin = steady_now_ns();
  for (int i = 0; i < kFlood; ++i) (void)cast->submit(flood, sink);
  const double seconds = static_cast<double>(steady_now_ns() - begin) / 1e9;
  std::printf(" \"flood\": {\"pairs\": %d, \"refused\": %lld, \"refused_per_second\": %.0f, "
              "\"refused_per_second_at_full_speed\": %.0f,\n  \"calm_p50_us\": %.0f, "
              "\"flood_p50_us\": %.0f, \"calm_p99_us\": %.0f, \"flood_p99_us\": %.0f, "
              "\"p99_ratio\": %.3f, \"p99_ratio_median_of_pairs\": %.3f}",
              pairs, static_cast<long long>(refused), median(rates), kFlood / seconds,
              percentile(calm_all, 0.5) / 1e3, percentile(flood_all, 0.5) / 1e3,
              percentile(calm_all, 0.99) / 1e3, percentile(flood_all, 0.99) / 1e3,
              percentile(flood_all, 0.99) / std::max(1.0, percentile(calm_all, 0.99)), median(ratios));
}

// A prompt of 120,000 tokens, new and then found in the cache: the longest that any handler of an
// actor kept its thread, in CPU time (INV-CAST-4; its hashing is the tokenizer pool's).
Status measure_long_prompt() {
  constexpr int32_t kTokens = 120'000;
  engine::EchoOptions echo;
  echo.context_length = 131072;
  EngineOptions options;
  options.max_sequences = 4;
  CastParts parts = echo_parts(echo, options);
  parts.precise_clocks = true;
  TR_ASSIGN(const auto cast, Cast::open(std::move(parts)));
  Request request = endless(4);
  std::string& text = request.prompt.front().text;
  text.clear();
  for (int32_t i = 0; i < kTokens; ++i) text += static_cast<char>('a' + i * 7 % 26);
  const auto listener = std::make_shared<Counter>(false);
  for (uint64_t turn = 1; turn <= 2; ++turn) {
    TR_TRY(cast->submit(request, listener).status());
    while (listener->ended.load() < turn) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::printf(" \"prompt_of_120000_worst_handler_us\": {");
  for (const HandlerClockPtr& clock : cast->handler_clocks()) {
    if (std::string_view(clock->actor) == "executor") continue;  // it may take its time
    std::printf("\"%s\": %.1f, ", clock->actor, static_cast<double>(clock->worst_ns) / 1e3);
  }
  std::printf("\"limit\": %.0f},\n", static_cast<double>(kHandlerLimitNs) / 1e3);
  return cast->close(0);
}

int run(Bench bench) {
  if (const Status status = bench.open(); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    return 1;
  }
  std::printf("{\"sequences\": %d, \"steps\": %d,\n", bench.sequences, bench.steps);
  bench.measure_steps();
  if (const Status status = measure_long_prompt(); !status.ok()) return 1;
  if (bench.pairs > 0) bench.measure_flood();
  std::printf("%s \"ended\": %llu}\n", bench.pairs > 0 ? ",\n" : "",
              static_cast<unsigned long long>(bench.sink->ended));
  return bench.cast->close(0).ok() ? 0 : 1;
}

}  // namespace
}  // namespace troupe::actors

int main(int argc, char** argv) {
  troupe::actors::Bench bench;
  if (argc > 1) bench.sequences = std::max(1, std::atoi(argv[1]));
  if (argc > 2) bench.steps = std::max(5, std::atoi(argv[2]));
  if (argc > 3) bench.step_ms = std::atof(argv[3]);
  if (argc > 4) bench.pairs = std::max(0, std::atoi(argv[4]));
  return troupe::actors::run(std::move(bench));
}
