// Synthetic requests for benches: token prompts of given lengths, driven through the engine together
// or at their arrival times, with every token's time noted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/handles.hpp"
#include "cli/interrupt.hpp"

namespace troupe::cli {

struct Job {
  int32_t input = 0;
  int32_t output = 0;
  double arrival_s = 0.0;  // 0: at once
};

struct JobResult {
  double submitted_s = 0.0, first_s = 0.0, last_s = 0.0;
  int64_t tokens = 0;
  std::vector<double> gaps_s;  // between deliveries, each over its number of tokens
};

struct WorkloadResult {
  double wall_s = 0.0;
  double all_running_s = 0.0;      // how long all jobs were decoding at once
  int64_t all_running_tokens = 0;  // tokens that came in that time
  std::vector<JobResult> jobs;
  std::string problem;  // empty: all went well
};

// `vocab` bounds the random token ids; `seed` makes prompts differ between repeats.
WorkloadResult run_workload(troupe_engine* engine, const std::vector<Job>& jobs, int32_t vocab,
                            uint64_t seed, Interrupt& interrupt);

double percentile(std::vector<double> values, double q);

}  // namespace troupe::cli
