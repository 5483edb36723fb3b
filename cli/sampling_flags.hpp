// The flags that say how tokens are drawn.
#pragma once

#include <CLI/App.hpp>
#include <string>

#include "openai/sampling.hpp"

namespace troupe::cli {

struct SamplingFlags {
  openai::Sampling sampling;
  bool ignore_eos = false, include_stop = false, keep_special = false;

  void declare(CLI::App& app);
  [[nodiscard]] troupe_error* apply(troupe_request* request);
};

}  // namespace troupe::cli
