// ServerCore's uploads: blobs that are too large for one frame come in chunks, each against a
// grant, one request of a client at a time. So a client has at most kWindow bytes on their way, and
// its small requests are never stuck behind more than these.
#include <algorithm>
#include <cstring>
#include <utility>

#include "wire/server_core.hpp"

namespace troupe::wire {
namespace {

constexpr uint64_t kWindow = 4 * kChunkBytes;

}  // namespace

void ServerCore::begin_upload(Client& client, std::shared_ptr<Stream> stream, Submit submit,
                              std::vector<SharedBytes> frames, int64_t now_ns) {
  auto upload = std::make_shared<Upload>();
  upload->stream = std::move(stream);
  upload->heard_ns = now_ns;
  upload->all.resize(frames.size() + submit.uploads.size());
  for (const Submit::Upload& blob : submit.uploads)
    upload->blobs.push_back({blob.blob, blob.size, 0, nullptr});
  size_t next = 0, uploaded = 0;  // uploads rise by their number
  for (SharedBytes& frame : frames) {
    while (uploaded < submit.uploads.size() && submit.uploads[uploaded].blob == next) {
      ++uploaded;
      ++next;
    }
    upload->all[next++] = std::move(frame);
  }
  upload->submit = std::move(submit);
  client.uploads.push_back(std::move(upload));
  grant_next(client);
}

// Leave to send for whoever is first in line.
void ServerCore::grant_next(Client& client) {
  if (client.uploads.empty() || client.uploads.front()->begun) return;
  Upload& upload = *client.uploads.front();
  upload.begun = true;
  upload.granted = upload.owed = 0;
  owe(client, std::min<uint64_t>(kWindow, upload.blobs[upload.current].size));
}

bool ServerCore::take_blob(Client& client, Incoming& message, int64_t now_ns) {
  Note note;
  if (message.blobs.size() != 1 ||
      !read_notes(Kind::blob, message.body, [&](Note& n) { note = n; }).ok()) {
    return false;
  }
  if (client.uploads.empty() || client.uploads.front()->stream->id() != note.id) return false;
  Upload& upload = *client.uploads.front();
  Upload::Blob& blob = upload.blobs[upload.current];
  const SharedBytes& piece = message.blobs[0];
  if (blob.number != note.blob || note.offset != blob.received || piece.size == 0 ||
      piece.size > kChunkBytes || piece.size > upload.granted - blob.received) {
    drop_upload(client, note.id,
                invalid("BLOB: bytes " + std::to_string(note.offset) + " to " +
                        std::to_string(note.offset + piece.size) + " of blob " +
                        std::to_string(note.blob) + " were not the next ones, or came ungranted"));
    return true;
  }
  upload.heard_ns = now_ns;
  if (!blob.bytes) {
    blob.bytes = std::make_shared<std::vector<std::byte>>();
    blob.bytes->reserve(blob.size);
  }
  blob.bytes->insert(blob.bytes->end(), piece.data, piece.data + piece.size);
  blob.received += piece.size;
  if (blob.received < blob.size) {
    // One chunk came, one more may: the window stays open.
    const uint64_t most = std::min<uint64_t>(blob.received + kWindow, blob.size);
    owe(client, most - upload.granted - upload.owed);
    return true;
  }
  if (++upload.current < upload.blobs.size()) {
    upload.begun = false;
    grant_next(client);
    return true;
  }
  finish_upload(client, now_ns);
  return true;
}

void ServerCore::finish_upload(Client& client, int64_t now_ns) {
  const std::shared_ptr<Upload> upload = std::move(client.uploads.front());
  client.uploads.pop_front();
  for (Upload::Blob& blob : upload->blobs) {
    const std::byte* const data = blob.bytes->data();
    upload->all[blob.number] = {std::move(blob.bytes), data, blob.size};
  }
  start_in_turn(
      client, {upload->stream, complete(std::move(upload->submit.draft), upload->all), 0, now_ns});
  grant_next(client);
}

void ServerCore::drop_uploads(Client& client) {
  while (!client.uploads.empty()) {
    const std::shared_ptr<Upload> upload = std::move(client.uploads.front());
    client.uploads.pop_front();
    forget(client, upload->stream);
  }
}

// It ends before it began: refused, or cancelled by its client.
void ServerCore::drop_upload(Client& client, const Id128& id, const Status& why) {
  const auto at = std::find_if(client.uploads.begin(), client.uploads.end(),
                               [&](const auto& upload) { return upload->stream->id() == id; });
  if (at == client.uploads.end()) return;
  const std::shared_ptr<Upload> upload = *at;
  client.uploads.erase(at);
  end_unstarted(client, upload->stream, why);
  grant_next(client);
}

}  // namespace troupe::wire
