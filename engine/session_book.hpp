// SessionBook: conversations that are kept between requests. A session is its token ids; what it
// holds of the cache is a convenience with a bound: at most a share of the blocks, for as long as
// its lease runs, given up least recently used first when running sequences need the room. What was
// given up is computed again when the session goes on.
//
//   INV-SESSION-1  a session has at most one request at a time
//   INV-SESSION-2  the blocks that sessions hold are at most their share of the cache
// Rows of pictures are kept likewise, within a bound: a session that lost them goes on while their
// blocks are in the cache, and ends with a clear word when they are not.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "base/port.hpp"
#include "engine/kv_groups.hpp"
#include "engine/sequence.hpp"

namespace troupe::engine {

struct Session {
  uint64_t id = 0;
  Prompt content;              // what was asked and answered, pictures included
  std::vector<BlockKey> keys;  // of its full blocks, as the last request named them …
  BlockKey root;               // … from this root on
  KvTables kv;
  RequestId busy = 0;          // the request that runs in it
  RequestId last = 0;          // the request that its content is from …
  int32_t last_prompt = 0;     // … and where that one's answer begins
  int64_t lease_ns = 0;
  int64_t expires_ns = 0;      // of the pin and of the session: each use renews it
  uint64_t used = 0;           // order of use
};

struct SessionBounds {
  double share = 0.5;           // of the cache
  int64_t lease_ns = 0;
  int64_t embedding_bytes = 0;  // rows of pictures; beyond, the least recently used lose theirs
};

// What is said of a session that is not there, or in which a request runs.
Status unknown_session(uint64_t id);
Status busy_session(uint64_t id, RequestId request);
Status unsettled_session(uint64_t id);  // rewind

class SessionBook {
 public:
  SessionBook(KvGroups& kv, const SessionBounds& bounds);

  Result<uint64_t> open(const SessionOptions& options, int64_t now_ns);
  Result<uint64_t> fork(uint64_t id, int64_t now_ns);
  Status rewind(uint64_t id, int64_t tokens, int64_t now_ns);
  Result<SessionState> info(uint64_t id, int64_t now_ns);
  void free(uint64_t id);

  // A request begins in it: refused while another runs. Gives the content it continues.
  Result<Session*> begin(uint64_t id, RequestId request, int64_t now_ns);
  // It ended. `sequence`: what it said, whose blocks the session takes over (the lease is empty
  // afterwards); null: it said nothing, the session stays as it was.
  void finish(uint64_t id, RequestId request, Sequence* sequence, int64_t now_ns);
  // The answer was cut after the request had ended.
  void cut(RequestId request, int32_t keep);

  // Ends what has expired; `busy` ones live on.
  void expire(int64_t now_ns);
  // Gives up the pin that was used least recently. False: none is left.
  bool give_up_one();
  void give_up_all();

  void set_lease(int64_t lease_ns) { bounds_.lease_ns = lease_ns; }  // of sessions that name none

  [[nodiscard]] int64_t next_expiry_ns() const;
  // Those that are open, ascending; `changes` counts how often that set has changed.
  [[nodiscard]] std::vector<uint64_t> ids() const;
  [[nodiscard]] uint64_t changes() const { return changes_; }
  [[nodiscard]] size_t size() const { return sessions_.size(); }
  [[nodiscard]] int64_t pinned_blocks() const;
  void visit_tables(const std::function<void(const KvTables&)>& visit) const;

 private:
  Result<Session*> find(uint64_t id);
  void touch(Session& session, int64_t now_ns);
  void shorten(Session& session, int32_t tokens);
  void keep_share();
  void keep_pictures();

  KvGroups& kv_;
  int64_t blocks_max_;
  SessionBounds bounds_;
  uint64_t next_id_ = 1;
  uint64_t uses_ = 0;
  uint64_t changes_ = 0;
  std::map<uint64_t, Session> sessions_;
};

}  // namespace troupe::engine
