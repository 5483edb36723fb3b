// One client's share: of the thread that reads for all of them, and of the engine's door.
//
// Work is charged in time. A client may be ahead of its share by kBurst_ns; what goes beyond must
// wait. A message waits in its sender, behind TCP, because the shell does not read for so long;
// since nobody else is read meanwhile, that time is short. A request that was read waits in the
// server, and nobody waits with it. Nobody is charged while nobody else has anything running
// (ServerCore::crowded).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

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

  // What reading a message is worth: 10,000 messages or 64 MB in a second.
  static constexpr int64_t kMessage_ns = 100'000;
  static int64_t cost_of_message(size_t bytes) { return kMessage_ns + cost_of_bytes(bytes); }
  // And what it is worth that the engine gets a request: 1,000 in a second.
  static constexpr int64_t kStart_ns = 1'000'000;
  static int64_t cost_of_bytes(size_t bytes) { return static_cast<int64_t>(bytes) * 1'000 / 64; }

 private:
  static constexpr int64_t kDebt_ns = 100'000'000;
  int64_t paid_until_ns_ = 0;
};

}  // namespace troupe::wire
