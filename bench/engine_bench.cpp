// What scheduling costs: microseconds of one thread per decode step at 256 sequences, for planning,
// laying the plan out flat and committing the result. No device: results are made up beforehand.
#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/clock.hpp"
#include "engine/scheduler.hpp"

namespace {

using namespace troupe;
using namespace troupe::engine;

struct Times {
  std::vector<double> plan, seal, commit;
};

double us(int64_t from, int64_t to) { return static_cast<double>(to - from) / 1000.0; }

double at(std::vector<double> v, double share) {
  std::sort(v.begin(), v.end());
  return v[static_cast<size_t>(share * static_cast<double>(v.size() - 1))];
}

Times measure(int32_t sequences, int32_t prompt, int32_t groups, bool overlap, int32_t steps) {
  SchedulerConfig c;
  c.slots = sequences;
  c.step_rows = sequences + 2048;
  c.context_length = 1 << 20;
  c.vocab = 32000;
  c.overlap = overlap;
  for (int32_t g = 0; g < groups; ++g) {
    models::CacheGroup group;
    group.cache.blocks = sequences * (prompt + steps + sequences * prompt / 2048 + 64) / 16 + 1024;
    if (g > 0) {
      group.kind = models::CacheKind::window;
      group.window = 1024;
    }
    c.groups.push_back(group);
  }
  Scheduler scheduler(c);
  Outputs out;
  for (int32_t i = 0; i < sequences; ++i) {
    Job job;
    job.id = static_cast<uint64_t>(i) + 1;
    job.sampling.max_tokens = -1;
    job.sampling.stop_tokens = {2};
    for (int32_t t = 0; t < prompt; ++t) job.prompt.tokens.push_back((t * 31 + i) % 32000);
    if (!scheduler.admit(std::move(job)).ok()) std::abort();
  }
  StepPlanDraft draft;
  std::vector<std::byte> bytes;
  StepResult results[2];
  uint64_t planned = 0, committed = 0;
  Times times;
  const size_t depth = overlap ? 2 : 1;
  while (times.commit.size() < static_cast<size_t>(steps)) {
    const int64_t a = steady_now_ns();
    if (!scheduler.plan(a, draft, out)) std::abort();
    const int64_t b = steady_now_ns();
    draft.seal(bytes);
    const int64_t d = steady_now_ns();
    const bool decoding = draft.answers() == static_cast<size_t>(sequences) && draft.token_ids.size() <= draft.answers();
    StepResult& fresh = results[planned++ % 2];
    fresh.step = draft.step;
    fresh.tokens.clear();
    for (size_t i = 0; i < draft.answers(); ++i) {
      fresh.tokens.push_back({.token = static_cast<int32_t>(100 + (i * 7 + planned) % 30000)});
    }
    if (static_cast<size_t>(scheduler.steps_in_flight()) < depth) continue;
    out.clear();
    const int64_t e = steady_now_ns();
    if (!scheduler.commit(results[committed++ % 2], e, out).ok()) std::abort();
    const int64_t f = steady_now_ns();
    if (!decoding) continue;
    times.plan.push_back(us(a, b));
    times.seal.push_back(us(b, d));
    times.commit.push_back(us(e, f));
  }
  return times;
}

}  // namespace

int main() {
  struct World {
    const char* name;
    int32_t sequences, prompt, groups;
    bool overlap;
  };
  const World worlds[] = {{"256 sequences of 500", 256, 500, 1, true},
                          {"the same, no overlap", 256, 500, 1, false},
                          {"256 of 500, two groups", 256, 500, 2, true},
                          {"256 sequences of 4000", 256, 4000, 1, true},
                          {"16 sequences of 500", 16, 500, 1, true}};
  std::printf("%-26s %28s\n%-26s %8s %8s %8s %8s %8s\n", "", "us per decode step, median", "", "plan",
              "seal", "commit", "sum", "sum p99");
  for (const World& w : worlds) {
    measure(w.sequences, w.prompt, w.groups, w.overlap, 50);
    const Times t = measure(w.sequences, w.prompt, w.groups, w.overlap, 600);
    std::printf("%-26s %8.1f %8.1f %8.1f %8.1f %8.1f\n", w.name, at(t.plan, 0.5), at(t.seal, 0.5),
                at(t.commit, 0.5), at(t.plan, 0.5) + at(t.seal, 0.5) + at(t.commit, 0.5),
                at(t.plan, 0.99) + at(t.seal, 0.99) + at(t.commit, 0.99));
  }
  return 0;
}
