#include "wire/server_core.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace troupe::wire {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kPulse_ns = 20 * kMs;  // how old the counters in a PONG may be
constexpr int64_t kCheck_ns = 100 * kMs;
constexpr int64_t kInform_ns = 1'000 * kMs;  // how old what is known of the engine may be
constexpr size_t kFlushBytes = size_t{256} << 10;
constexpr size_t kKeptBytes = size_t{4} << 10;  // of an idle peer's buffers

std::string scope_of(std::string_view identity, const Id128& client) {
  std::string scope(identity);
  scope.append(1, '/').append(client.begin(), client.end());
  return scope;
}

}  // namespace

ServerCore::ServerCore(std::shared_ptr<EnginePort> engine, EngineInfo info, ServerConfig config,
                       std::shared_ptr<ReadyList> ready, Host& host)
    : engine_(std::move(engine)),
      info_(std::move(info)),
      config_(config),
      ready_(std::move(ready)),
      host_(host),
      server_id_(host.random_id()) {}

ServerCore::~ServerCore() {
  ready_->close();
  for (auto& [scope, client] : clients_) {
    for (auto& [id, stream] : client->streams) stream->client = nullptr;
  }
}

// ---- messages -----------------------------------------------------------------------------------

bool ServerCore::receive(Incoming&& message, int64_t now_ns) {
  ++counters_.messages;
  rest_ns_ = 0;
  const bool good = [&] {
    if (stopped_) return false;
    auto known = peers_.find(message.peer);
    if (known != peers_.end() && known->second->connection != message.connection) {
      lose(*known->second, now_ns);  // its name is another connection's now
      known = peers_.end();
    }
    if (!is_head(message.head)) {
      charge(known == peers_.end() ? nullptr : known->second->client, message, now_ns);
      return false;
    }
    const Kind kind = kind_of(message.head);
    if (known == peers_.end()) {  // INV-WIRE-3
      if (kind == Kind::hello && hello(message, now_ns)) return true;
      charge(nullptr, message, now_ns);
      return false;
    }
    Peer& peer = *known->second;
    charge(peer.client, message, now_ns);
    if (kind == Kind::hello) return false;  // once per connection: a replay gets nothing
    peer.heard_ns = now_ns;
    peer.client->lost_ns = 0;
    peer.client->previous_ticket.reset();
    return dispatch(peer, kind, message, now_ns);
  }();
  if (!good) ++counters_.dropped;
  if (choked_ > 0) check_backlog(message.peer, now_ns);
  return good;
}

bool ServerCore::dispatch(Peer& peer, Kind kind, Incoming& message, int64_t now_ns) {
  if (message.body.size() > config_.limits.body_bytes && kind != Kind::submit &&
      !is_question(kind)) {
    return false;
  }
  Client& client = *peer.client;
  // No client has more to say in one message; more would only keep everybody else waiting.
  const size_t notes = std::max<size_t>(8192, 2 * config_.limits.requests);
  switch (kind) {
    case Kind::ping:
      pong(peer, message.body, now_ns);
      return true;
    case Kind::submit:
      return submit(peer, message, now_ns);
    case Kind::blob:
      return take_blob(client, message, now_ns);
    case Kind::credit:
      return read_notes(
                 kind, message.body,
                 [&](Note& note) {
                   const auto it = client.streams.find(note.id);
                   if (it == client.streams.end() || it->second->end_read()) return;
                   it->second->grant(static_cast<uint32_t>(note.n));
                   read_later(it->second);
                 },
                 notes)
          .ok();
    case Kind::cancel:
      return read_notes(
                 kind, message.body, [&](Note& note) { cancel(client, note.id); }, notes)
          .ok();
    case Kind::resume:
      return read_notes(
                 kind, message.body, [&](Note& note) { resume(client, note); }, notes)
          .ok();
    case Kind::release:
      return read_notes(
                 kind, message.body, [&](Note& note) { release(client, note.id); }, notes)
          .ok();
    case Kind::bye:
      expire(client);
      return true;
    default:
      break;
  }
  return is_question(kind) && ask(peer, kind, message);
}

