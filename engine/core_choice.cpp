#include "engine/core_choice.hpp"

#include <numeric>
#include <string>
#include <utility>

#include "base/assert.hpp"
#include "base/log.hpp"

namespace troupe::engine {

// The system has moved the thread, or the work has changed: what was gathered is of something else.
bool CoreChoice::begin_elsewhere(int32_t sequences) {
  const bool changed = !alike(sequences);
  sequences_ = sequences;
  // Times of other work can't be compared with those seen so far.
  if (changed && !seen_.empty()) {
    const int32_t home = seen_.front().core;
    pause();
    if (cores_.now() != home) return go(home);
  }
  begin_window();
  return false;
}

void CoreChoice::begin_window() {
  core_ = cores_.now();
  settling_ = kSettleSteps;
  steps_ = 0;
}

int64_t CoreChoice::take_mean_ns() {
  constexpr int32_t kCounted = kWindowSteps - kOutliers;
  std::nth_element(ns_.begin(), ns_.begin() + kCounted, ns_.end());
  steps_ = 0;
  return std::accumulate(ns_.begin(), ns_.begin() + kCounted, int64_t{0}) / kCounted;
}

bool CoreChoice::judge() {
  const int64_t mean_ns = take_mean_ns();
  if (seen_.empty()) {
    if (pause_left_ > 0) --pause_left_;
    if (pause_left_ > 0 || mean_ns <= bound_ns()) return false;
    note_tried(core_);
    find_cores();
    if (left_.empty()) {
      pause();
      return false;
    }
  }
  seen_.push_back({core_, mean_ns});
  return mean_ns <= bound_ns() || left_.empty() ? settle() : try_next();
}

// Those that were never tried come first, then those that were so the longest ago.
void CoreChoice::find_cores() {
  left_ = cores_.others();
  const auto when = [this](int32_t core) {
    const auto at = std::find_if(tried_.begin(), tried_.end(),
                                 [core](const Tried& t) { return t.core == core; });
    return at == tried_.end() ? uint64_t{0} : at->when;
  };
  std::stable_sort(left_.begin(), left_.end(),
                   [&](int32_t a, int32_t b) { return when(a) < when(b); });
  if (left_.size() > kTries) left_.resize(kTries);
  std::reverse(left_.begin(), left_.end());
}

bool CoreChoice::try_next() {
  TR_ASSERT(!left_.empty() && !seen_.empty());
  const int32_t core = left_.back();
  left_.pop_back();
  note_tried(core);
  return go(core);
}

void CoreChoice::note_tried(int32_t core) {
  const auto at =
      std::find_if(tried_.begin(), tried_.end(), [core](const Tried& t) { return t.core == core; });
  if (at == tried_.end()) {
    tried_.push_back({core, ++tries_});
  } else {
    at->when = ++tries_;
  }
}

bool CoreChoice::settle() {
  const auto faster = [](const Seen& a, const Seen& b) { return a.ns < b.ns; };
  TR_ASSERT(!seen_.empty());
  const Seen home = seen_.front();
  Seen best = *std::min_element(seen_.begin(), seen_.end(), faster);
  if (best.ns > home.ns / 8 * 7) best = home;  // no better but by chance
  if (log_wanted(LogLevel::debug)) {
    log(LogLevel::debug, "executor: steps of " + std::to_string(sequences_) +
                             " sequences took the host " + std::to_string(home.ns / 1000) +
                             " us on core " + std::to_string(home.core) + "; of " +
                             std::to_string(seen_.size() - 1) + " others tried it keeps core " +
                             std::to_string(best.core) + ", " + std::to_string(best.ns / 1000) +
                             " us");
  }
  pause();
  return best.core != core_ && go(best.core);
}

void CoreChoice::pause() {
  seen_.clear();
  left_.clear();
  pause_ = std::min(2 * pause_, kPauseMost);
  pause_left_ = pause_;
}

bool CoreChoice::go(int32_t core) {
  const bool gone = cores_.go(core);
  begin_window();
  return gone;
}

}  // namespace troupe::engine
