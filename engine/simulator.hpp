// The simulator: one seed is one small world. Requests of all kinds come and are cancelled, cut,
// late; devices are slow and die; the cache is too small; sessions are forked and rewound. The whole
// engine runs on a virtual clock over the fake device, and every token is compared with what a naive
// loop over the same request would have drawn.
//
// Asserts, besides all invariants after every step: one end per request and nothing after it, tokens
// in order and right, all blocks back at the end, nobody waits for more than a bounded number of
// steps. Same seed, same world: `dev/sim --seed N` shows it.
#pragma once

#include <cstdint>
#include <string>

namespace troupe::engine {

struct SimulationReport {
  bool ok = true;
  std::string failure;  // what, when
  std::string trace;    // one line per event, when asked for
  int64_t steps = 0, requests = 0, tokens = 0, preemptions = 0, restarts = 0, cached_tokens = 0,
          speculative_dropped = 0, seen = 0;
  // Steps that only repeat the one before, and what broke in upon them.
  struct {
    int64_t steps = 0, cancels = 0, cuts = 0, crashes = 0, preemptions = 0;
  } sung;
};

SimulationReport simulate(uint64_t seed, bool with_trace);

}  // namespace troupe::engine