bool ServerCore::hello(const Incoming& message, int64_t now_ns) {
  const Result<Hello> read = message.body.size() > 4096
                                 ? Result<Hello>(invalid("HELLO is too long"))
                                 : read_hello(message.body);
  if (!read.ok()) return false;
  bool resumed = false;
  Status why;
  Client* client = nullptr;
  if (!read->speaks_this_version) {
    why = unsupported(
        "this server speaks TRP/1 and the client does not offer it: update one of them");
  } else {
    client = admit(message, *read, resumed, why);
  }
  if (client == nullptr) {
    ++counters_.refused;
    std::string body;
    write_refused(body, why);
    (void)host_.send(message.peer, Kind::refused, body, {});
    return true;
  }
  if (client->peer != nullptr) {  // a new connection of the same client: the old one is over
    Peer& old = *client->peer;
    lose(old, now_ns);
  }
  drop_uploads(*client);  // what broke off with the old connection begins anew
  auto peer = std::make_unique<Peer>();
  peer->id = message.peer;
  peer->connection = message.connection;
  peer->link = message.link;
  peer->client = client;
  peer->heard_ns = now_ns;
  client->peer = peer.get();
  client->lost_ns = 0;
  Peer& added = *peer;
  peers_.emplace(added.id, std::move(peer));
  greet(added, resumed);
  return true;
}

// A client that is known must show the ticket of its last WELCOME: a HELLO that was overheard and
// is played again shows an old one, or none.
Client* ServerCore::admit(const Incoming& message, const Hello& hello, bool& resumed, Status& why) {
  if (!host_.allows(message.identity)) {  // it may have been taken off the list since it connected
    why = {Code::unauthorised, "this client's key is not on the server's list"};
    return nullptr;
  }
  std::string scope = scope_of(message.identity, hello.client);
  if (const auto it = clients_.find(scope); it != clients_.end()) {
    Client& client = *it->second;
    const bool shown =
        hello.ticket && (*hello.ticket == client.ticket ||
                         (client.previous_ticket && *hello.ticket == *client.previous_ticket));
    if (!shown) {
      why = {Code::unauthorised,
             "this client is known and the ticket is not that of its last WELCOME: "
             "say HELLO with a new client id"};
      return nullptr;
    }
    client.previous_ticket = hello.ticket;  // the one that it has, however many WELCOMEs get lost
    client.ticket = host_.random_id();
    resumed = true;
    ++counters_.resumed;
    return &client;
  }
  if (draining_) {
    why = {Code::closed, "the server stops: connect to another, or again later", true};
    return nullptr;
  }
  if (clients_.size() >= config_.clients) {
    why = {Code::overloaded, "this server has " + std::to_string(clients_.size()) +
                                 " clients, as many as it takes: try again later"};
    return nullptr;
  }
  auto client = std::make_unique<Client>();
  client->scope = scope;
  client->identity = message.identity;
  client->epoch = next_epoch_++;
  client->ticket = host_.random_id();
  Client* const added = client.get();
  clients_.emplace(std::move(scope), std::move(client));
  return added;
}

void ServerCore::greet(Peer& peer, bool resumed) {
  Welcome welcome;
  welcome.server = server_id_;
  welcome.ticket = peer.client->ticket;
  welcome.resumed = resumed;
  welcome.heartbeat_ms = config_.heartbeat_ms;
  welcome.idle_ms = config_.idle_ms;
  welcome.resume_ms = config_.resume_ms;
  welcome.limits = config_.limits;
  welcome.info = info_;
  std::string body;
  write_welcome(body, welcome);
  queue(peer, Kind::welcome, std::move(body));
}

// Answered here, never by the engine: alive is one fact, and the step counter is another.
void ServerCore::pong(Peer& peer, std::string_view body, int64_t now_ns) {
  const Result<uint64_t> t = read_ping(body);
  if (!t.ok() || peer.choked) return;
  if (now_ns - pulse_ns_ >= kPulse_ns) {
    pulse_ns_ = now_ns;
    if (const auto stats = engine_->stats(); stats.ok()) {
      pulse_.steps = stats->steps;
      pulse_.waiting = stats->waiting + waiting_;
      pulse_.running = stats->running;
    }
  }
  pulse_.t = *t;
  std::string answer;
  write_pong(answer, pulse_);
  queue(peer, Kind::pong, std::move(answer));
}

