// ServerCore's fairness: what one client may take of the reading, of the engine's door and of the
// memory (INV-WIRE-7).
#include <algorithm>
#include <limits>
#include <utility>

#include "wire/server_core.hpp"

namespace troupe::wire {
namespace {

constexpr int64_t kWindowCost_ns = 20'000'000;  // what the pieces of a window will be charged
// Answers that a peer leaves unread: beyond this the connection is given up.
constexpr size_t kBacklogBytes = size_t{32} << 20;
constexpr int64_t kRestMost_ns = 10'000'000;

size_t bytes_of(const Bodies& b) {
  return b.accepted.size() + b.grants.size() + b.admitted.size() + b.deltas.size() + b.done.size() +
         b.cancelled.size() + b.failed.size();
}

}  // namespace

// Strangers have no share. Who is alone here may have everything.
void ServerCore::charge(Client* client, const Incoming& message, int64_t now_ns) {
  if (client == nullptr ? running_ == 0 : !crowded(*client)) return;
  size_t bytes = message.body.size();
  for (const SharedBytes& blob : message.blobs) bytes += blob.size;
  const int64_t cost = FairShare::cost_of_message(bytes);
  if (client != nullptr && !client->reading.charge(cost, now_ns)) return;
  rest_ns_ = std::min(cost, kRestMost_ns);
  ++counters_.rests;
}

// Who asks and asks and never reads the answers is lost, and may come back (INV-WIRE-7).
void ServerCore::check_backlog(std::string_view id, int64_t now_ns) {
  const auto it = peers_.find(id);
  if (it == peers_.end() || !it->second->choked) return;
  if (it->second->queue_bytes + bytes_of(it->second->bodies) <= kBacklogBytes) return;
  ++counters_.overfull;
  lose(*it->second, now_ns);
}

void ServerCore::owe(Client& client, uint64_t bytes) {
  if (bytes == 0) return;
  client.uploads.front()->owed += bytes;
  if (std::find(owing_.begin(), owing_.end(), &client) == owing_.end()) owing_.push_back(&client);
}

// Leave comes no faster than what it brings can be read within the client's share: so who sends
// images by the gigabyte waits for it, and nobody waits behind them. True: nothing is owed now.
bool ServerCore::give_owed(Client& client, int64_t now_ns) {
  if (client.uploads.empty() || client.peer == nullptr || client.uploads.front()->owed == 0)
    return true;
  if (crowded(client) && client.reading.affordable_ns(kWindowCost_ns) > now_ns) return false;
  Upload& upload = *client.uploads.front();
  write_grant(client.peer->bodies.grants, upload.stream->id(), upload.blobs[upload.current].number,
              upload.owed);
  upload.granted += std::exchange(upload.owed, 0);
  touch(*client.peer);
  return true;
}

// ---- the engine's door ----

// When the client's next request may go on to the engine.
int64_t ServerCore::turn_ns(const Client& client) const {
  return crowded(client) ? client.starting.affordable_ns(FairShare::kStart_ns) : 0;
}

// Requests beyond their client's pace wait here, in their order, so that the engine is not kept
// busy with one client's, and nobody's messages wait behind them.
void ServerCore::start_in_turn(Client& client, HeldRequest request) {
  const int64_t now_ns = request.since_ns;
  if (client.held.empty() && turn_ns(client) <= now_ns) {
    if (crowded(client)) client.starting.charge(FairShare::kStart_ns, now_ns);
    enter(client, std::move(request), now_ns);
    return;
  }
  ++counters_.held;
  if (client.held.empty()) holding_.push_back(&client);
  client.held_bytes += request.bytes;
  client.held.push_back(std::move(request));
}

// True: nothing is held now.
bool ServerCore::start_held(Client& client, int64_t now_ns) {
  while (!client.held.empty() && turn_ns(client) <= now_ns) {
    if (crowded(client)) client.starting.charge(FairShare::kStart_ns, now_ns);
    HeldRequest next = std::move(client.held.front());
    client.held.pop_front();
    client.held_bytes -= next.bytes;
    enter(client, std::move(next), now_ns);
  }
  return client.held.empty();
}

bool ServerCore::drop_held(Client& client, const Id128& id, const Status& why) {
  const auto at = std::find_if(client.held.begin(), client.held.end(),
                               [&](const HeldRequest& one) { return one.stream->id() == id; });
  if (at == client.held.end()) return false;
  const std::shared_ptr<Stream> stream = at->stream;
  client.held_bytes -= at->bytes;
  client.held.erase(at);
  if (client.held.empty()) std::erase(holding_, &client);
  end_unstarted(client, stream, why);
  return true;
}

int64_t ServerCore::due_ns() const {
  int64_t due = std::numeric_limits<int64_t>::max();
  for (const Client* client : owing_) {
    due = std::min(due, crowded(*client) ? client->reading.affordable_ns(kWindowCost_ns) : 0);
  }
  for (const Client* client : holding_) due = std::min(due, turn_ns(*client));
  return due;
}

}  // namespace troupe::wire
