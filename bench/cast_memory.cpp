// What the cast keeps: resident memory after many short requests, and how much of the KV cache's
// blocks holds nothing on mixed lengths. Over `echo:`; prints one JSON object.
//
//   cast_memory [requests = 100000] [warm-up = 10000]
//
// resident: after the warm-up, and after all requests, with nobody in flight; the bar is 2 %.
// waste: the share of the held blocks' tokens that no sequence has filled, averaged over moments at
// which as many sequences run as may; prefixes are not shared, which would hide it. The bar is 4 %.
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "actors/cast.hpp"
#include "actors/echo_house.hpp"
#include "actors/local_port.hpp"

namespace troupe::actors {
namespace {

// Counted page by page: the short figures of statm lag behind by a batch of pages per CPU (Linux < 6.17).
int64_t resident_bytes() {
  std::ifstream in("/proc/self/smaps_rollup");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("Rss:")) return std::atoll(line.c_str() + 4) * 1024;
  }
  return 0;
}

// Counts those that have ended.
class Ends final : public EventSink {
 public:
  void push(Event&& event) override { count.fetch_add(is_terminal(event.kind) ? 1 : 0); }
  void push_delta(const TokenDelta&) override {}
  std::atomic<int64_t> count{0};
};

Request prompt_of(int32_t length, int32_t max_tokens) {
  Request request;
  PromptPart part;
  part.kind = PromptPart::Kind::tokens;
  for (int32_t i = 0; i < length; ++i) part.tokens.push_back('a' + (i * 7 + length) % 26);
  request.prompt.push_back(std::move(part));
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  return request;
}

void wait_ended(const Ends& sink, int64_t requests) {
  while (sink.count.load() < requests) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::seconds(2));  // heartbeats tidy up, the engine rests
}

int measure_resident(int requests, int warm_up) {
  EngineOptions options;
  options.max_sequences = 64;
  // A small cache, all of whose cells the warm-up touches: the fake device keeps them in memory.
  auto port = open_local_port("echo:?kv_tokens=16384&context=4096", options, {});
  if (!port.ok()) return 1;
  std::mt19937 random(11);
  int64_t before = 0, most = 0;
  auto sink = std::make_shared<Ends>();
  for (int i = 0; i < requests; ++i) {
    if (i == warm_up) {
      wait_ended(*sink, warm_up);
      before = resident_bytes();
    }
    if (i % 1000 == 0) most = std::max(most, resident_bytes());
    const Request request = prompt_of(static_cast<int32_t>(4 + random() % 60),
                                      static_cast<int32_t>(1 + random() % 24));
    while (!(*port)->submit(request, sink).ok()) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  wait_ended(*sink, requests);
  const int64_t after = resident_bytes();
  std::printf("{\"requests\": %d, \"warm_up\": %d, \"resident_mib\": {\"after_warm_up\": %.2f, "
              "\"after_all\": %.2f, \"most\": %.2f, \"growth_percent\": %.3f},\n",
              requests, warm_up, static_cast<double>(before) / 1048576,
              static_cast<double>(after) / 1048576, static_cast<double>(most) / 1048576,
              100.0 * static_cast<double>(after - before) / static_cast<double>(before));
  return (*port)->close(0).ok() ? 0 : 1;
}

// Prompts and answers as a chat server meets them: log-normal, medians 180 and 150, tails to 4,000.
int measure_waste(int sequences) {
  EngineOptions options;
  options.max_sequences = sequences;
  options.prefix_reuse = false;
  auto echo = engine::EchoOptions::parse("echo:?step_ms=1&kv_tokens=1000000").value();
  auto cast = Cast::open(echo_parts(echo, options));
  if (!cast.ok()) return 1;
  std::mt19937 random(5);
  std::lognormal_distribution<double> prompts(std::log(180.0), 1.0), answers(std::log(150.0), 0.8);
  const auto clamp = [](double x) { return static_cast<int32_t>(std::clamp(x, 4.0, 4000.0)); };
  double held = 0.0, used = 0.0, worst = 0.0;
  int looks = 0;
  int32_t block_tokens = 0;  // as the engine chose them
  const auto look = [&](engine::Scheduler& scheduler) {
    const engine::SchedulerStats stats = scheduler.stats();
    if (stats.running < static_cast<uint32_t>(sequences)) return;
    block_tokens = scheduler.config().block_tokens;
    const double room = static_cast<double>(stats.kv_blocks_used) * block_tokens;
    const auto tokens = static_cast<double>(scheduler.positions_held());
    held += room;
    used += tokens;
    worst = std::max(worst, 1.0 - tokens / room);
    ++looks;
  };
  auto sink = std::make_shared<Ends>();
  for (int i = 0; i < 6 * sequences; ++i) {
    const Request request = prompt_of(clamp(prompts(random)), clamp(answers(random)));
    while (!(*cast)->submit(request, sink).ok()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (i < 2 * sequences) continue;
    while ((*cast)->waiting() > 16) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    (void)(*cast)->visit(look);
  }
  std::printf(" \"kv_waste\": {\"sequences\": %d, \"block_tokens\": %d, \"looks\": %d, "
              "\"mean_percent\": %.2f, \"worst_percent\": %.2f}}\n",
              sequences, block_tokens, looks, 100.0 * (1.0 - used / std::max(held, 1.0)),
              100.0 * worst);
  return (*cast)->close(0).ok() ? 0 : 1;
}

}  // namespace
}  // namespace troupe::actors

int main(int argc, char** argv) {
  const int requests = argc > 1 ? std::atoi(argv[1]) : 100'000;
  const int warm_up = argc > 2 ? std::atoi(argv[2]) : 10'000;
  if (const int failed = troupe::actors::measure_resident(requests, warm_up); failed != 0) return failed;
  return troupe::actors::measure_waste(128);
}
