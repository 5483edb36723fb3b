// The server's side of TRP/1 without sockets, threads or clocks: messages and the time go in,
// messages come out through Host. One thread drives it; the shell (server.cpp) owns that thread and
// the sockets, and simulations and fuzzers drive it by hand.
//
// A peer is a connection (ROUTER's routing id); a client is who says HELLO, and outlives its peers
// by the resume window. Requests, sessions and uploads belong to a client, never to a peer.
// INV-WIRE-3: nothing of a peer is read or kept before its HELLO but the kind of its messages.
// INV-WIRE-4: every accepted request ends exactly once for its reader, or its client has gone for
//   longer than the window and the engine was told to cancel it.
// INV-WIRE-7: what one client makes the server keep or do is bounded, whatever it sends and however
//   little it reads: its share of the reading (fair_share.hpp), its answers unsent, its limits.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/port.hpp"
#include "wire/control.hpp"
#include "wire/event_codec.hpp"
#include "wire/fair_share.hpp"
#include "wire/question_codec.hpp"
#include "wire/request_codec.hpp"
#include "wire/stream.hpp"

namespace troupe::wire {

enum class Sent : uint8_t { sent, full, gone };

// What the core needs of the world.
class Host {
 public:
  virtual ~Host() = default;
  virtual Sent send(std::string_view peer, Kind kind, std::string_view body,
                    std::span<const SharedBytes> blobs) = 0;
  // Runs `work`, which may block, elsewhere, and then what it returned on the core's thread.
  virtual void run(std::function<std::function<void()>()> work) = 0;
  virtual Id128 random_id() = 0;
  // May a connection with this key say HELLO (still)?
  [[nodiscard]] virtual bool allows(std::string_view identity) const = 0;
};

struct ServerConfig {
  Limits limits;
  int64_t heartbeat_ms = 2000;  // while a request runs; three silent ones, and the peer is lost
  int64_t idle_ms = 30'000;  // else
  int64_t resume_ms = 60'000;  // how long a lost client's work is kept
  uint64_t clients = 65'536;
  uint64_t upload_bytes = uint64_t{1} << 30;  // of all clients together
  uint64_t ended_requests = 1024;  // kept per client until it releases them
  uint64_t ended_bytes = uint64_t{16} << 20;
};

struct Incoming {
  std::string_view peer;
  std::string_view identity;  // the CURVE key of the connection; empty without CURVE
  std::string_view head, body;
  std::vector<SharedBytes> blobs;
  // The same for all messages of one connection. A peer's name may come again with another one,
  // since clients may choose theirs: then the first connection is over.
  const void* connection = nullptr;
  std::shared_ptr<const void> link;  // of a HELLO: as long as it is held, no other has `connection`
};

struct ServerCounters {
  uint64_t messages = 0, dropped = 0, refused = 0, deltas = 0, resumed = 0, expired = 0;
  uint64_t rests = 0, held = 0, overfull = 0;
};

struct Upload;
struct Peer;

// A request that was taken and is not with the engine yet: its client's pace has not come to it, or
// it waits for a place.
struct HeldRequest {
  std::shared_ptr<Stream> stream;
  Request request;
  size_t bytes = 0;  // of its SUBMIT
  int64_t since_ns = 0;
};

// A question that waits for its client's turn.
struct HeldQuestion {
  uint64_t call = 0;
  std::function<Answer()> work;
};

struct Client {
  std::string scope;  // identity and client id: who may touch its requests
  std::string identity;
  uint64_t epoch = 0;  // never used twice
  Id128 ticket{};
  std::optional<Id128> previous_ticket;  // until the client is heard after its newest WELCOME
  Peer* peer = nullptr;
  int64_t lost_ns = 0;  // since when it has no peer that is heard; 0: it has one
  std::unordered_map<Id128, std::shared_ptr<Stream>, IdHash> streams;
  std::deque<std::shared_ptr<Stream>> ended;  // ends that were read and not released, oldest first
  uint64_t running = 0, blob_bytes = 0, ended_bytes = 0;
  uint64_t questions = 0;  // whose replies were not sent yet
  FairShare reading, starting;
  std::deque<HeldRequest> held;
  size_t held_bytes = 0;
  std::deque<HeldRequest> waiting;  // accepted, until the engine has a place for them
  size_t waiting_bytes = 0;
  uint64_t started = 0;  // sequences of its requests that the engine has
  std::deque<HeldQuestion> asked;
  uint64_t asking = 0;  // long questions that are being answered
  std::unordered_map<uint64_t, uint64_t> sessions;  // its handle -> the engine's
  std::deque<std::shared_ptr<Upload>> uploads;  // the first one has leave to send
};

// A request whose blobs are still on their way.
struct Upload {
  std::shared_ptr<Stream> stream;
  Submit submit;
  struct Blob {
    size_t number = 0, size = 0, received = 0;
    std::shared_ptr<std::vector<std::byte>> bytes;
  };
  std::vector<Blob> blobs;
  std::vector<SharedBytes> all;  // by number; those that were uploaded are put in at the end
  size_t current = 0;  // blobs come one after the other
  bool begun = false;  // the current one
  uint64_t granted = 0;  // bytes of the current one that may come
  uint64_t owed = 0;  // and those to be granted when its client's share allows
  int64_t heard_ns = 0;
};

struct Peer {
  std::string id;
  const void* connection = nullptr;
  std::shared_ptr<const void> link;
  Client* client = nullptr;
  int64_t heard_ns = 0;
  Bodies bodies;
  struct Out {
    Kind kind;
    std::string body;
    std::vector<SharedBytes> blobs;
  };
  std::deque<Out> queue;  // what does not merge
  size_t queue_bytes = 0;
  std::vector<std::shared_ptr<Stream>> deferred;  // to be read when it takes messages again
  bool touched = false, choked = false;
};

class ServerCore {
 public:
  ServerCore(std::shared_ptr<EnginePort> engine, EngineInfo info, ServerConfig config,
             std::shared_ptr<ReadyList> ready, Host& host);
  ~ServerCore();
  ServerCore(const ServerCore&) = delete;
  ServerCore& operator=(const ServerCore&) = delete;

