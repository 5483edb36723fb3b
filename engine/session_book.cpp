#include "engine/session_book.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "base/limits.hpp"

namespace troupe::engine {
namespace {

constexpr int64_t kForever = std::numeric_limits<int64_t>::max();

}  // namespace

Status unknown_session(uint64_t id) {
  return {Code::not_found, "session " + std::to_string(id) +
                               ": unknown, freed, or its lease has run out; open a new one"};
}
Status busy_session(uint64_t id, RequestId request) {
  return invalid("session " + std::to_string(id) + ": request " + std::to_string(request) +
                 " is running in it; wait for its end, or fork the session");
}
Status unsettled_session(uint64_t id) {
  return invalid("session " + std::to_string(id) + ": a request is running in it; rewind after its end");
}

SessionBook::SessionBook(KvGroups& kv, const SessionBounds& bounds)
    : kv_(kv), blocks_max_(static_cast<int64_t>(bounds.share * static_cast<double>(kv.blocks_total()))),
      bounds_(bounds) {}

Result<Session*> SessionBook::find(uint64_t id) {
  const auto it = sessions_.find(id);
  if (it == sessions_.end()) return unknown_session(id);
  return &it->second;
}

void SessionBook::touch(Session& session, int64_t now_ns) {
  session.used = ++uses_;
  session.expires_ns = session.lease_ns > kForever - now_ns ? kForever : now_ns + session.lease_ns;
}

Result<uint64_t> SessionBook::open(const SessionOptions& options, int64_t now_ns) {
  if (sessions_.size() >= static_cast<size_t>(limits::sessions)) {
    return Status(Code::overloaded, "sessions: " + std::to_string(limits::sessions) +
                                        " are open, which is the limit; free some");
  }
  const int64_t lease = options.lease_ns.value_or(bounds_.lease_ns);
  if (lease <= 0) {
    return invalid("session lease_ns must be above 0, and is " + std::to_string(lease));
  }
  Session session;
  session.id = next_id_++;
  session.lease_ns = lease;
  touch(session, now_ns);
  const uint64_t id = session.id;
  sessions_.emplace(id, std::move(session));
  ++changes_;
  return id;
}

Result<uint64_t> SessionBook::fork(uint64_t id, int64_t now_ns) {
  TR_ASSIGN(Session * from, find(id));
  SessionOptions options;
  options.lease_ns = from->lease_ns;
  TR_ASSIGN(const uint64_t fresh, open(options, now_ns));
  touch(*from, now_ns);
  Session& to = sessions_.at(fresh);
  to.content = from->content;
  to.keys = from->keys;
  to.root = from->root;
  to.last = from->last;
  to.last_prompt = from->last_prompt;
  kv_.fork(from->kv, to.kv);
  keep_share();
  return fresh;
}

void SessionBook::shorten(Session& session, int32_t tokens) {
  shorten_prompt(session.content, tokens);
  session.keys.resize(
      std::min(session.keys.size(), static_cast<size_t>(tokens / kv_.block_tokens())));
  if (!session.kv.groups.empty()) kv_.truncate(session.kv, tokens);
}

Status SessionBook::rewind(uint64_t id, int64_t tokens, int64_t now_ns) {
  TR_ASSIGN(Session * session, find(id));
  if (session->busy != 0) return unsettled_session(id);
  const int64_t have = session->content.length();
  if (tokens < 0 || tokens > have) {
    return invalid("session " + std::to_string(id) + ": rewind to " + std::to_string(tokens) +
                   " tokens, and it holds " + std::to_string(have));
  }
  for (const PromptImage& image : session->content.images) {
    if (tokens > image.position && tokens < image.position + image.rows) {
      return invalid("session " + std::to_string(id) + ": rewind to " + std::to_string(tokens) +
                     " tokens would cut an image in two (" + std::to_string(image.position) + " .. " +
                     std::to_string(image.position + image.rows) + ")");
    }
  }
  touch(*session, now_ns);
  session->last = 0;
  shorten(*session, static_cast<int32_t>(tokens));
  return ok_status();
}

Result<SessionState> SessionBook::info(uint64_t id, int64_t now_ns) {
  TR_ASSIGN(Session * session, find(id));
  SessionState state;
  state.tokens = session->content.length();
  const int32_t blocks = kv_.match(session->keys, static_cast<int32_t>(session->keys.size()));
  state.cached_tokens = int64_t{blocks} * kv_.block_tokens();
  state.lease_left_ns = std::max(int64_t{0}, session->expires_ns - now_ns);
  return state;
}

void SessionBook::free(uint64_t id) {
  const auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  kv_.release(it->second.kv);
  sessions_.erase(it);
  ++changes_;
}

Result<Session*> SessionBook::begin(uint64_t id, RequestId request, int64_t now_ns) {
  TR_ASSIGN(Session * session, find(id));
  if (session->busy != 0) return busy_session(id, session->busy);
  session->busy = request;
  touch(*session, now_ns);
  return session;
}

void SessionBook::finish(uint64_t id, RequestId request, Sequence* sequence, int64_t now_ns) {
  const auto it = sessions_.find(id);
  if (it == sessions_.end() || it->second.busy != request) return;
  Session& session = it->second;
  session.busy = 0;
  touch(session, now_ns);
  if (sequence == nullptr) return;
  session.content = sequence->job->spec.prompt;
  append_output(session.content, sequence->progress.output.all());
  session.keys = sequence->keys;
  session.root = sequence->job->root;
  session.last = request;
  session.last_prompt = sequence->job->prompt_len();
  kv_.release(session.kv);
  session.kv = std::exchange(sequence->lease.kv, {});
  // What is not a full block of known tokens has no name and would never be found again.
  kv_.truncate(session.kv, session.kv.published * kv_.block_tokens());
  keep_share();
  keep_pictures();
}

// Forks share rows, and each counts them: the bound is on the safe side.
void SessionBook::keep_pictures() {
  const auto bytes_of = [](const Session& session) {
    size_t bytes = 0;
    for (const auto* images : {&session.content.images, &session.content.cross_images}) {
      for (const PromptImage& i : *images) bytes += i.data == nullptr ? 0 : i.data->rows.bytes();
    }
    return static_cast<int64_t>(bytes);
  };
  int64_t bytes = 0;
  for (const auto& [id, session] : sessions_) bytes += bytes_of(session);
  while (bytes > bounds_.embedding_bytes) {
    Session* victim = nullptr;
    for (auto& [id, session] : sessions_) {
      if (bytes_of(session) > 0 && (victim == nullptr || session.used < victim->used)) victim = &session;
    }
    bytes -= bytes_of(*victim);
    for (auto* images : {&victim->content.images, &victim->content.cross_images}) {
      for (PromptImage& i : *images) {
        i.ready = i.ready && i.data == nullptr;
        i.gone = !i.ready;
        i.data.reset();
      }
    }
  }
}

void SessionBook::cut(RequestId request, int32_t keep) {
  for (auto& [id, session] : sessions_) {
    const int32_t tokens = session.last_prompt + keep;
    if (session.last != request || tokens >= session.content.length()) continue;
    shorten(session, tokens);
  }
}

void SessionBook::expire(int64_t now_ns) {
  for (auto it = sessions_.begin(); it != sessions_.end();) {
    if (it->second.expires_ns <= now_ns && it->second.busy == 0) {
      kv_.release(it->second.kv);
      it = sessions_.erase(it);
      ++changes_;
    } else {
      ++it;
    }
  }
}

bool SessionBook::give_up_one() {
  Session* victim = nullptr;
  for (auto& [id, session] : sessions_) {
    if (session.kv.groups.empty()) continue;
    if (victim == nullptr || session.used < victim->used) victim = &session;
  }
  if (victim == nullptr) return false;
  kv_.release(victim->kv);
  return true;
}

void SessionBook::give_up_all() {
  for (auto& [id, session] : sessions_) kv_.release(session.kv);
}

void SessionBook::keep_share() {
  while (pinned_blocks() > blocks_max_ && give_up_one()) {
  }
}

int64_t SessionBook::next_expiry_ns() const {
  int64_t next = kForever;
  for (const auto& [id, session] : sessions_) {
    if (session.busy == 0) next = std::min(next, session.expires_ns);
  }
  return next;
}

std::vector<uint64_t> SessionBook::ids() const {
  std::vector<uint64_t> ids;
  ids.reserve(sessions_.size());
  for (const auto& [id, session] : sessions_) ids.push_back(id);
  return ids;
}

int64_t SessionBook::pinned_blocks() const {
  int64_t n = 0;
  for (const auto& [id, session] : sessions_) n += kv_.blocks_in(session.kv);
  return n;
}

void SessionBook::visit_tables(const std::function<void(const KvTables&)>& visit) const {
  for (const auto& [id, session] : sessions_) visit(session.kv);
}

}  // namespace troupe::engine
