// ServerCore's waiting room: who gets the engine's places (INV-WIRE-7).
//
// The engine is given what keeps its places busy, and as much again that stands ready; the rest is
// accepted and waits here, in the order of its client, and as places become free the clients have
// their turn. So a client that is alone fills every place, and whoever comes later waits behind
// nobody's thousands: as long as it has less than its part of the places, its requests go on at
// once and before those of who has more.
#include <algorithm>
#include <utility>

#include "base/limits.hpp"
#include "wire/server_core.hpp"

namespace troupe::wire {
namespace {

// What a client's requests within its part are ahead of others', in levels of priority: the engine
// gives them a place that somebody's long request has, unless that has been there for minutes.
constexpr int32_t kLevelsWithinPart = 40;

uint64_t sequences_of(const Request& request) {
  if (request.task != Task::generate) return 1;
  return static_cast<uint64_t>(std::max(request.sampling.n, 1));
}

int32_t raised(int32_t priority) {  // one that is out of bounds is the engine's to refuse
  return std::max(priority, std::min(priority + kLevelsWithinPart, limits::priority));
}

}  // namespace

// Of those that run and those that may wait for it.
uint64_t ServerCore::places_of_engine() const {
  return static_cast<uint64_t>(int64_t{std::max(info_.max_sequences, 0)} + info_.max_waiting);
}

// Of the places to run in, among the clients that have something in flight.
uint64_t ServerCore::part_of_places() const {
  const uint64_t places =
      info_.max_sequences > 0 ? static_cast<uint64_t>(info_.max_sequences) : places_of_engine();
  return std::max<uint64_t>(places / std::max<uint64_t>(active_, 1), 1);
}

bool ServerCore::has_place(const Client& client) const {
  const uint64_t most = places_of_engine();
  if (started_ >= most) return false;
  if (info_.max_sequences <= 0) return true;  // an engine that does not say how many run at once
  const auto running = static_cast<uint64_t>(info_.max_sequences);
  const uint64_t busy = running + std::min(running, (most - running) / 2);  // room for newcomers
  return started_ < busy || client.started < part_of_places();
}

// A request of a session does not wait here: what its client asks of the session next must find it
// there, and a session has one request at a time.
void ServerCore::enter(Client& client, HeldRequest request, int64_t now_ns) {
  if (request.request.session != 0 || (client.waiting.empty() && has_place(client)))
    return start(client, std::move(request), now_ns);
  accept(client, *request.stream);
  if (client.waiting.empty()) queueing_.push_back(&client);
  client.waiting_bytes += request.bytes;
  client.waiting.push_back(std::move(request));
  ++waiting_;
}

void ServerCore::start(Client& client, HeldRequest request, int64_t now_ns) {
  const std::shared_ptr<Stream> stream = std::move(request.stream);
  const auto end = [&](const Status& why) {
    if (stream->accepted) return stream->push(end_of(why));
    end_unstarted(client, stream, why);
  };
  std::optional<int64_t>& deadline_ns = request.request.deadline_ns;
  const int64_t waited_ns = now_ns - request.since_ns;
  if (deadline_ns && waited_ns > 0 && *deadline_ns <= waited_ns)
    return end({Code::deadline, "the deadline passed while the request waited for its turn"});
  if (deadline_ns) *deadline_ns -= waited_ns;
  if (crowded(client) && client.started < part_of_places())
    request.request.priority = raised(request.request.priority);
  const uint64_t places = sequences_of(request.request);
  const Result<RequestId> id = engine_->submit(std::move(request.request), stream);
  if (!id.ok()) return end(id.status());
  stream->engine_id = *id;
  stream->places = places;
  client.started += places;
  started_ += places;
  accept(client, *stream);
}

// Whose turn it is, one request each.
void ServerCore::start_waiting(int64_t now_ns) {
  for (;;) {
    const auto next = std::find_if(queueing_.begin(), queueing_.end(),
                                   [&](const Client* client) { return has_place(*client); });
    if (next == queueing_.end()) return;
    Client& client = **next;
    const std::shared_ptr<Stream> stream = client.waiting.front().stream;
    queueing_.erase(next);
    queueing_.push_back(&client);  // its next turn comes after everybody's
    start(client, *take_waiting(client, stream->id()), now_ns);
  }
}

std::optional<HeldRequest> ServerCore::take_waiting(Client& client, const Id128& id) {
  const auto at = std::find_if(client.waiting.begin(), client.waiting.end(),
                               [&](const HeldRequest& one) { return one.stream->id() == id; });
  if (at == client.waiting.end()) return std::nullopt;
  HeldRequest taken = std::move(*at);
  client.waiting.erase(at);
  client.waiting_bytes -= taken.bytes;
  --waiting_;
  if (client.waiting.empty()) std::erase(queueing_, &client);
  return taken;
}

void ServerCore::end_late(int64_t now_ns) {
  for (size_t i = 0; i < queueing_.size();) {
    Client& client = *queueing_[i];
    std::vector<std::shared_ptr<Stream>> late;
    for (const HeldRequest& one : client.waiting) {
      const std::optional<int64_t>& deadline_ns = one.request.deadline_ns;
      if (deadline_ns && *deadline_ns <= now_ns - one.since_ns) late.push_back(one.stream);
    }
    for (const std::shared_ptr<Stream>& stream : late) {
      take_waiting(client, stream->id());
      stream->push(
          end_of({Code::deadline, "the deadline passed while the request waited for a place"}));
    }
    i += client.waiting.empty() ? 0 : 1;  // it has left the queue
  }
}

// The engine has ended it.
void ServerCore::free_places(Stream& stream) {
  if (stream.places == 0 || !stream.ended()) return;
  if (stream.client != nullptr) stream.client->started -= stream.places;
  started_ -= std::exchange(stream.places, 0);
}

}  // namespace troupe::wire