  // False: the message was nobody's, or made no sense, and was dropped.
  bool receive(Incoming&& message, int64_t now_ns);
  // How long reading must rest after the last message, because it went beyond its sender's share
  // while others have work here; 0: not at all.
  [[nodiscard]] int64_t rest_ns() const { return rest_ns_; }
  // Reads every stream that has news and sends what came of it, and all that send_answers() sends.
  void pump(int64_t now_ns);
  // Sends answers to messages; news of streams go on waiting for company.
  void send_answers(int64_t now_ns);
  // Looks for what has run out of time, at most a few times a second, and tries choked peers again.
  void tick(int64_t now_ns);
  [[nodiscard]] bool choked() const { return choked_ > 0; }
  // Is there something for send_answers()?
  [[nodiscard]] bool pending(int64_t now_ns) const {
    return !again_.empty() || !touched_.empty() || due_ns() <= now_ns;
  }
  // When leave to send, or a held request's turn, is due; INT64_MAX: nobody waits for either.
  [[nodiscard]] int64_t due_ns() const;

  // Takes nothing new from now on and says so; what runs may go on for `drain_ns`.
  void drain(int64_t drain_ns);
  void cancel_all(const Status& why);
  // Requests whose end somebody is there to read.
  [[nodiscard]] uint64_t awaited() const;
  // Everybody's goodbye. Nothing is sent after it.
  void stop(const Status& why);
  // Clients whose key `allowed` does not like any more lose everything at once.
  void revoke(const std::function<bool(const std::string& identity)>& allowed);

  [[nodiscard]] const ServerCounters& counters() const { return counters_; }
  [[nodiscard]] size_t peers() const { return peers_.size(); }
  [[nodiscard]] size_t clients() const { return clients_.size(); }
  // Holds the bookkeeping against itself; empty when all is well.
  [[nodiscard]] std::string check_integrity() const;

 private:
  // handshake and peers (server_core.cpp)
  bool hello(const Incoming& message, int64_t now_ns);
  Client* admit(const Incoming& message, const Hello& hello, bool& resumed, Status& why);
  void greet(Peer& peer, bool resumed);
  bool dispatch(Peer& peer, Kind kind, Incoming& message, int64_t now_ns);
  void pong(Peer& peer, std::string_view body, int64_t now_ns);
  void lose(Peer& peer, int64_t now_ns);
  void expire(Client& client);
  void queue(Peer& peer, Kind kind, std::string body, std::vector<SharedBytes> blobs = {});
  void sent_first(Peer& peer);
  void read_later(const std::shared_ptr<Stream>& stream);
  void touch(Peer& peer);
  bool flush(Peer& peer, int64_t now_ns);
  void check_peers(int64_t now_ns);
  void ask_info(int64_t now_ns);
  [[nodiscard]] bool silent_too_long(const Peer& peer, int64_t now_ns) const;