// ---- peers --------------------------------------------------------------------------------------

void ServerCore::touch(Peer& peer) {
  if (std::exchange(peer.touched, true)) return;
  touched_.push_back(&peer);
}

void ServerCore::queue(Peer& peer, Kind kind, std::string body, std::vector<SharedBytes> blobs) {
  peer.queue_bytes += body.size();
  for (const SharedBytes& blob : blobs) peer.queue_bytes += blob.size;
  peer.queue.push_back({kind, std::move(body), std::move(blobs)});
  touch(peer);
}

// The first message of the queue has left it.
void ServerCore::sent_first(Peer& peer) {
  const Peer::Out& out = peer.queue.front();
  if (out.kind == Kind::reply) --peer.client->questions;
  peer.queue_bytes -= out.body.size();
  for (const SharedBytes& blob : out.blobs) peer.queue_bytes -= blob.size;
  peer.queue.pop_front();
}

void ServerCore::read_later(const std::shared_ptr<Stream>& stream) {
  if (!std::exchange(stream->waits, true)) again_.push_back(stream);
}

// False: the peer takes no more now, or has gone (and then does not exist any more).
bool ServerCore::flush(Peer& peer, int64_t now_ns) {
  const auto outcome = [&]() -> Sent {
    for (; !peer.queue.empty(); sent_first(peer)) {
      const Peer::Out& out = peer.queue.front();
      if (const Sent sent = host_.send(peer.id, out.kind, out.body, out.blobs); sent != Sent::sent)
        return sent;
    }
    Bodies& b = peer.bodies;
    const std::pair<Kind, std::string*> bodies[] = {
        {Kind::accepted, &b.accepted}, {Kind::grant, &b.grants}, {Kind::admitted, &b.admitted},
        {Kind::delta, &b.deltas},      {Kind::done, &b.done},    {Kind::cancelled, &b.cancelled},
        {Kind::failed, &b.failed}};
    for (const auto& [kind, body] : bodies) {
      if (body->empty()) continue;
      if (const Sent sent = host_.send(peer.id, kind, *body, {}); sent != Sent::sent) return sent;
      counters_.deltas += kind == Kind::delta ? 1 : 0;
      body->clear();
    }
    return Sent::sent;
  }();
  if (outcome == Sent::gone) {
    lose(peer, now_ns);
    return false;
  }
  const bool choked = outcome == Sent::full;
  if (choked != peer.choked) {
    choked ? ++choked_ : --choked_;
    peer.choked = choked;
  }
  if (choked) return false;
  for (auto& stream : peer.deferred) again_.push_back(std::move(stream));
  peer.deferred.clear();
  return true;
}

// The connection is over; the client's window begins.
void ServerCore::lose(Peer& peer, int64_t now_ns) {
  if (peer.touched) std::erase(touched_, &peer);
  if (peer.choked) --choked_;
  for (const auto& stream : peer.deferred) stream->waits = false;
  while (!peer.queue.empty()) sent_first(peer);
  Client& client = *peer.client;
  client.peer = nullptr;
  if (client.lost_ns == 0) client.lost_ns = now_ns;
  peers_.erase(std::string(peer.id));
}

// Everything of the client goes, at once.
void ServerCore::expire(Client& client) {
  ++counters_.expired;
  for (auto& [id, stream] : client.streams) {
    stream->client = nullptr;
    if (stream->engine_id != 0 && !stream->end_read()) engine_->cancel(stream->engine_id);
  }
  running_ -= client.running;
  active_ -= client.running > 0 ? 1 : 0;
  waiting_ -= client.waiting.size();
  blob_bytes_ -= client.blob_bytes;
  for (const auto& [handle, session] : client.sessions) {
    host_.run([engine = engine_, session = session]() -> std::function<void()> {
      engine->session_free(session);
      return [] {};
    });
  }
  if (client.peer != nullptr) lose(*client.peer, 0);
  std::erase(owing_, &client);
  std::erase(holding_, &client);
  std::erase(queueing_, &client);
  clients_.erase(std::string(client.scope));
}

bool ServerCore::silent_too_long(const Peer& peer, int64_t now_ns) const {
  const bool busy = peer.client->running > 0;
  const int64_t interval_ms = busy ? config_.heartbeat_ms : config_.idle_ms;
  return now_ns - peer.heard_ns > 3 * interval_ms * kMs;
}

