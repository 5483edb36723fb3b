// Many requests at once through scheduler and executor alone, in one thread: what the serving bench
// takes without actors, C ABI or SDK in between, to hold those against.
//
//   bench_gpu_loop SHAPE LENGTHS.json [REPEATS]      # SHAPE: a folder that shapes.py wrote
//
// The model gets seeded random weights. Prints one JSON object a run; the first of all warms up.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/executor_core.hpp"
#include "engine/sampling_plan.hpp"
#include "engine/scheduler.hpp"
#include "engine/step_defaults.hpp"
#include "engine/step_loop.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "models/model.hpp"

namespace {

using namespace troupe;
using namespace troupe::engine;

template <class T>
T or_end(Result<T> r) {
  if (r.ok()) return std::move(r).value();
  std::fprintf(stderr, "bench_gpu_loop: %s\n", r.status().message().c_str());
  std::exit(1);
}
void or_end(const Status& s) {
  if (s.ok()) return;
  std::fprintf(stderr, "bench_gpu_loop: %s\n", s.message().c_str());
  std::exit(1);
}

struct Lengths {
  int32_t input, output;
};

std::vector<Lengths> requests_of(const char* path) {
  const auto list = nlohmann::json::parse(std::ifstream(path), nullptr, false);
  std::vector<Lengths> out;
  for (const auto& pair : list.is_object() ? list.value("requests", list) : list) {
    if (pair.is_array() && pair.size() == 2) out.push_back({pair[0], pair[1]});
  }
  if (!out.empty()) return out;
  std::fprintf(stderr, "bench_gpu_loop: %s: must be a JSON list of [input, output]\n", path);
  std::exit(1);
}

SchedulerConfig config_of(const models::ModelFacts& facts, const std::vector<Lengths>& requests) {
  SchedulerConfig c;
  c.facts = facts;
  c.vocab = facts.vocab;
  c.context_length = facts.context_length;
  c.block_tokens = kDeviceSteps.block_tokens;
  c.slots = static_cast<int32_t>(requests.size());
  c.step_rows = kDeviceSteps.step_rows;
  c.long_step_rows = kDeviceSteps.long_step_rows;
  c.prompt_rows_beside = kDeviceSteps.prompt_rows_beside;
  c.logit_rows = c.slots + 256;
  c.prefix_reuse = false;
  c.groups = facts.groups;
  int32_t blocks = 1;
  for (const Lengths& r : requests) blocks += (r.input + r.output) / c.block_tokens + 2;
  for (models::CacheGroup& g : c.groups) g.cache.blocks = blocks;
  return c;
}

void admit(Scheduler& scheduler, const std::vector<Lengths>& requests, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int32_t> token(300, scheduler.config().vocab - 1);
  static uint64_t id = 0;
  for (const Lengths& r : requests) {
    Job job;
    job.id = ++id;
    for (int32_t t = 0; t < r.input; ++t) job.prompt.tokens.push_back(token(random));
    SamplingParams params;
    params.temperature = 0.0F;
    params.max_tokens = r.output;
    params.ignore_eos = true;
    job.sampling = or_end(plan_sampling(params, {}, scheduler.config().facts, {}, 0));
    or_end(scheduler.admit(std::move(job)));
  }
}

void run(Scheduler& scheduler, StepExecutor& executor, const std::vector<Lengths>& requests,
         unsigned seed) {
  const auto begin = std::chrono::steady_clock::now();
  admit(scheduler, requests, seed);
  const SteadyClock clock;
  StepLoop loop(scheduler, executor, clock);
  size_t tokens = 0;
  Outputs out;
  while (!scheduler.idle()) {
    or_end(loop.turn(out));
    tokens += out.tokens.size();
    out = {};
  }
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  const nlohmann::json figures = {
      {"bench", "serving, one thread"},
      {"requests_per_s", static_cast<double>(requests.size()) / wall.count()},
      {"output_tokens_per_s", static_cast<double>(tokens) / wall.count()},
      {"wall_s", wall.count()}};
  std::printf("%s\n", figures.dump().c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "bench_gpu_loop SHAPE LENGTHS.json [REPEATS]\n");
    return 2;
  }
  const std::vector<Lengths> requests = requests_of(argv[2]);
  const auto backend = or_end(cuda::CudaBackend::open(0));
  models::LoadOptions options;
  options.format = models::LoadFormat::dummy;
  options.block_tokens = kDeviceSteps.block_tokens;
  const auto folder = or_end(models::ModelFolder::open(argv[1], options));
  const auto model = or_end(models::Model::load(folder, *backend, nullptr, options));
  const SchedulerConfig config = config_of(model->facts(), requests);
  const auto executor = or_end(ExecutorCore::open(
      *backend, *model, config.groups, {config.slots, config.step_rows, config.logit_rows}));
  const int repeats = argc > 3 ? std::atoi(argv[3]) : 2;
  Scheduler scheduler(config);
  for (int i = 0; i <= repeats; ++i) run(scheduler, *executor, requests, static_cast<unsigned>(i));
  return 0;
}
