// A request inside the scheduler: its job, which never changes, and one Sequence per choice, split
// by what moves together: progress (tokens) and lease (what it holds of the cache and the device).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <vector>

#include "engine/block_key.hpp"
#include "engine/job.hpp"
#include "engine/kv_groups.hpp"

namespace troupe::engine {

// held: a further choice, until the first one has read the prompt for all of them.
enum class Phase : uint8_t { held, waiting, running, finished };

struct JobState;

// INV-SCHED-6: fixed when the request comes, yet it ages: one level of priority is worth ageing_ns
// of waiting, for everybody alike.
struct Rank {
  int64_t merit = 0;   // priority * ageing_ns - submitted_ns
  uint64_t order = 0;  // of admission

  [[nodiscard]] bool above(const Rank& other) const {
    return merit != other.merit ? merit > other.merit : order < other.order;
  }
};

// What a choice has said. The last few tokens stand here, beside what else a step looks at, and only
// now and then go to the list of all, which lies in a page of memory of its own.
class OutputTokens {
 public:
  void reserve(size_t tokens) { settled_.reserve(tokens); }
  void push_back(int32_t token) {
    if (recent_count_ == recent_.size()) settle();
    recent_[recent_count_++] = token;
  }
  // Many at once: token_at(i) for i in [first, last).
  template <class F>
  void append(int32_t first, int32_t last, F&& token_at) {
    settle();
    size_t at = settled_.size();
    settled_.resize(at + static_cast<size_t>(last - first));
    for (int32_t i = first; i < last; ++i) settled_[at++] = token_at(i);
  }
  [[nodiscard]] size_t size() const { return settled_.size() + recent_count_; }
  [[nodiscard]] bool empty() const { return size() == 0; }
  [[nodiscard]] int32_t operator[](size_t i) const {
    return i < settled_.size() ? settled_[i] : recent_[i - settled_.size()];
  }
  void fetch() const {
    for (size_t line = 0; line < 3; ++line) __builtin_prefetch(settled_.data() + settled_.size() + 16 * line, 1);
  }
  [[nodiscard]] std::span<const int32_t> all() {
    settle();
    return settled_;
  }
  // Only the first `tokens` stay.
  void shorten(size_t tokens) {
    settle();
    settled_.resize(tokens);
  }

 private:
  void settle() {
    settled_.insert(settled_.end(), recent_.begin(), recent_.begin() + recent_count_);
    recent_count_ = 0;
  }
  std::vector<int32_t> settled_;
  std::array<int32_t, 8> recent_{};
  uint32_t recent_count_ = 0;
};

struct Progress {
  OutputTokens output;
  int32_t computed = 0;  // tokens whose KV the steps planned so far write
  int32_t pending = 0;   // tokens drawn by steps in flight, not known here yet
  int32_t in_flight = 0; // steps in flight that this sequence is part of
  int32_t scores_asked = 0;  // prompt positions whose successor's logprob has been asked for …
  int32_t scores_got = 0;    // … and has come
};

struct Lease {
  int32_t slot = -1;
  bool fresh = true;  // the slot does not know this sequence yet
  bool encoded = false;  // its blocks hold the encoder rows of its pictures (cross-attention)
  KvTables kv;
};

// What every step asks of a sequence's job, kept beside it: steady decoding of hundreds of sequences
// is as fast as their cache lines are few.
struct Terms {
  RequestId request = 0;
  int32_t prompt_len = 0;
  int32_t output_max = 0;  // max_tokens, or what the context leaves
  int32_t stop_low = 0, stop_high = -1;  // no token outside them stops it
  int32_t logprobs = -1;   // SamplingPlan's
  int32_t cross_rows = 0;  // Prompt's
  bool plain_rows = false;  // no images, no scores, nothing optional: a row is a token and its place
  bool plain_draw = false;  // and a draw is `draw` at another position

  [[nodiscard]] bool may_stop(int32_t token) const {
    return token >= stop_low && token <= stop_high;
  }
};

// In the order in which a step looks at it: steady decoding needs what stands before `draw`.
struct alignas(64) Sequence {
  Terms terms;
  Progress progress;
  int32_t choice = 0;
  Phase phase = Phase::held;
  JobState* job = nullptr;
  Lease lease;
  PlanSampling draw;           // how its tokens are drawn, but for the position and what lists add
  std::vector<BlockKey> keys;  // of the full blocks of known tokens

  [[nodiscard]] int32_t known() const {
    return terms.prompt_len + static_cast<int32_t>(progress.output.size());
  }
  [[nodiscard]] int32_t length() const { return known() + progress.pending; }
  [[nodiscard]] int32_t token(int32_t position) const;
};

// Its lines are on their way when the loop over all sequences comes to it.
inline constexpr size_t kPrefetchAhead = 6;
inline void prefetch(const Sequence* s) {
  const auto* bytes = reinterpret_cast<const char*>(s);
  for (size_t line = 0; line < offsetof(Sequence, draw); line += 64) __builtin_prefetch(bytes + line, 1);
}

// What a new block changes: its lease, and then what that leads to.
inline void prefetch_lease(const Sequence& s) {
  __builtin_prefetch(&s.terms);
  __builtin_prefetch(&s.lease, 1);
  __builtin_prefetch(&s.lease.kv.all_told, 1);
}
inline void prefetch_tables(const Sequence& s) { __builtin_prefetch(s.lease.kv.groups.data(), 1); }
// Likewise the lists that it leads to, when its own lines are there.
inline void prefetch_lists(const Sequence& s) {
  s.progress.output.fetch();
  __builtin_prefetch(s.keys.data() + s.keys.size(), 1);
  prefetch_tables(s);
}

struct JobState {
  // `sequences`: where choices are made, so that those of many requests stand side by side.
  explicit JobState(std::pmr::memory_resource* sequences) : choices(sequences) {}
  Job spec;
  Rank rank;
  BlockKey root;
  std::pmr::vector<Sequence> choices;
  int32_t unfinished = 0;
  int32_t restarts = 0;
  bool started = false, ended = false;
  int64_t started_ns = 0, first_token_ns = 0;
  int32_t cached_tokens = 0;

  [[nodiscard]] int32_t prompt_len() const { return static_cast<int32_t>(spec.prompt.tokens.size()); }
  [[nodiscard]] bool in_flight() const {
    for (const Sequence& s : choices) {
      if (s.progress.in_flight > 0) return true;
    }
    return false;
  }
};

inline int32_t Sequence::token(int32_t position) const {
  const int32_t prompt = terms.prompt_len;
  return position < prompt ? job->spec.prompt.tokens[static_cast<size_t>(position)]
                           : progress.output[static_cast<size_t>(position - prompt)];
}
inline bool ranks_above(const Sequence& a, const Sequence& b) {
  if (a.job == b.job) return a.choice < b.choice;
  return a.job->rank.above(b.job->rank);
}

// Fills `terms` and `draw` from the job, once it has its place.
void settle_terms(Sequence& sequence, int32_t output_max);

// Names the full blocks of known tokens that have no key yet.
void extend_keys(Sequence& sequence, int32_t block_tokens);

}  // namespace troupe::engine
