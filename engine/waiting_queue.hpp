// The waiting sequences, best rank first. A sorted vector: it is short, read at its head at every
// step and changed rarely.
#pragma once

#include <algorithm>
#include <vector>

#include "engine/sequence.hpp"

namespace troupe::engine {

class WaitingQueue {
 public:
  void insert(Sequence* s) {
    s->phase = Phase::waiting;
    sequences_.insert(std::upper_bound(sequences_.begin(), sequences_.end(), s, worse), s);
  }
  void remove(Sequence* s) {
    const auto range = std::equal_range(sequences_.begin(), sequences_.end(), s, worse);
    const auto at = std::find(range.first, range.second, s);
    TR_ASSERT(at != range.second);
    sequences_.erase(at);
  }
  Sequence* pop_best() {
    Sequence* best = sequences_.back();
    sequences_.pop_back();
    return best;
  }
  [[nodiscard]] Sequence* best() const { return sequences_.empty() ? nullptr : sequences_.back(); }
  [[nodiscard]] bool empty() const { return sequences_.empty(); }
  [[nodiscard]] size_t size() const { return sequences_.size(); }
  [[nodiscard]] const std::vector<Sequence*>& all() const { return sequences_; }

 private:
  static bool worse(const Sequence* a, const Sequence* b) { return ranks_above(*b, *a); }
  std::vector<Sequence*> sequences_;  // worst first: the head is taken from the end
};

}  // namespace troupe::engine
