// troupe bench: latency, throughput, prefill and serving of any model, through the C ABI like any
// user. Greedy unless asked otherwise, end of sequence ignored, so that lengths are exact; prompts
// are random token ids.

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "cli/engine_flags.hpp"
#include "cli/exit_codes.hpp"
#include "cli/lengths.hpp"
#include "cli/numbers.hpp"
#include "cli/sampling_flags.hpp"
#include "cli/sink.hpp"
#include "cli/terminal.hpp"
#include "cli/verbs.hpp"
#include "cli/workload.hpp"

namespace troupe::cli {
namespace {

using nlohmann::ordered_json;

struct Bench {
  EngineFlags engine;
  std::string lengths_file;
  int input = 128, output = 256, repeats = 3;
  std::vector<int> batches = {1};
  double rate = 0.0;
  bool as_json = false;
  uint64_t seed = 0;
  troupe_sampling sampling = greedy();
};

struct Measured {
  ordered_json figures;
  Stop stop;
};

double median_of(const std::vector<WorkloadResult>& runs, double (*figure)(const WorkloadResult&)) {
  std::vector<double> values;
  for (const auto& run : runs) values.push_back(figure(run));
  return percentile(values, 0.5);
}

double spread_of(const std::vector<WorkloadResult>& runs) {
  std::vector<double> values;
  for (const auto& run : runs) values.push_back(run.wall_s);
  return percentile(values, 1.0) / percentile(values, 0.0) - 1.0;
}

int64_t tokens_of(const WorkloadResult& run) {
  int64_t tokens = 0;
  for (const auto& job : run.jobs) tokens += job.tokens;
  return tokens;
}

double total_rate(const WorkloadResult& run) {
  return static_cast<double>(tokens_of(run)) / run.wall_s;
}
double decode_rate(const WorkloadResult& run) {
  return run.all_running_s > 0.0 ? static_cast<double>(run.all_running_tokens) / run.all_running_s
                                 : NAN;
}
double first_token_ms(const WorkloadResult& run) {
  std::vector<double> values;
  for (const auto& job : run.jobs) values.push_back((job.first_s - job.submitted_s) * 1e3);
  return percentile(values, 0.5);
}
double last_first_token_s(const WorkloadResult& run) {
  double last = 0.0;
  for (const auto& job : run.jobs) last = std::max(last, job.first_s);
  return last;
}

std::vector<double> all_gaps_ms(const WorkloadResult& run) {
  std::vector<double> gaps;
  for (const auto& job : run.jobs) {
    for (const double gap : job.gaps_s) gaps.push_back(gap * 1e3);
  }
  return gaps;
}

// Runs `jobs` once to warm up and `repeats` times to measure.
std::vector<WorkloadResult> repeat(const Bench& bench, troupe_engine* handle, int32_t vocab,
                                   const std::vector<Job>& jobs, Interrupt& interrupt, Stop& stop) {
  std::vector<WorkloadResult> runs;
  for (int r = -1; r < bench.repeats && !stop; ++r) {
    auto run = run_workload(handle, jobs,
                            {.vocab = vocab,
                             .seed = bench.seed + static_cast<uint64_t>(r + 2),
                             .sampling = bench.sampling},
                            interrupt);
    stop = run.stop;
    if (r >= 0) runs.push_back(std::move(run));
  }
  return runs;
}

Measured measure_batches(const Bench& bench, troupe_engine* handle, int32_t vocab, int32_t output,
                         Interrupt& interrupt) {
  Measured measured;
  measured.figures = ordered_json::array();
  for (const int batch : bench.batches) {
    const std::vector<Job> jobs(static_cast<size_t>(batch), Job{bench.input, output, 0.0});
    const auto runs = repeat(bench, handle, vocab, jobs, interrupt, measured.stop);
    if (measured.stop) return measured;
    ordered_json row = {{"batch", batch}, {"input", bench.input}, {"output", output}};
    row["first_token_ms"] = median_of(runs, first_token_ms);
    row["prefill_tokens_per_s"] =
        static_cast<double>(batch) * bench.input / median_of(runs, last_first_token_s);
    if (output > 1) {
      row["total_tokens_per_s"] = median_of(runs, total_rate);
      row["decode_tokens_per_s"] = median_of(runs, decode_rate);
      row["inter_token_ms_p50"] = percentile(all_gaps_ms(runs.back()), 0.5);
      row["inter_token_ms_p99"] = percentile(all_gaps_ms(runs.back()), 0.99);
      if (const double all = median_of(runs, [](const WorkloadResult& r) { return r.host_us.all; });
          all >= 0.0) {  // it was measured
        row["host_us_per_step"] = all;
        row["host_us_planning"] =
            median_of(runs, [](const WorkloadResult& r) { return r.host_us.planning; });
        row["host_us_recording"] =
            median_of(runs, [](const WorkloadResult& r) { return r.host_us.recording; });
        row["host_us_telling"] =
            median_of(runs, [](const WorkloadResult& r) { return r.host_us.telling; });
        row["executor_moves"] = runs.back().executor_moves;
      }
    }
    row["spread"] = spread_of(runs);
    measured.figures.push_back(std::move(row));
  }
  return measured;
}

// One request after the other, `rate` a second on the average; 0: all at once.
void spread_arrivals(std::vector<Job>& jobs, double rate) {
  if (rate <= 0.0) return;
  std::mt19937_64 random(17);
  std::exponential_distribution<double> gap(rate);
  double now = 0.0;
  for (Job& job : jobs) {
    job.arrival_s = now;
    now += gap(random);
  }
}

Measured measure_serving(const Bench& bench, troupe_engine* handle, const troupe_info& info,
                         Interrupt& interrupt) {
  Measured measured;
  std::vector<Job> jobs =
      bench.lengths_file.empty()
          ? std::vector<Job>(static_cast<size_t>(bench.batches[0]),
                             Job{bench.input, bench.output, 0.0})
          : jobs_of_file(bench.lengths_file, info.context_length, interrupt, measured.stop);
  if (measured.stop) return measured;
  spread_arrivals(jobs, bench.rate);
  const auto runs = repeat(bench, handle, info.vocab_size, jobs, interrupt, measured.stop);
  if (measured.stop) return measured;
  int64_t input_tokens = 0;
  for (const Job& job : jobs) input_tokens += job.input;
  const WorkloadResult& last = runs.back();
  std::vector<double> firsts;
  for (const auto& job : last.jobs) firsts.push_back((job.first_s - job.submitted_s) * 1e3);
  const double wall = median_of(runs, [](const WorkloadResult& r) { return r.wall_s; });
  measured.figures = {{"requests", jobs.size()},
                      {"rate_per_s", bench.rate},
                      {"wall_s", wall},
                      {"requests_per_s", static_cast<double>(jobs.size()) / wall},
                      {"output_tokens_per_s", static_cast<double>(tokens_of(last)) / wall},
                      {"input_tokens_per_s", static_cast<double>(input_tokens) / wall},
                      {"first_token_ms_p50", percentile(firsts, 0.5)},
                      {"first_token_ms_p99", percentile(firsts, 0.99)},
                      {"inter_token_ms_p50", percentile(all_gaps_ms(last), 0.5)},
                      {"inter_token_ms_p99", percentile(all_gaps_ms(last), 0.99)},
                      {"spread", spread_of(runs)}};
  return measured;
}

// What lies on the device after the runs, by what took it.
ordered_json device_memory(troupe_engine* engine) {
  const std::string metrics = metrics_of(engine);
  ordered_json shares;
  for (const char* what : {"context", "modules", "graphs", "weights", "packed_weights", "cache",
                           "workspace"}) {
    const double bytes = metric_of(metrics, "device_memory_bytes", what);
    if (!std::isnan(bytes)) shares[what] = static_cast<int64_t>(bytes);
  }
  return shares;
}

using Measure = Measured (*)(const Bench&, troupe_engine*, const troupe_info&, Interrupt&);

Measured measure_decode(const Bench& bench, troupe_engine* handle, const troupe_info& info,
                        Interrupt& interrupt) {
  return measure_batches(bench, handle, info.vocab_size, bench.output, interrupt);
}
Measured measure_prefill(const Bench& bench, troupe_engine* handle, const troupe_info& info,
                         Interrupt& interrupt) {
  return measure_batches(bench, handle, info.vocab_size, 1, interrupt);
}

int run_bench(Bench& bench, const char* name, Measure measure, Interrupt& interrupt) {
  // Random prompts repeat between runs of one seed. How a served model is set up is not ours to
  // say, so it gets prompts that it has not seen.
  const bool remote =
      bench.engine.model.starts_with("tcp://") || bench.engine.model.starts_with("ipc://");
  if (remote) {
    bench.seed = std::random_device()();
  } else {
    bench.engine.no_prefix_reuse = true;
  }
  Opened opened = open_engine(bench.engine, interrupt);
  if (!opened.engine) return opened.exit_code;
  troupe_info info{};
  info.struct_size = sizeof info;
  const Error error(troupe_engine_info(opened.engine.get(), &info));
  if (error) return complain(kNoEngine, text_of(error.get()));
  const Measured measured = measure(bench, opened.engine.get(), info, interrupt);
  if (measured.stop) return complain(measured.stop);
  const ordered_json memory = device_memory(opened.engine.get());
  if (bench.as_json) {
    ordered_json object = {{"bench", name},
                           {"model", bench.engine.model},
                           {"family", info.family},
                           {"dtype", info.dtype},
                           {"device", info.device},
                           {"version", troupe_version_string()},
                           {"repeats", bench.repeats},
                           {"figures", measured.figures}};
    if (!memory.empty()) object["device_memory_bytes"] = memory;
    out().put(object.dump() + "\n");
    return kOk;
  }
  const auto rows =
      measured.figures.is_array() ? measured.figures : ordered_json::array({measured.figures});
  for (const auto& row : rows) {
    for (const auto& [key, value] : row.items()) {
      out().print("%-22s %s\n", key.c_str(),
                  value.is_number_float() ? std::to_string(value.get<double>()).c_str()
                                          : value.dump().c_str());
    }
    out().print("\n");
  }
  for (const auto& [what, bytes] : memory.items()) {
    out().print("%-22s %s\n", what.c_str(), human_bytes(bytes.get<long long>()).c_str());
  }
  return kOk;
}

struct Kind {
  const char* name;
  const char* summary;
  Measure measure;
};
constexpr Kind kKinds[] = {
    {"latency", "First token and decode speed, batch by batch", measure_decode},
    {"throughput", "The same with --batch many", measure_decode},
    {"prefill", "Prompt processing: one output token", measure_prefill},
    {"serving", "Many requests at once, or at --rate, from a list of lengths", measure_serving},
};

}  // namespace

Run declare_bench(CLI::App& app) {
  app.require_subcommand(1);
  auto run = std::make_shared<Run>();
  for (const Kind& kind : kKinds) {
    auto bench = std::make_shared<Bench>();
    CLI::App* sub = app.add_subcommand(kind.name, kind.summary);
    bench->engine.declare(*sub);
    sub->add_option("--in", bench->input, "Prompt tokens")->check(from_one());
    sub->add_option("--out", bench->output, "New tokens")->check(from_one());
    sub->add_option("--batch", bench->batches, "Requests at once; several: 1,8,64")
        ->delimiter(',')
        ->check(from_one());
    sub->add_option("--repeats", bench->repeats, "Measured runs, after one to warm up")
        ->check(from_one());
    sub->add_option("--lengths", bench->lengths_file,
                    "serving: a JSON list of [input, output], or {\"requests\": list}");
    sub->add_option("--rate", bench->rate, "serving: Poisson arrivals per second; 0: all at once")
        ->check(not_negative());
    sub->add_flag("--json", bench->as_json, "One JSON object");
    declare_draw(*sub, bench->sampling);
    sub->callback([run, bench, kind] {
      *run = [bench, kind](Interrupt& interrupt) {
        return run_bench(*bench, kind.name, kind.measure, interrupt);
      };
    });
  }
  declare_bench_vision(app, run);
  return [run](Interrupt& interrupt) { return (*run)(interrupt); };
}

}  // namespace troupe::cli
