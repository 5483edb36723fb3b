// ServerCore's requests: SUBMIT to the last RELEASE.
#include <algorithm>
#include <utility>

#include "base/limits.hpp"
#include "wire/reader.hpp"
#include "wire/server_core.hpp"

namespace troupe::wire {
namespace {

// One client may fill three quarters of the engine's places when it is the only one that asks, and
// less when others do: some are left for whoever comes.
constexpr uint64_t kPartOfFree = 3;
// Requests that wait for their turn, as they were sent, blobs aside.
constexpr size_t kHeldBytes = size_t{16} << 20;
// And those that wait for places.
constexpr size_t kWaitingBytes = size_t{256} << 20;

// The id of a SUBMIT whose rest cannot be read, so that its sender can be told.
std::optional<Id128> id_of(std::string_view body) {
  Reader reader(body);
  std::optional<Id128> id;
  reader.each([&](uint64_t k) {
    if (k != key::id) return false;
    const Id128 value = reader.id();
    if (reader.ok()) id = value;
    return true;
  });
  return id;
}

}  // namespace

// Told in a FAILED without an ACCEPTED before it: nothing of the request is kept.
void ServerCore::refuse(Client& client, const Id128& id, const Status& why) {
  ++counters_.refused;
  if (client.peer == nullptr) return;
  write_end(client.peer->bodies.failed, id, 0, end_of(why));
  touch(*client.peer);
}

// It ends without the engine: refused, or cancelled by its client.
void ServerCore::end_unstarted(Client& client, const std::shared_ptr<Stream>& stream,
                               const Status& why) {
  const Id128 id = stream->id();
  forget(client, stream);
  if (why.code() != Code::cancelled) return refuse(client, id, why);
  if (client.peer == nullptr) return;
  write_end(client.peer->bodies.cancelled, id, 0, end_of(why));
  touch(*client.peer);
}

bool ServerCore::submit(Peer& peer, Incoming& message, int64_t now_ns) {
  Client& client = *peer.client;
  if (message.body.size() > config_.limits.body_bytes) {
    const auto id = id_of(message.body);
    if (!id) return false;
    refuse(client, *id,
           limit_exceeded("the request has " + std::to_string(message.body.size()) +
                          " bytes beside its blobs: this server takes " +
                          std::to_string(config_.limits.body_bytes)));
    return true;
  }
  Result<Submit> read = read_submit(message.body, config_.limits);
  if (!read.ok()) {
    const auto id = id_of(message.body);
    if (!id) return false;
    refuse(client, *id, read.status());
    return true;
  }
  if (const auto it = client.streams.find(read->id); it != client.streams.end()) {
    // It joins what runs: from its beginning, as if nothing of it had come yet.
    Note from_the_start;
    from_the_start.id = read->id;
    from_the_start.credit = read->credit;
    resume(client, from_the_start);
    return true;
  }
  std::vector<size_t> sizes;
  if (const Status why = admit_submit(client, *read, message, sizes); !why.ok()) {
    refuse(client, read->id, why);
    return true;
  }
  auto stream = std::make_shared<Stream>(read->id, ready_);
  stream->client = &client;
  stream->grant(read->credit);
  for (const size_t size : sizes) stream->blob_bytes += size;
  client.streams.emplace(read->id, stream);
  count_in(client);
  client.blob_bytes += stream->blob_bytes;
  blob_bytes_ += stream->blob_bytes;
  if (!read->uploads.empty()) {
    begin_upload(client, std::move(stream), std::move(*read), std::move(message.blobs), now_ns);
    return true;
  }
  start_in_turn(client, {stream, complete(std::move(read->draft), message.blobs),
                         message.body.size(), now_ns});
  return true;
}

// Everything that can be refused before the engine is asked. `sizes`: of all blobs, by number.
Status ServerCore::admit_submit(Client& client, Submit& submit, Incoming& message,
                                std::vector<size_t>& sizes) {
  const Limits& most = config_.limits;
  if (draining_) return {Code::closed, "the server stops and takes no new request", true};
  if (client.running >= most.requests) {
    return {Code::overloaded, "this client has " + std::to_string(client.running) +
                                  " requests in flight, as many as it may: wait for one to end"};
  }
  TR_TRY(check_places(client));
  if (!client.held.empty() && client.held_bytes + message.body.size() > kHeldBytes) {
    return {Code::overloaded, "this client sends faster than its share allows, and " +
                                  std::to_string(client.held.size()) +
                                  " of its requests wait for their turn: wait for one to end"};
  }
  if (!client.waiting.empty() && client.waiting_bytes + message.body.size() > kWaitingBytes) {
    return {Code::overloaded, std::to_string(client.waiting.size()) +
                                  " requests of this client wait for a place and fill " +
                                  std::to_string(kWaitingBytes) + " bytes: wait for one to end"};
  }
  size_t frame = 0, upload = 0;
  const size_t count = message.blobs.size() + submit.uploads.size();
  for (size_t i = 0; i < count; ++i) {
    if (upload < submit.uploads.size() && submit.uploads[upload].blob == i) {
      sizes.push_back(submit.uploads[upload++].size);
      continue;
    }
    if (frame == message.blobs.size())
      return invalid("SUBMIT: its uploads and frames leave out blob " + std::to_string(i));
    sizes.push_back(message.blobs[frame++].size);
    if (sizes.back() > most.blob_bytes) {
      return limit_exceeded("blob " + std::to_string(i) + " has " + std::to_string(sizes.back()) +
                            " bytes in one frame: this server takes " +
                            std::to_string(most.blob_bytes) + "; upload it in chunks");
    }
  }
  uint64_t bytes = 0;
  for (const size_t size : sizes) {
    if (size > most.upload_bytes) {
      return limit_exceeded("a blob has " + std::to_string(size) + " bytes: this client may have " +
                            std::to_string(most.upload_bytes) + " in flight");
    }
    bytes += size;
  }
  const auto too_large = [&](uint64_t may_have, const char* who) {
    return limit_exceeded("the blobs of this request have " + std::to_string(bytes) + " bytes: " +
                          who + " may have " + std::to_string(may_have) + " in flight");
  };
  if (bytes > most.upload_bytes) return too_large(most.upload_bytes, "a client");
  if (bytes > config_.upload_bytes) return too_large(config_.upload_bytes, "all clients together");
  if (client.blob_bytes + bytes > most.upload_bytes) {
    return {Code::overloaded, "with this request the client would have " +
                                  std::to_string(client.blob_bytes + bytes) +
                                  " bytes of images in flight: it may have " +
                                  std::to_string(most.upload_bytes) + "; wait for one to end"};
  }
  if (blob_bytes_ + bytes > config_.upload_bytes) {
    return {Code::overloaded, "the images of all clients in flight fill " +
                                  std::to_string(config_.upload_bytes) +
                                  " bytes: try again when some have ended"};
  }
  TR_TRY(check_blobs(submit.draft, sizes, most));
  return adopt_session(client, submit.draft.request);
}

// Who has less than its part of the engine's places, and of its waiting room, is always taken.
Status ServerCore::check_places(const Client& client) const {
  const uint64_t places = places_of_engine();
  if (client.running < std::max<uint64_t>(places / clients_.size(), 1)) return {};
  const uint64_t free = places - std::min(places, running_);
  if (clients_.size() > 1 && client.running >= kPartOfFree * free) {
    return {Code::overloaded, "this client has " + std::to_string(client.running) +
                                  " requests in flight, and the " + std::to_string(free) +
                                  " places left are kept for others: wait for one to end"};
  }
  if (started_ + waiting_ < places) return {};
  return {Code::overloaded, "the server has " + std::to_string(started_) +
                                " sequences in the engine and " + std::to_string(waiting_) +
                                " requests that wait, as many as max_sequences and max_waiting "
                                "allow: wait for one to end"};
}

// A client knows its sessions by handles of its own; another's cannot be named.
Status ServerCore::adopt_session(Client& client, Request& request) {
  if (request.session != 0) {
    const auto it = client.sessions.find(request.session);
    if (it == client.sessions.end()) {
      return {Code::not_found,
              "session " + std::to_string(request.session) + " is none of this client's"};
    }
    request.session = it->second;
  }
  // A tenant's name means the same client's only when the client has proved who it is.
  if (!request.client.empty() && !client.identity.empty())
    request.client = client.identity + "/" + request.client;
  return {};
}

void ServerCore::accept(Client& client, Stream& stream) {
  if (std::exchange(stream.accepted, true) || client.peer == nullptr) return;
  write_id(client.peer->bodies.accepted, stream.id());
  touch(*client.peer);
}

// The request leaves the books, whatever state it is in.
void ServerCore::forget(Client& client, const std::shared_ptr<Stream>& stream) {
  if (!stream->end_read()) count_out(client);
  client.started -= stream->places;  // the engine's are free when it says so
  client.blob_bytes -= stream->blob_bytes;
  blob_bytes_ -= stream->blob_bytes;
  stream->blob_bytes = 0;
  stream->client = nullptr;
  client.streams.erase(stream->id());
}

void ServerCore::resume(Client& client, Note& note) {
  const auto it = client.streams.find(note.id);
  if (it == client.streams.end()) {
    refuse(
        client, note.id,
        {Code::connection_lost, "RESUME: this server has no such request of this client any more"});
    return;
  }
  const std::shared_ptr<Stream> stream = it->second;
  const bool had_ended = stream->end_read();
  if (const Status moved = stream->rewind(note.from, note.credit); !moved.ok()) {
    abandon(client, stream, moved);
    return;
  }
  if (had_ended) {  // its end will be read again
    count_in(client);
    keep_no_more(client, stream);
  }
  if (!stream->accepted || client.peer == nullptr) return;  // uploading, or held
  write_id(client.peer->bodies.accepted, note.id);
  touch(*client.peer);
  read_later(stream);
}

// The client is told FAILED, which ends the request for good: nothing may come behind it.
void ServerCore::abandon(Client& client, const std::shared_ptr<Stream>& stream, const Status& why) {
  if (!stream->accepted) return withdraw(client, stream->id(), why);
  take_waiting(client, stream->id());
  if (stream->engine_id != 0 && !stream->end_read()) engine_->cancel(stream->engine_id);
  keep_no_more(client, stream);
  end_unstarted(client, stream, why);
}

// It leaves the ended ones.
void ServerCore::keep_no_more(Client& client, const std::shared_ptr<Stream>& stream) {
  const auto kept = std::find(client.ended.begin(), client.ended.end(), stream);
  if (kept == client.ended.end()) return;
  client.ended_bytes -= std::min(client.ended_bytes, stream->bytes());
  client.ended.erase(kept);
}

void ServerCore::cancel(Client& client, const Id128& id) {
  const auto it = client.streams.find(id);
  if (it == client.streams.end() || it->second->end_read()) return;
  withdraw(client, id, {Code::cancelled, "cancelled before the engine had it"});
}

// Wherever it is on its way. `why` is for those that never were accepted; the others end CANCELLED.
void ServerCore::withdraw(Client& client, const Id128& id, const Status& why) {
  const std::shared_ptr<Stream> stream = client.streams.at(id);
  if (stream->engine_id != 0) {
    engine_->cancel(stream->engine_id);
  } else if (take_waiting(client, id)) {
    stream->push(end_of({Code::cancelled, "cancelled while it waited for a place"}));
  } else {
    drop_upload(client, id, why);
    drop_held(client, id, why);
  }
}

void ServerCore::release(Client& client, const Id128& id) {
  const auto it = client.streams.find(id);
  if (it == client.streams.end() || !it->second->end_read()) return;
  const std::shared_ptr<Stream> stream = it->second;
  keep_no_more(client, stream);
  forget(client, stream);
}

void ServerCore::end_was_read(Client& client, const std::shared_ptr<Stream>& stream,
                              int64_t now_ns) {
  count_out(client);
  client.blob_bytes -= stream->blob_bytes;
  blob_bytes_ -= stream->blob_bytes;
  stream->blob_bytes = 0;
  stream->ended_ns = now_ns;
  client.ended.push_back(stream);
  client.ended_bytes += stream->bytes();
  trim_ended(client, now_ns);
}

void ServerCore::count_in(Client& client) {
  active_ += client.running == 0 ? 1 : 0;
  ++client.running;
  ++running_;
}

void ServerCore::count_out(Client& client) {
  --client.running;
  --running_;
  active_ -= client.running == 0 ? 1 : 0;
}

void ServerCore::trim_ended(Client& client, int64_t now_ns) {
  while (!client.ended.empty()) {
    const std::shared_ptr<Stream> oldest = client.ended.front();
    const bool stale = now_ns - oldest->ended_ns > config_.resume_ms * 1'000'000;
    if (!stale && client.ended.size() <= config_.ended_requests &&
        client.ended_bytes <= config_.ended_bytes)
      return;
    client.ended_bytes -= std::min(client.ended_bytes, oldest->bytes());
    client.ended.pop_front();
    forget(client, oldest);
  }
}

}  // namespace troupe::wire