void ServerCore::check_peers(int64_t now_ns) {
  std::vector<Client*> over;
  for (auto& [scope, client] : clients_) {
    if (client->peer != nullptr && client->lost_ns == 0 && silent_too_long(*client->peer, now_ns)) {
      client->lost_ns = now_ns;
    }
    if (client->lost_ns != 0 && now_ns - client->lost_ns >= config_.resume_ms * kMs)
      over.push_back(client.get());
    trim_ended(*client, now_ns);
    if (!client->uploads.empty() &&
        now_ns - client->uploads.front()->heard_ns > config_.resume_ms * kMs) {
      drop_upload(*client, client->uploads.front()->stream->id(),
                  {Code::deadline, "the upload stood still for " +
                                       std::to_string(config_.resume_ms / 1000) + " s"});
    }
    if (client->peer != nullptr && client->running == 0 &&
        client->peer->bodies.deltas.capacity() > kKeptBytes) {
      client->peer->bodies = {};
    }
  }
  for (Client* client : over) expire(*client);
}

// ---- time ---------------------------------------------------------------------------------------

void ServerCore::pump(int64_t now_ns) {
  ready_->take(news_);
  for (const std::shared_ptr<Stream>& stream : news_) {
    free_places(*stream);
    read(stream, now_ns);
  }
  news_.clear();
  send_answers(now_ns);
}

void ServerCore::send_answers(int64_t now_ns) {
  std::erase_if(owing_, [&](Client* client) { return give_owed(*client, now_ns); });
  std::erase_if(holding_, [&](Client* client) { return start_held(*client, now_ns); });
  start_waiting(now_ns);
  std::vector<std::shared_ptr<Stream>> again;
  again.swap(again_);
  for (const std::shared_ptr<Stream>& stream : again) {
    stream->waits = false;
    read(stream, now_ns);
  }
  std::vector<Peer*> touched;
  touched.swap(touched_);
  for (Peer* peer : touched) peer->touched = false;
  for (Peer* peer : touched) flush(*peer, now_ns);
}

void ServerCore::read(const std::shared_ptr<Stream>& stream, int64_t now_ns) {
  Client* const client = stream->client;
  if (client == nullptr) return;
  Peer* const peer = client->peer;
  if (peer == nullptr) return;  // the log goes on; whoever resumes reads it
  if (peer->choked) {
    if (!std::exchange(stream->waits, true)) peer->deferred.push_back(stream);
    return;
  }
  const bool was_read = stream->end_read();
  if (!stream->pull(peer->bodies)) {
    std::string body;
    SharedBytes piece;
    if (stream->pull_data(body, piece)) {
      queue(*peer, Kind::data, std::move(body), {piece});
    }
    read_later(stream);
  }
  touch(*peer);
  if (!was_read && stream->end_read()) end_was_read(*client, stream, now_ns);
  if (peer->bodies.deltas.size() > kFlushBytes) flush(*peer, now_ns);
}

void ServerCore::tick(int64_t now_ns) {
  if (choked_ > 0) {
    std::vector<Peer*> choked;
    for (auto& [id, peer] : peers_) {
      if (peer->choked) choked.push_back(peer.get());
    }
    for (Peer* peer : choked) flush(*peer, now_ns);
  }
  if (now_ns - checked_ns_ < kCheck_ns) return;
  checked_ns_ = now_ns;
  check_peers(now_ns);
  end_late(now_ns);
  if (now_ns >= informed_ns_ && now_ns - informed_ns_ >= kInform_ns) ask_info(now_ns);
}

// What an engine says of itself may change (its options), and asking may block.
void ServerCore::ask_info(int64_t now_ns) {
  informed_ns_ = std::numeric_limits<int64_t>::max();  // not again before the answer
  host_.run([this, now_ns, engine = engine_]() -> std::function<void()> {
    auto info = std::make_shared<Result<EngineInfo>>(engine->info());
    return [this, now_ns, info] {
      informed_ns_ = now_ns;
      if (info->ok()) info_ = std::move(**info);
    };
  });
}

}  // namespace troupe::wire
