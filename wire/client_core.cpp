#include "wire/client_core.hpp"

#include <algorithm>
#include <utility>

namespace troupe::wire {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kBackoffFirst_ns = 100 * kMs;
constexpr int64_t kBackoffMost_ns = 5'000 * kMs;
constexpr int kSilentIntervals = 3;
// A server that owes an answer is asked whether it lives well before patience with it ends.
constexpr int64_t kHail_ns = 500 * kMs;
// So many of them does a request wait for somebody to listen again: told within three in all.
constexpr int kNobodyIntervals = 2;

}  // namespace

ClientCore::ClientCore(ClientConfig config, Uplink& uplink)
    : config_(std::move(config)), uplink_(uplink), client_(uplink.random_id()) {}

Status ClientCore::lost(const std::string& why) const {
  return {Code::connection_lost, config_.endpoint + ": " + why};
}

void ClientCore::send(Kind kind, std::string_view body, std::span<const SharedBytes> blobs) {
  sent_ns_ = now_ns_;
  uplink_.send(kind, body, blobs);
}

ClientCore::Remote* ClientCore::find(const Id128& name) {
  const auto it = remotes_.find(name);
  return it == remotes_.end() ? nullptr : it->second.get();
}

// ---- the link -----------------------------------------------------------------------------------

void ClientCore::link_up(int64_t now_ns) {
  now_ns_ = now_ns;
  state_ = State::greeting;
  wants_down_ = nobody_listens_ = false;
  state_since_ns_ = now_ns;
  Hello hello;
  hello.client = client_;
  hello.name = config_.name;
  hello.ticket = ticket_;
  std::string body;
  write_hello(body, hello);
  send(Kind::hello, body);
}

void ClientCore::link_down(const Status& why, bool nobody_listens, int64_t now_ns) {
  now_ns_ = now_ns;
  nobody_listens_ = nobody_listens;
  drop_link(why, now_ns);
  wants_down_ = false;
}

// Back-off doubles from one failure to the next, and half of it is chance, so that a thousand
// clients of a server that comes back do not come as one.
void ClientCore::drop_link(const Status& why, int64_t now_ns) {
  if (state_ == State::up) {
    lost_ns_ = now_ns;
    failures_ = 0;
  }
  if (!why.ok()) last_failure_ = why;
  state_ = State::down;
  wants_down_ = true;
  credits_.clear();
  releases_.clear();
  const int64_t most =
      std::min(kBackoffFirst_ns << std::min<uint32_t>(failures_, 16), kBackoffMost_ns);
  ++failures_;
  const Id128 dice = uplink_.random_id();
  const int64_t chance = (int64_t{dice[0]} << 8 | dice[1]) * (most / 2) / 65536;
  try_again_ns_ = now_ns + most / 2 + chance;
  fail_questions(
      lost("the connection was lost before the answer came: " + last_failure_.message()));
}

void ClientCore::receive(std::string_view head, std::string_view body,
                         std::vector<SharedBytes> blobs, int64_t now_ns) {
  now_ns_ = now_ns;
  if (!is_head(head) || state_ == State::down) return;
  heard_ns_ = now_ns;
  const Kind kind = kind_of(head);
  Status wrong;
  switch (kind) {
    case Kind::welcome: {
      Result<Welcome> welcome = read_welcome(body);
      if (!welcome.ok())
        wrong = welcome.status();
      else if (state_ == State::greeting)
        welcomed_by(std::move(*welcome), now_ns);
      break;
    }
    case Kind::refused:
      refused_by(read_refused(body));
      return;
    case Kind::pong:
      if (const Result<Pong> pong = read_pong(body); pong.ok()) pulse_ = *pong;
      break;
    case Kind::bye: {
      const Result<Bye> bye = read_bye(body);
      if (!bye.ok() || bye->drain_ms) break;  // it goes on until what runs has ended
      fail_all(lost("the server said goodbye" +
                    (bye->reason.ok() ? std::string() : ": " + bye->reason.message())));
      ticket_.reset();
      client_ = uplink_.random_id();
      drop_link(bye->reason, now_ns);
      break;
    }
    case Kind::accepted:
    case Kind::admitted:
    case Kind::delta:
    case Kind::done:
    case Kind::cancelled:
    case Kind::failed:
      wrong = read_events(kind, body, [&](WireEvent& event) { take_event(kind, event); });
      break;
    case Kind::grant:
      wrong = read_notes(kind, body, [&](Note& note) { take_grant(note); });
      break;
    case Kind::data:
      take_data(body, blobs);
      break;
    case Kind::reply:
      take_answer(body, blobs);
      break;
    default:
      break;  // of a later version
  }
  if (!wrong.ok()) drop_link(wrong.at(config_.endpoint), now_ns);
}

void ClientCore::welcomed_by(Welcome welcome, int64_t now_ns) {
  const bool same = welcome.resumed && server_ && *server_ == welcome.server;
  welcome_ = std::move(welcome);
  ticket_ = welcome_.ticket;
  server_ = welcome_.server;
  welcomed_ = true;
  state_ = State::up;
  state_since_ns_ = busy_since_ns_ = now_ns;
  failures_ = 0;
  if (!same) {
    // Nothing of ours is known there. What was asked while there was no link is asked now.
    std::vector<Remote*> gone;
    for (auto& [name, remote] : remotes_) gone.push_back(remote.get());
    for (Remote* remote : gone)
      end(*remote, lost("the server was restarted and knows the request no more"));
    return;
  }
  send_resumes();
}

