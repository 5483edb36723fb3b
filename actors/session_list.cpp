#include "actors/session_list.hpp"

#include <algorithm>

namespace troupe::actors {

SessionList::Way& SessionList::Way::operator=(Way&& other) noexcept {
  std::swap(list_, other.list_);
  std::swap(session_, other.session_);
  return *this;
}

SessionList::Way::~Way() {
  if (list_ != nullptr) list_->leave(session_);
}

bool SessionList::Way::arrive() {
  const auto list = std::exchange(list_, nullptr);
  return list != nullptr && list->end_way(session_);
}

std::variant<SessionList::Way, SessionList::Refused> SessionList::set_out(uint64_t session,
                                                                          RequestId request) {
  const std::scoped_lock lock(mutex_);
  if (!std::binary_search(ids_.begin(), ids_.end(), session)) return Refused{};
  const auto [at, alone] = expected_.try_emplace(session, Expected{request, false});
  if (!alone) return at->second.freed ? Refused{} : Refused{at->second.request};
  return Way(shared_from_this(), session);
}

bool SessionList::expects(uint64_t session) const {
  const std::shared_lock lock(mutex_);
  return expected_.contains(session);
}

bool SessionList::free_behind(uint64_t session) {
  const std::scoped_lock lock(mutex_);
  const auto at = expected_.find(session);
  if (at == expected_.end()) return false;
  at->second.freed = true;
  return true;
}

void SessionList::replace(std::vector<uint64_t> ids) {
  const std::scoped_lock lock(mutex_);
  ids_ = std::move(ids);
}

std::vector<uint64_t> SessionList::take_left() {
  if (!some_left_.load(std::memory_order_acquire)) return {};
  const std::scoped_lock lock(mutex_);
  some_left_.store(false, std::memory_order_relaxed);
  return std::exchange(left_, {});
}

bool SessionList::end_way(uint64_t session) {
  const std::scoped_lock lock(mutex_);
  const auto node = expected_.extract(session);
  return !node.empty() && node.mapped().freed;
}

void SessionList::leave(uint64_t session) {
  const std::scoped_lock lock(mutex_);
  const auto node = expected_.extract(session);
  if (node.empty() || !node.mapped().freed) return;
  left_.push_back(session);
  some_left_.store(true, std::memory_order_release);
}

}  // namespace troupe::actors
