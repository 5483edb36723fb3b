// Which core an executor's thread stays on. The work of a step is some hundred lines of code and data
// that are cold each time, so a core whose other hyperthread, or whose cache, somebody else uses makes
// it three times as long; and a thread that spins stays where it is for its whole life. Fed with what
// steps like one another took the host, this tells such a core, tries some others, and keeps the best.
//
//   - A window of steps is judged by its mean, and belongs to one core and one number of sequences.
//     What was interrupted says nothing of its core: a quarter of its steps, the longest, do not count.
//   - One above the bound begins a round: a few cores are tried, a window each, until one is below it.
//     The best is kept; where none is clearly better than home, the thread goes home.
//   - Rounds are rare: between two of them there is a pause, twice as long each time. So where every
//     core is slow, or the bound is not this machine's, the thread settles.
// Where nothing is slow a step costs some additions. Used by one thread, the one that goes.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/cores.hpp"

namespace troupe::engine {

class CoreChoice {
 public:
  // Full blocks get their names within 32 steps of decoding: a shorter window would hold more or less
  // of that work by chance.
  static constexpr int32_t kWindowSteps = 32;
  // A core that a thread has just come to is cold all over.
  static constexpr int32_t kSettleSteps = 4;
  // A step of 64 sequences takes 12 to 20 us on a core of its own and 40 to 59 on one that others
  // share, one of a single sequence 8 to 13 and 27 to 38, one of 256 some 32 and 49 to 130
  // (bench/results/2026-11-22-h200-host-4.md, -host-5.md, -engine-4.md).
  static constexpr int64_t kSlowNs = 18'000, kSlowNsOfSequence = 100;
  static constexpr int32_t kOutliers = 8;  // of a window, and what any other step counts at most:
  static constexpr int64_t kStepNsMost = 150'000;
  static constexpr int32_t kTries = 4;  // in a round
  // In windows; the longest is some minutes of a language model's steps.
  static constexpr int32_t kPauseLeast = 4, kPauseMost = 2048;

  explicit CoreChoice(Cores& cores) : cores_(cores) {}
  CoreChoice(const CoreChoice&) = delete;
  CoreChoice& operator=(const CoreChoice&) = delete;

  // A step that repeated the one before, and recorded nothing, took the host so long. True: that took
  // the calling thread to another core.
  bool note(int64_t host_ns, int32_t sequences) {
    if (cores_.now() != core_ || !alike(sequences)) return begin_elsewhere(sequences);
    if (settling_ > 0) {
      --settling_;
      return false;
    }
    ns_[static_cast<size_t>(steps_++)] = static_cast<int32_t>(std::min(host_ns, kStepNsMost));
    return steps_ == kWindowSteps && judge();
  }

 private:
  struct Seen {
    int32_t core;
    int64_t ns;
  };
  struct Tried {
    int32_t core;
    uint64_t when;  // the larger, the later
  };

  // Within a quarter of the first one's number.
  [[nodiscard]] bool alike(int32_t sequences) const {
    const int32_t more = sequences - sequences_;
    return 4 * (more < 0 ? -more : more) <= sequences_;
  }
  [[nodiscard]] int64_t bound_ns() const { return kSlowNs + kSlowNsOfSequence * sequences_; }
  // These answer as note() does.
  bool begin_elsewhere(int32_t sequences);
  bool judge();
  bool try_next();
  bool settle();
  bool go(int32_t core);
  void begin_window();
  int64_t take_mean_ns();
  void find_cores();
  void note_tried(int32_t core);
  void pause();

  Cores& cores_;
  int32_t core_ = -1, sequences_ = 0;  // the window's
  int32_t settling_ = 0, steps_ = 0;
  std::array<int32_t, kWindowSteps> ns_{};
  int32_t pause_ = kPauseLeast / 2, pause_left_ = 0;
  std::vector<Seen> seen_;      // in this round, home first; empty: nothing is being tried
  std::vector<int32_t> left_;   // to be tried, the next one last
  std::vector<Tried> tried_;    // and homes, in any round
  uint64_t tries_ = 0;
};

}  // namespace troupe::engine
