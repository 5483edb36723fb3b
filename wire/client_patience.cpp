// ClientCore's patience: how long who asks waits for the server's word, and what becomes of a
// request that nobody waits for any more.
#include <algorithm>
#include <limits>
#include <utility>

#include "wire/client_core.hpp"

namespace troupe::wire {
namespace {

constexpr int64_t kMs = 1'000'000;
// What was sent is given the time that it takes on a slow line, 128 KiB a second, in which the
// server may have nothing to answer yet.
constexpr int64_t kByte_ns = 1'000'000'000 / (128 << 10);
// The rest of an upload after the last leave to send.
constexpr uint64_t kLastLeave = uint64_t{1} << 20;

class NobodyListens final : public EventSink {
 public:
  void push(Event&&) override {}
};

std::string ms_text(int64_t ns) {
  return std::to_string(ns / kMs) + " ms";
}

}  // namespace

int64_t ClientCore::due_ns(const std::optional<int64_t>& deadline_ns, int64_t now_ns) {
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  if (!deadline_ns) return kNever;
  return *deadline_ns > kNever - now_ns ? kNever : now_ns + *deadline_ns;
}

int64_t ClientCore::silent_ns(int64_t since_ns) const {
  return now_ns_ - std::max(since_ns, heard_ns_);
}

// A link that broke may be back in no time; a server that nobody hears of for longer is not waited
// for, nor is one that is known to be gone.
bool ClientCore::gave_no_sign(int64_t since_ns, uint64_t bytes) const {
  if (state_ != State::up) return nobody_listens_ || silent_ns(since_ns) > config_.patience_ns;
  return silent_ns(since_ns) > config_.patience_ns + static_cast<int64_t>(bytes) * kByte_ns;
}

uint64_t ClientCore::bytes_sent(const Remote& remote) {
  uint64_t bytes = remote.packed.body.size() + (remote.packed.uploads.empty() ? 0 : kLastLeave);
  for (const SharedBytes& frame : remote.packed.frames) bytes += frame.size;
  return bytes;
}

// Why `remote` is not waited for any longer; ok: it is.
Status ClientCore::out_of_patience(const Remote& remote, uint64_t bytes) const {
  if (now_ns_ >= remote.due_ns) {
    return {Code::deadline, config_.endpoint + ": the request's timeout of " +
                                ms_text(remote.due_ns - remote.asked_ns) +
                                " passed before the server had accepted it"};
  }
  if (gave_no_sign(remote.submitted_ns, bytes)) {
    return lost("the server said nothing for " + ms_text(silent_ns(remote.submitted_ns)) +
                " and the request was given up" +
                (state_ == State::up ? "" : ": " + last_failure_.message()));
  }
  const bool uploads = !remote.packed.uploads.empty();
  if (!uploads && now_ns_ - remote.submitted_ns > config_.call_ns)
    return {Code::deadline, config_.endpoint + ": no answer within " + ms_text(config_.call_ns)};
  return {};
}

void ClientCore::check_submits() {
  uint64_t bytes = 0;
  for (const auto& [name, remote] : remotes_) {
    if (remote->accepted) bytes += bytes_sent(*remote);
  }
  if (bytes > 0) owes_ = true;
  std::vector<std::pair<Remote*, Status>> late;
  for (const auto& [name, remote] : remotes_) {
    if (!remote->accepted) continue;
    if (Status why = out_of_patience(*remote, bytes); !why.ok())
      late.emplace_back(remote.get(), std::move(why));
  }
  for (const auto& [remote, why] : late) disown(*remote, why);
}

void ClientCore::check_questions() {
  uint64_t bytes = 0;
  for (const auto& [call, one] : waiting_) bytes += one.bytes;
  if (!waiting_.empty()) owes_ = true;
  std::vector<std::pair<Answered, Status>> late;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    Status why;
    if (gave_no_sign(it->second.asked_ns, bytes)) {
      why = lost("the server said nothing for " + ms_text(silent_ns(it->second.asked_ns)));
    } else if (now_ns_ - it->second.asked_ns > config_.call_ns) {
      why = {Code::deadline, config_.endpoint + ": no answer within " + ms_text(config_.call_ns)};
    }
    if (why.ok()) {
      ++it;
      continue;
    }
    late.emplace_back(std::move(it->second.answered), std::move(why));
    it = waiting_.erase(it);
  }
  for (const auto& [answered, why] : late) answered(why);
}

// The submitter is told and waits no longer. The server may have the request all the same, or get
// it yet: so it is cancelled there, and stays in the books, with nobody to hear of it, until its
// end is known. A link that comes back finds it there, and asks and cancels anew.
void ClientCore::disown(Remote& remote, const Status& why) {
  static const auto nobody = std::make_shared<NobodyListens>();
  remote.packed = {};
  remote.sink = nobody;
  remote.disowned = true;
  const Accepted tell = std::exchange(remote.accepted, nullptr);
  cancel(remote.id);
  if (tell) tell(why);
}

void ClientCore::disown(RequestId id) {
  const auto it = names_.find(id);
  Remote* const remote = it == names_.end() ? nullptr : find(it->second);
  if (remote != nullptr) disown(*remote, {Code::cancelled, "its submitter waits no longer"});
}

size_t ClientCore::in_flight() const {
  return static_cast<size_t>(std::count_if(remotes_.begin(), remotes_.end(),
                                           [](const auto& one) { return !one.second->disowned; }));
}

}  // namespace troupe::wire