  // requests (server_requests.cpp)
  bool submit(Peer& peer, Incoming& message, int64_t now_ns);
  Status admit_submit(Client& client, Submit& submit, Incoming& message,
                      std::vector<size_t>& sizes);
  Status adopt_session(Client& client, Request& request);
  [[nodiscard]] Status check_places(const Client& client) const;
  void accept(Client& client, Stream& stream);
  void refuse(Client& client, const Id128& id, const Status& why);
  void end_unstarted(Client& client, const std::shared_ptr<Stream>& stream, const Status& why);
  void abandon(Client& client, const std::shared_ptr<Stream>& stream, const Status& why);
  void keep_no_more(Client& client, const std::shared_ptr<Stream>& stream);
  void forget(Client& client, const std::shared_ptr<Stream>& stream);
  void resume(Client& client, Note& note);
  void cancel(Client& client, const Id128& id);
  void withdraw(Client& client, const Id128& id, const Status& why);
  void release(Client& client, const Id128& id);
  void read(const std::shared_ptr<Stream>& stream, int64_t now_ns);
  void end_was_read(Client& client, const std::shared_ptr<Stream>& stream, int64_t now_ns);
  void trim_ended(Client& client, int64_t now_ns);
  void count_in(Client& client);
  void count_out(Client& client);

  // uploads (server_uploads.cpp)
  void begin_upload(Client& client, std::shared_ptr<Stream> stream, Submit submit,
                    std::vector<SharedBytes> frames, int64_t now_ns);
  bool take_blob(Client& client, Incoming& message, int64_t now_ns);
  void grant_next(Client& client);
  void drop_upload(Client& client, const Id128& id, const Status& why);
  void drop_uploads(Client& client);
  void finish_upload(Client& client, int64_t now_ns);

  // fairness (server_fairness.cpp)
  [[nodiscard]] bool crowded(const Client& client) const { return running_ > client.running; }
  void charge(Client* client, const Incoming& message, int64_t now_ns);
  void check_backlog(std::string_view id, int64_t now_ns);
  void owe(Client& client, uint64_t bytes);
  bool give_owed(Client& client, int64_t now_ns);
  void start_in_turn(Client& client, HeldRequest request);
  bool start_held(Client& client, int64_t now_ns);
  bool drop_held(Client& client, const Id128& id, const Status& why);
  [[nodiscard]] int64_t turn_ns(const Client& client) const;

  // the engine's places (server_places.cpp)
  [[nodiscard]] uint64_t places_of_engine() const;
  [[nodiscard]] uint64_t part_of_places() const;
  [[nodiscard]] bool has_place(const Client& client) const;
  void enter(Client& client, HeldRequest request, int64_t now_ns);
  void start(Client& client, HeldRequest request, int64_t now_ns);
  void start_waiting(int64_t now_ns);
  std::optional<HeldRequest> take_waiting(Client& client, const Id128& id);
  void end_late(int64_t now_ns);
  void free_places(Stream& stream);

  // questions (server_questions.cpp)
  bool ask(Peer& peer, Kind kind, Incoming& message);
  void ask_next(Client& client);
  void answer(const std::string& scope, uint64_t epoch, Answer answer);
  std::function<Answer()> work_of(Client& client, Question& question,
                                  std::vector<SharedBytes> blobs);
  void take_session(Client* client, Answer& answer);
  [[nodiscard]] std::string metrics_text() const;
  Client* find(const std::string& scope, uint64_t epoch);

  const std::shared_ptr<EnginePort> engine_;
  EngineInfo info_;
  const ServerConfig config_;
  const std::shared_ptr<ReadyList> ready_;
  Host& host_;
  const Id128 server_id_;

  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  template <class T>
  using ByName = std::unordered_map<std::string, T, TextHash, std::equal_to<>>;
  ByName<std::unique_ptr<Peer>> peers_;
  ByName<std::unique_ptr<Client>> clients_;
  std::vector<std::shared_ptr<Stream>> news_, again_;
  std::vector<Peer*> touched_;
  std::vector<Client*> owing_;  // uploads that wait for leave to send, each client once
  std::vector<Client*> holding_;  // those with held requests, each once
  std::deque<Client*> queueing_;  // those with waiting ones, each once; the first has the next turn
  uint64_t next_epoch_ = 1, next_session_ = 1;
  uint64_t running_ = 0, blob_bytes_ = 0, choked_ = 0;
  uint64_t active_ = 0;  // clients with requests in flight
  uint64_t started_ = 0, waiting_ = 0;  // sequences in the engine; requests that wait for places
  int64_t checked_ns_ = 0, informed_ns_ = 0, rest_ns_ = 0;
  bool draining_ = false, stopped_ = false;
  Pong pulse_;
  int64_t pulse_ns_ = 0;
  ServerCounters counters_;
};

}  // namespace troupe::wire
