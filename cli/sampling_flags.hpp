// The flags that say how tokens are drawn.
#pragma once

#include <CLI/App.hpp>
#include <string>

#include "openai/sampling.hpp"

namespace troupe::cli {

// How each token is drawn: temperature, nucleus, penalties, seed.
void declare_draw(CLI::App& app, troupe_sampling& raw);

// That, and what an answer is and where it ends.
struct SamplingFlags {
  openai::Sampling sampling;
  bool ignore_eos = false, include_stop = false, keep_special = false;

  void declare(CLI::App& app);
  [[nodiscard]] troupe_error* apply(troupe_request* request);
};

}  // namespace troupe::cli
