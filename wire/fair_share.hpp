// One client's share of the thread that reads for all of them.
//
// Work is charged in time. A client may be ahead of its share by kBurst_ns; what goes beyond must
// wait, which the shell does by not reading, so that it waits in its sender, behind TCP. Nobody is
// charged while nobody else has anything running (ServerCore::crowded).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "wire/protocol.hpp"

namespace troupe::wire {

class FairShare {
 public:
  static constexpr int64_t kBurst_ns = 500'000'000;

  // True: this went beyond the share.
  bool charge(int64_t cost_ns, int64_t now_ns) {
    paid_until_ns_ = std::max(paid_until_ns_, now_ns) + cost_ns;
    const bool beyond = paid_until_ns_ > now_ns + kBurst_ns;
    paid_until_ns_ = std::min(paid_until_ns_, now_ns + kBurst_ns + kDebt_ns);
    return beyond;
  }
  // From when on work of `cost_ns` stays within the share.
  [[nodiscard]] int64_t affordable_ns(int64_t cost_ns) const {
    return paid_until_ns_ + cost_ns - kBurst_ns;
  }

  // What reading a message is worth: 2,000 messages, 1,000 requests or 64 MB in a second.
  static int64_t cost_of(Kind kind, size_t bytes) {
    return (kind == Kind::submit ? 1'000'000 : 500'000) + cost_of_bytes(bytes);
  }
  static int64_t cost_of_bytes(size_t bytes) { return static_cast<int64_t>(bytes) * 1'000 / 64; }

 private:
  static constexpr int64_t kDebt_ns = 100'000'000;
  int64_t paid_until_ns_ = 0;
};

}  // namespace troupe::wire
