// Which sessions are open, where callers' threads can look, and which requests are on their way to
// one: the first that was taken is the one that runs, and who frees a session behind a request that
// was taken frees it when that has arrived. Free of CAF.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <shared_mutex>
#include <utility>
#include <variant>
#include <vector>

#include "base/request.hpp"

namespace troupe::actors {

class SessionList : public std::enable_shared_from_this<SessionList> {
 public:
  // A request's way to its session, from submit() until it has arrived at the scheduler, or ended
  // before.
  class Way {
   public:
    Way() = default;
    Way(std::shared_ptr<SessionList> list, uint64_t session)
        : list_(std::move(list)), session_(session) {}
    Way(Way&& other) noexcept = default;
    Way& operator=(Way&& other) noexcept;
    ~Way();
    [[nodiscard]] uint64_t session() const { return session_; }
    // True: the session was freed meanwhile, and whoever asks is to do it.
    bool arrive();

   private:
    std::shared_ptr<SessionList> list_;  // null: no session, or the way is over
    uint64_t session_ = 0;
  };

  // Refused where the session is not open (first 0), or another request is on its way there.
  struct Refused {
    RequestId first = 0;
  };
  std::variant<Way, Refused> set_out(uint64_t session, RequestId request);
  // A request is on its way there.
  [[nodiscard]] bool expects(uint64_t session) const;
  // False: nobody is on the way there, and it can be freed at once.
  bool free_behind(uint64_t session);

  // ---- the scheduler's actor ----
  // `ids` ascending.
  void replace(std::vector<uint64_t> ids);
  // Sessions that were freed behind requests which never arrived: to be freed now.
  std::vector<uint64_t> take_left();

 private:
  struct Expected {
    RequestId request = 0;
    bool freed = false;
  };
  // The way is over; true: its session was freed behind it.
  bool end_way(uint64_t session);
  void leave(uint64_t session);

  mutable std::shared_mutex mutex_;
  std::vector<uint64_t> ids_;
  std::map<uint64_t, Expected> expected_;
  std::vector<uint64_t> left_;
  std::atomic<bool> some_left_{false};
};

}  // namespace troupe::actors
