// ServerCore's fairness: what one client may take of the reading and of the memory (INV-WIRE-7).
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
void ServerCore::charge(Client* client, Kind kind, const Incoming& message, int64_t now_ns) {
  if (client == nullptr ? running_ == 0 : !crowded(*client)) return;
  size_t bytes = message.body.size();
  for (const SharedBytes& blob : message.blobs) bytes += blob.size;
  const int64_t cost = FairShare::cost_of(kind, bytes);
  if (client != nullptr && !client->share.charge(cost, now_ns)) return;
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
  if (crowded(client) && client.share.affordable_ns(kWindowCost_ns) > now_ns) return false;
  Upload& upload = *client.uploads.front();
  write_grant(client.peer->bodies.grants, upload.stream->id(), upload.blobs[upload.current].number,
              upload.owed);
  upload.granted += std::exchange(upload.owed, 0);
  touch(*client.peer);
  return true;
}

int64_t ServerCore::grants_due_ns() const {
  int64_t due = std::numeric_limits<int64_t>::max();
  for (const Client* client : owing_) {
    due = std::min(due, crowded(*client) ? client->share.affordable_ns(kWindowCost_ns) : 0);
  }
  return due;
}

}  // namespace troupe::wire
