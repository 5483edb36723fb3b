// ClientCore's requests: from submit to the terminal event.
#include <algorithm>
#include <cstring>
#include <utility>

#include "wire/client_core.hpp"

namespace troupe::wire {

void ClientCore::submit(RequestId id, Request request, std::shared_ptr<EventSink> sink,
                        Accepted accepted, int64_t now_ns) {
  now_ns_ = now_ns;
  if (state_ != State::up) {
    accepted(lost("not connected at the moment: " + last_failure_.message()));
    return;
  }
  auto remote = std::make_unique<Remote>();
  remote->id = id;
  remote->user_data = request.user_data;
  remote->name = uplink_.random_id();
  remote->sink = std::move(sink);
  remote->asked_ns = remote->submitted_ns = now_ns;
  remote->due_ns = due_ns(request.deadline_ns, now_ns);
  remote->packed = pack_submit(remote->name, config_.credit, request, welcome_.limits);
  if (remote->packed.body.size() > welcome_.limits.body_bytes) {
    accepted(limit_exceeded("the request has " + std::to_string(remote->packed.body.size()) +
                            " bytes beside its images: " + config_.endpoint + " takes " +
                            std::to_string(welcome_.limits.body_bytes)));
    return;
  }
  remote->accepted = std::move(accepted);
  Remote& added = *remote;
  names_.emplace(id, added.name);
  remotes_.emplace(added.name, std::move(remote));
  send_submit(added);
}

void ClientCore::send_submit(Remote& remote) {
  remote.uploading = 0;
  remote.sent = remote.granted = 0;
  send(Kind::submit, remote.packed.body, remote.packed.frames);
}

void ClientCore::take_grant(Note& note) {
  Remote* const remote = find(note.id);
  if (remote == nullptr || remote->uploading >= remote->packed.uploads.size()) return;
  if (remote->packed.uploads[remote->uploading].first != note.blob) return;
  remote->granted += note.bytes;
  send_chunks(*remote);
}

// As much as was granted, in pieces of a chunk: what others send goes between them.
void ClientCore::send_chunks(Remote& remote) {
  const auto& [blob, bytes] = remote.packed.uploads[remote.uploading];
  std::string body;
  while (remote.sent < bytes.size) {
    const uint64_t size = std::min<uint64_t>(kChunkBytes, bytes.size - remote.sent);
    if (remote.sent + size > remote.granted) return;
    const SharedBytes piece{bytes.owner, bytes.data + remote.sent, static_cast<size_t>(size)};
    body.clear();
    write_blob(body, remote.name, blob, remote.sent);
    send(Kind::blob, body, std::span(&piece, 1));
    remote.sent += size;
  }
  ++remote.uploading;
  remote.sent = remote.granted = 0;
  remote.submitted_ns = now_ns_;  // the time for the answer begins now
}

void ClientCore::cancel(RequestId id) {
  const auto it = names_.find(id);
  Remote* const remote = it == names_.end() ? nullptr : find(it->second);
  if (remote == nullptr || std::exchange(remote->cancelled, true) || state_ != State::up) return;
  std::string body;
  write_id(body, remote->name);
  send(Kind::cancel, body);
}

void ClientCore::cancel_all() {
  std::vector<RequestId> ids;
  for (const auto& [id, name] : names_) ids.push_back(id);
  for (const RequestId id : ids) cancel(id);
}

// ---- events -------------------------------------------------------------------------------------

void ClientCore::take_event(Kind kind, WireEvent& event) {
  Remote* const remote = state_ == State::up ? find(event.id) : nullptr;
  if (remote == nullptr) return;
  event.event.id = remote->id;
  event.event.user_data = remote->user_data;
  switch (kind) {
    case Kind::accepted:
      if (remote->accepted) {
        remote->packed = {};
        std::exchange(remote->accepted, nullptr)({});
      }
      return;
    case Kind::admitted:
      if (!std::exchange(remote->admitted, true)) remote->sink->push(std::move(event.event));
      return;
    case Kind::delta:
      if (!take_delta(*remote, event)) {
        drop_link(lost("a delta of request " + std::to_string(remote->id) +
                       " began where the last one had not ended"),
                  now_ns_);
      }
      return;
    default:
      take_end(*remote, event);
  }
}

bool ClientCore::take_delta(Remote& remote, WireEvent& event) {
  Event& delta = event.event;
  const auto index = static_cast<size_t>(delta.index);
  if (remote.at.size() <= index) remote.at.resize(index + 1);
  Position& at = remote.at[index];
  if (static_cast<uint64_t>(delta.from) != at.tokens ||
      static_cast<uint64_t>(event.text_from) != at.text_bytes) {
    return false;  // INV-WIRE-6
  }
  at.tokens += delta.tokens.size();
  at.text_bytes += delta.text.size();
  if (++remote.used >= config_.credit / 2) {
    write_credit(credits_, remote.name, remote.used);
    remote.used = 0;
  }
  remote.sink->push(std::move(delta));
  return true;
}

void ClientCore::take_end(Remote& remote, WireEvent& event) {
  Event& last = event.event;
  if (remote.accepted) {  // it was refused
    end(remote, last.status.ok() ? Status(Code::cancelled, "cancelled before it was accepted")
                                 : last.status);
    return;
  }
  if (last.data_shape[0] != 0) {
    const uint64_t expected =
        static_cast<uint64_t>(last.data_shape[0]) * static_cast<uint64_t>(last.data_shape[1]);
    if (expected != remote.data.size()) {
      drop_link(lost("an embedding of " + std::to_string(expected) + " numbers came with " +
                     std::to_string(remote.data.size())),
                now_ns_);
      return;
    }
    last.data = std::move(remote.data);
  }
  write_id(releases_, remote.name);
  const std::shared_ptr<EventSink> sink = std::move(remote.sink);
  names_.erase(remote.id);
  remotes_.erase(Id128(remote.name));
  sink->push(std::move(last));
}

void ClientCore::take_data(std::string_view body, const std::vector<SharedBytes>& blobs) {
  Note note;
  if (blobs.size() != 1 || !read_notes(Kind::data, body, [&](Note& n) { note = n; }).ok()) return;
  Remote* const remote = find(note.id);
  const SharedBytes& piece = blobs[0];
  if (remote == nullptr || note.offset != remote->data_bytes || piece.size % sizeof(float) != 0)
    return;
  const size_t before = remote->data.size();
  remote->data.resize(before + piece.size / sizeof(float));
  std::memcpy(remote->data.data() + before, piece.data, piece.size);
  remote->data_bytes += piece.size;
}

// The end that nobody sent: of a request that was never accepted its submitter is told, of another
// one its sink.
void ClientCore::end(Remote& remote, const Status& why) {
  const auto it = remotes_.find(remote.name);
  const RemotePtr owned = std::move(it->second);
  remotes_.erase(it);
  names_.erase(owned->id);
  if (owned->accepted) {
    owned->accepted(why);
    return;
  }
  Event last;
  last.kind = why.code() == Code::cancelled ? EventKind::cancelled : EventKind::failed;
  last.id = owned->id;
  last.user_data = owned->user_data;
  last.finish = last.kind == EventKind::cancelled ? FinishReason::cancelled : FinishReason::error;
  last.status = why;
  for (const Position& at : owned->at)
    last.usage.completion_tokens += static_cast<int64_t>(at.tokens);
  owned->sink->push(std::move(last));
}

}  // namespace troupe::wire