void ClientCore::refused_by(const Status& why) {
  const bool stale = why.code() == Code::unauthorised && ticket_.has_value();
  fail_all(lost("the server refused this client: " + why.message()));
  ticket_.reset();
  client_ = uplink_.random_id();
  if (!stale && !why.retryable()) verdict_ = why.at(config_.endpoint);
  drop_link(why.at(config_.endpoint), now_ns_);
}

void ClientCore::send_resumes() {
  std::string resumes, cancels;
  for (auto& [name, remote] : remotes_) {
    remote->used = 0;
    remote->data.clear();
    remote->data_bytes = 0;
    if (remote->accepted) {
      send_submit(*remote);
    } else {
      write_resume(resumes, name, remote->at, config_.credit);
    }
    if (remote->cancelled) write_id(cancels, name);
  }
  if (!resumes.empty()) send(Kind::resume, resumes);
  if (!cancels.empty()) send(Kind::cancel, cancels);
}

// ---- time ---------------------------------------------------------------------------------------

int64_t ClientCore::interval_ns() const {
  return (remotes_.empty() && waiting_.empty() ? welcome_.idle_ms : welcome_.heartbeat_ms) * kMs;
}

void ClientCore::tick(int64_t now_ns) {
  now_ns_ = now_ns;
  const bool busy = !remotes_.empty() || !waiting_.empty();
  if (busy && !busy_) busy_since_ns_ = now_ns;
  busy_ = busy;
  if (state_ == State::greeting && now_ns - state_since_ns_ > config_.hello_ns) {
    drop_link(lost("no WELCOME within " + std::to_string(config_.hello_ns / kMs) + " ms"), now_ns);
  }
  if (state_ == State::up) check_silence(now_ns);
  if (state_ != State::up) check_window(now_ns);
  owes_ = false;
  check_submits();
  check_questions();
}

void ClientCore::check_silence(int64_t now_ns) {
  const int64_t interval = interval_ns();
  const int64_t since = std::max({heard_ns_, busy_since_ns_, state_since_ns_});
  if (now_ns - since > kSilentIntervals * interval) {
    drop_link(lost("the server was silent for " + std::to_string((now_ns - since) / kMs) + " ms"),
              now_ns);
    return;
  }
  // A question after the other side's health goes out before it must have been heard again.
  if (now_ns - sent_ns_ < (owes_ ? std::min(interval, kHail_ns) : interval)) return;
  std::string body;
  write_ping(body, static_cast<uint64_t>(now_ns));
  send(Kind::ping, body);
}

void ClientCore::check_window(int64_t now_ns) {
  if (remotes_.empty()) return;
  const int64_t silent = now_ns - heard_ns_;
  if (nobody_listens_ && silent >= kNobodyIntervals * welcome_.heartbeat_ms * kMs) {
    fail_all(lost("nobody listens there any more: " + last_failure_.message()));
    return;
  }
  const int64_t window =
      std::min(welcome_.resume_ms * kMs, config_.resume_ns.value_or(welcome_.resume_ms * kMs));
  if (now_ns - lost_ns_ > window) {
    fail_all(lost("no connection for " + std::to_string(window / kMs) +
                  " ms: " + last_failure_.message()));
  }
}

void ClientCore::flush() {
  if (state_ == State::up) {
    if (!credits_.empty()) send(Kind::credit, credits_);
    if (!releases_.empty()) send(Kind::release, releases_);
  }
  credits_.clear();
  releases_.clear();
}

// ---- questions ----------------------------------------------------------------------------------

void ClientCore::ask(Kind kind, const Write& write, Answered answered, int64_t now_ns) {
  now_ns_ = now_ns;
  if (state_ != State::up) {
    answered(lost("not connected at the moment: " + last_failure_.message()));
    return;
  }
  std::string body;
  std::vector<SharedBytes> blobs;
  const uint64_t call = next_call_++;
  write(body, call, blobs);
  size_t largest = body.size();
  for (const SharedBytes& blob : blobs) largest = std::max(largest, blob.size);
  if (largest > welcome_.limits.body_bytes) {
    answered(limit_exceeded("the question has " + std::to_string(largest) +
                            " bytes: " + config_.endpoint + " takes " +
                            std::to_string(welcome_.limits.body_bytes)));
    return;
  }
  uint64_t bytes = body.size();
  for (const SharedBytes& blob : blobs) bytes += blob.size;
  waiting_.emplace(call, Waiting{std::move(answered), now_ns, bytes});
  send(kind, body, blobs);
}

void ClientCore::take_answer(std::string_view body, const std::vector<SharedBytes>& blobs) {
  Result<Answer> answer = read_answer(body, blobs);
  const auto call = answer.ok() ? std::optional(answer->call) : call_of(body);
  if (!call) return;
  const auto it = waiting_.find(*call);
  if (it == waiting_.end()) return;
  const Answered answered = std::move(it->second.answered);
  waiting_.erase(it);
  if (answer.ok() && !answer->status.ok()) {
    answered(answer->status);
  } else {
    answered(std::move(answer));
  }
}

void ClientCore::fail_questions(const Status& why) {
  std::unordered_map<uint64_t, Waiting> waiting;
  waiting.swap(waiting_);
  for (auto& [call, one] : waiting) one.answered(why);
}

void ClientCore::fail_all(const Status& why) {
  std::vector<Remote*> all;
  for (auto& [name, remote] : remotes_) all.push_back(remote.get());
  for (Remote* remote : all) end(*remote, why);
  fail_questions(why);
}

void ClientCore::bye() {
  flush();
  if (state_ != State::up) return;
  std::string body;
  write_bye(body, {});
  send(Kind::bye, body);
}

}  // namespace troupe::wire
