// ServerCore's goodbyes: to everybody when it stops, to who is not wanted any more; and the audit
// of its books.
#include <algorithm>
#include <utility>

#include "wire/server_core.hpp"

namespace troupe::wire {
namespace {

constexpr int64_t kMs = 1'000'000;

}  // namespace

void ServerCore::drain(int64_t drain_ns) {
  draining_ = true;
  Bye bye;
  bye.reason = {Code::closed, "the server stops", true};
  bye.drain_ms = std::max<int64_t>(drain_ns / kMs, 0);
  std::string body;
  write_bye(body, bye);
  for (auto& [id, peer] : peers_) queue(*peer, Kind::bye, body);
}

uint64_t ServerCore::awaited() const {
  uint64_t count = 0;
  for (const auto& [scope, client] : clients_) {
    const bool there = client->peer != nullptr && client->lost_ns == 0 && !client->peer->choked;
    count += there ? client->running : 0;
  }
  return count;
}

// What was said and the end come without credit now: there is nothing left to wait for.
void ServerCore::cancel_all(const Status& why) {
  for (auto& [scope, client] : clients_) {
    std::vector<std::shared_ptr<Stream>> streams;
    for (const auto& [id, stream] : client->streams) streams.push_back(stream);
    for (const std::shared_ptr<Stream>& stream : streams) {
      if (stream->end_read()) continue;
      stream->explain_cancelling(why);
      withdraw(*client, stream->id(), why);
      stream->grant(static_cast<uint32_t>(kCreditMax));
      read_later(stream);
    }
  }
}

void ServerCore::stop(const Status& why) {
  if (std::exchange(stopped_, true)) return;
  std::string body;
  write_bye(body, {why, {}});
  for (auto& [id, peer] : peers_) {
    if (!peer->choked) (void)host_.send(id, Kind::bye, body, {});
  }
}

void ServerCore::revoke(const std::function<bool(const std::string&)>& allowed) {
  std::vector<Client*> out;
  for (auto& [scope, client] : clients_) {
    if (!allowed(client->identity)) out.push_back(client.get());
  }
  std::string body;
  write_refused(body, {Code::unauthorised, "this client's key was taken off the server's list"});
  for (Client* client : out) {
    if (client->peer != nullptr) (void)host_.send(client->peer->id, Kind::refused, body, {});
    expire(*client);
  }
}

std::string ServerCore::check_integrity() const {
  uint64_t running = 0, blobs = 0, active = 0, started = 0, waiting = 0;
  for (const auto& [scope, client] : clients_) {
    running += client->running;
    blobs += client->blob_bytes;
    active += client->running > 0 ? 1 : 0;
    started += client->started;
    waiting += client->waiting.size();
    uint64_t mine = 0, bytes = 0, places = 0;
    for (const auto& [id, stream] : client->streams) {
      if (stream->client != client.get()) return "a stream belongs to another client";
      mine += stream->end_read() ? 0 : 1;
      bytes += stream->blob_bytes;
      places += stream->places;
    }
    if (client->started != places) return "a client's places are counted wrongly";
    const auto turns = std::count(queueing_.begin(), queueing_.end(), client.get());
    if (turns != (client->waiting.empty() ? 0 : 1)) return "a client's turn is not its one";
    if (client->blob_bytes != bytes) return "a client's blobs are counted wrongly";
    uint64_t replies = 0;
    if (client->peer != nullptr) {
      for (const Peer::Out& out : client->peer->queue) replies += out.kind == Kind::reply ? 1 : 0;
    }
    if (client->questions < replies) return "a client's questions are counted wrongly";
    if (client->running != mine) return "a client's requests are counted wrongly";
    if (client->peer != nullptr && client->peer->client != client.get())
      return "a peer belongs to another client";
    if (client->peer == nullptr && client->lost_ns == 0)
      return "a client without a peer is not lost";
  }
  if (running != running_) return "running requests are counted wrongly";
  if (blobs != blob_bytes_) return "blobs are counted wrongly";
  if (active != active_) return "clients with requests are counted wrongly";
  if (waiting != waiting_) return "waiting requests are counted wrongly";
  if (started > started_) return "the engine's places are counted wrongly";
  return {};
}

}  // namespace troupe::wire
