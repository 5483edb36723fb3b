// Bodies that are not about one request: the handshake, heartbeats, goodbyes, and the errors, facts
// and counters that other bodies carry. write_* appends to a body; read_* believes nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/port.hpp"
#include "wire/protocol.hpp"

namespace troupe::wire {

class Reader;
class Writer;

// What one client may have: advertised in WELCOME, enforced by the server (docs/protocol.md).
struct Limits {
  uint64_t requests = 4096;  // in flight
  uint64_t body_bytes = uint64_t{4} << 20;  // frame 1
  uint64_t blob_bytes = kChunkBytes;  // of one frame: what is larger comes in chunks
  uint64_t image_bytes = uint64_t{64} << 20;  // of one blob
  uint64_t image_pixels = uint64_t{64} << 20;  // of one image, before it is decoded
  uint64_t images = 256;  // of one request
  uint64_t prompt_tokens = uint64_t{4} << 20;  // ids given in one prompt
  uint64_t sessions = 256;
  uint64_t upload_bytes = uint64_t{256} << 20;  // blobs of all its requests in flight
  uint64_t questions = 64;  // waiting for their reply
};

struct Hello {
  bool speaks_this_version = false;
  Id128 client{};
  std::string name;
  uint64_t capabilities = 0;
  std::optional<Id128> ticket;
};
void write_hello(std::string& body, const Hello& hello);
Result<Hello> read_hello(std::string_view body);

struct Welcome {
  Id128 server{}, ticket{};
  bool resumed = false;
  int64_t heartbeat_ms = 0, idle_ms = 0, resume_ms = 0;
  Limits limits;
  EngineInfo info;
};
void write_welcome(std::string& body, const Welcome& welcome);
Result<Welcome> read_welcome(std::string_view body);

struct Pong {
  uint64_t t = 0, steps = 0, waiting = 0, running = 0;
};
void write_ping(std::string& body, uint64_t t);
Result<uint64_t> read_ping(std::string_view body);
void write_pong(std::string& body, const Pong& pong);
Result<Pong> read_pong(std::string_view body);

struct Bye {
  Status reason;
  std::optional<int64_t>
      drain_ms;  // given: what runs may end within this time, nothing new is taken
};
void write_bye(std::string& body, const Bye& bye);
Result<Bye> read_bye(std::string_view body);

void write_refused(std::string& body, const Status& why);
// Why; a REFUSED that cannot be read is a failure as well.
Status read_refused(std::string_view body);

// Values inside other bodies.
void write_error(Writer& writer, const Status& status);
Status read_error(Reader& reader);
void write_stats(Writer& writer, const EngineStats& stats);
EngineStats read_stats(Reader& reader);

}  // namespace troupe::wire
