// Synthetic requests for benches: token prompts of given lengths, with a picture or not, driven through
// the engine together or at their arrival times, with every token's time noted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/exit_codes.hpp"
#include "cli/handles.hpp"
#include "cli/interrupt.hpp"

namespace troupe::cli {

struct Page {  // RGB
  std::vector<unsigned char> pixels;
  int32_t width = 0, height = 0;
};

struct Job {
  int32_t input = 0;   // tokens
  int32_t output = 0;  // likewise; 0, with a picture: its rows are the answer
  double arrival_s = 0.0;      // 0: at once
  const Page* page = nullptr;  // stands before the tokens
};

struct JobResult {
  double submitted_s = 0.0, first_s = 0.0, last_s = 0.0, ended_s = 0.0;
  int64_t tokens = 0, rows = 0;
  std::vector<double> gaps_s;  // between deliveries, each over its number of tokens
};

struct WorkloadResult {
  double wall_s = 0.0;
  double all_running_s = 0.0;      // how long all jobs were decoding at once
  int64_t all_running_tokens = 0;  // tokens that came in that time
  // Microseconds of the device's thread per step by the engine's own clock, from when all had a
  // first token to when the first one ended; below zero: it was never so.
  struct Host {
    double all = -1.0;       // without the waits for the device, and without recordings
    double planning = -1.0;  // of these, the scheduler's
    double recording = -1.0;  // beside these: recording steps, once for each kind in a process
    double telling = -1.0;   // bringing tokens to whoever asked; of these, unless other threads do it
  } host_us;
  double executor_moves = -1.0;  // from core to core, since the engine was opened; likewise
  std::vector<JobResult> jobs;
  Stop stop;  // none: all went well
};

troupe_sampling greedy();

struct WorkloadOptions {
  int32_t vocab = 0;    // bounds the random token ids
  uint64_t seed = 0;    // makes prompts differ between repeats
  size_t at_once = ~size_t{0};          // jobs in flight
  troupe_sampling sampling = greedy();  // of every job; its length is the job's
};

WorkloadResult run_workload(troupe_engine* engine, const std::vector<Job>& jobs,
                            const WorkloadOptions& options, Interrupt& interrupt);

// The engine's metrics: the value of the first line of this name, and of this label if one is given.
double metric_of(const std::string& metrics, const std::string& name, const std::string& label = {});
std::string metrics_of(troupe_engine* engine);

double percentile(std::vector<double> values, double q);

}  // namespace troupe::cli
