#include "wire/control.hpp"

#include <algorithm>

#include "wire/facts_codec.hpp"
#include "wire/reader.hpp"
#include "wire/writer.hpp"

namespace troupe::wire {
namespace {

constexpr size_t kNameBytes = 256;
constexpr size_t kMessageBytes = size_t{64} << 10;
constexpr int64_t kLongest_ms = int64_t{7} * 24 * 3600 * 1000;

template <class T>
Result<T> finish(const Reader& reader, std::string_view where, T value) {
  if (!reader.ok()) return reader.status(where);
  return value;
}

}  // namespace

void write_hello(std::string& body, const Hello& hello) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::hello::versions).array(1);
  writer.number(kVersion);
  map.key(key::hello::client).id(hello.client);
  put(map, key::hello::name, hello.name);
  map.key(key::hello::capabilities).number(hello.capabilities);
  if (hello.ticket) map.key(key::hello::ticket).id(*hello.ticket);
}

Result<Hello> read_hello(std::string_view body) {
  Reader reader(body);
  Hello hello;
  bool named = false;
  reader.each([&](uint64_t k) {
    switch (k) {
      case key::hello::versions:
        for (size_t n = reader.array(16); n > 0 && reader.ok(); --n) {
          hello.speaks_this_version |= reader.number() == kVersion;
        }
        return true;
      case key::hello::client:
        hello.client = reader.id();
        named = true;
        return true;
      case key::hello::name:
        hello.name = reader.text(kNameBytes);
        return true;
      case key::hello::capabilities:
        hello.capabilities = reader.number();
        return true;
      case key::hello::ticket:
        hello.ticket = reader.id();
        return true;
      default:
        return false;
    }
  });
  if (reader.ok() && !named) reader.fail("HELLO has no client id (key 1)");
  return finish(reader, "HELLO", std::move(hello));
}

void write_welcome(std::string& body, const Welcome& w) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::welcome::version).number(kVersion);
  map.key(key::welcome::server).id(w.server);
  map.key(key::welcome::resumed).boolean(w.resumed);
  map.key(key::welcome::heartbeat_ms).integer(w.heartbeat_ms);
  map.key(key::welcome::idle_ms).integer(w.idle_ms);
  map.key(key::welcome::resume_ms).integer(w.resume_ms);
  write_limits(map.key(key::welcome::limits), w.limits);
  write_info(map.key(key::welcome::info), w.info);
  map.key(key::welcome::ticket).id(w.ticket);
}

Result<Welcome> read_welcome(std::string_view body) {
  Reader reader(body);
  Welcome w;
  reader.each([&](uint64_t k) {
    switch (k) {
      case key::welcome::version:
        if (reader.number() != kVersion)
          reader.fail("the server chose a version that was not offered");
        return true;
      case key::welcome::server:
        w.server = reader.id();
        return true;
      case key::welcome::ticket:
        w.ticket = reader.id();
        return true;
      case key::welcome::resumed:
        w.resumed = reader.boolean();
        return true;
      case key::welcome::heartbeat_ms:
        w.heartbeat_ms = reader.integer(1, kLongest_ms);
        return true;
      case key::welcome::idle_ms:
        w.idle_ms = reader.integer(1, kLongest_ms);
        return true;
      case key::welcome::resume_ms:
        w.resume_ms = reader.integer(0, kLongest_ms);
        return true;
      case key::welcome::limits:
        w.limits = read_limits(reader);
        return true;
      case key::welcome::info:
        w.info = read_info(reader);
        return true;
      default:
        return false;
    }
  });
  if (reader.ok() && (w.heartbeat_ms == 0 || w.idle_ms == 0))
    reader.fail("WELCOME has no heartbeat");
  return finish(reader, "WELCOME", std::move(w));
}

void write_ping(std::string& body, uint64_t t) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::ping::t).number(t);
}

Result<uint64_t> read_ping(std::string_view body) {
  Reader reader(body);
  uint64_t t = 0;
  reader.each([&](uint64_t k) {
    if (k != key::ping::t) return false;
    t = reader.number();
    return true;
  });
  return finish(reader, "PING", t);
}

void write_pong(std::string& body, const Pong& pong) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::pong::t).number(pong.t);
  map.key(key::pong::steps).number(pong.steps);
  map.key(key::pong::waiting).number(pong.waiting);
  map.key(key::pong::running).number(pong.running);
}

Result<Pong> read_pong(std::string_view body) {
  Reader reader(body);
  Pong pong;
  reader.each([&](uint64_t k) {
    switch (k) {
      case key::pong::t:
        pong.t = reader.number();
        return true;
      case key::pong::steps:
        pong.steps = reader.number();
        return true;
      case key::pong::waiting:
        pong.waiting = reader.number();
        return true;
      case key::pong::running:
        pong.running = reader.number();
        return true;
      default:
        return false;
    }
  });
  return finish(reader, "PONG", pong);
}

void write_bye(std::string& body, const Bye& bye) {
  Writer writer(body);
  Writer::Map map(writer);
  if (!bye.reason.ok()) write_error(map.key(key::bye::error), bye.reason);
  if (bye.drain_ms) map.key(key::bye::drain_ms).integer(*bye.drain_ms);
}

Result<Bye> read_bye(std::string_view body) {
  Reader reader(body);
  Bye bye;
  reader.each([&](uint64_t k) {
    switch (k) {
      case key::bye::error:
        bye.reason = read_error(reader);
        return true;
      case key::bye::drain_ms:
        bye.drain_ms = reader.integer(0);
        return true;
      default:
        return false;
    }
  });
  return finish(reader, "BYE", std::move(bye));
}

void write_refused(std::string& body, const Status& why) {
  Writer writer(body);
  Writer::Map map(writer);
  write_error(map.key(key::refused::error), why);
}

Status read_refused(std::string_view body) {
  Reader reader(body);
  Status why = internal_error("the server refused this client without a reason");
  reader.each([&](uint64_t k) {
    if (k != key::refused::error) return false;
    why = read_error(reader);
    return true;
  });
  return reader.ok() ? why : reader.status("REFUSED");
}

void write_error(Writer& writer, const Status& status) {
  Writer::Map map(writer);
  map.key(key::error::code).integer(static_cast<int64_t>(status.code()));
  map.key(key::error::message).text(status.message());
  map.key(key::error::retryable).boolean(status.retryable());
}

Status read_error(Reader& reader) {
  int32_t code = static_cast<int32_t>(Code::internal);
  std::string message;
  bool retryable = false;
  reader.each([&](uint64_t k) {
    switch (k) {
      case key::error::code:
        code = reader.int32(1);
        return true;
      case key::error::message:
        message = reader.text(kMessageBytes);
        return true;
      case key::error::retryable:
        retryable = reader.boolean();
        return true;
      default:
        return false;
    }
  });
  if (code > static_cast<int32_t>(Code::internal)) code = static_cast<int32_t>(Code::internal);
  return {static_cast<Code>(code), std::move(message), retryable};
}

void write_stats(Writer& writer, const EngineStats& s) {
  const uint64_t values[] = {s.submitted,
                             s.refused,
                             s.done,
                             s.cancelled,
                             s.failed,
                             s.prompt_tokens,
                             s.cached_tokens,
                             s.completion_tokens,
                             s.images,
                             s.steps,
                             s.preemptions,
                             s.waiting,
                             s.running,
                             s.sessions,
                             s.kv_blocks_total,
                             s.kv_blocks_used,
                             static_cast<uint64_t>(std::max<int64_t>(s.step_last_ns, 0)),
                             static_cast<uint64_t>(std::max<int64_t>(s.uptime_ns, 0))};
  writer.array(std::size(values));
  for (const uint64_t value : values) writer.number(value);
}

EngineStats read_stats(Reader& reader) {
  EngineStats s;
  uint64_t values[18] = {};
  const size_t count = reader.array(1024);
  for (size_t i = 0; i < count && reader.ok(); ++i) {
    const uint64_t value = reader.number(kCountMax);
    if (i < std::size(values)) values[i] = value;
  }
  uint64_t* const wide[] = {&s.submitted, &s.refused,       &s.done,          &s.cancelled,
                            &s.failed,    &s.prompt_tokens, &s.cached_tokens, &s.completion_tokens,
                            &s.images,    &s.steps,         &s.preemptions};
  for (size_t i = 0; i < std::size(wide); ++i) *wide[i] = values[i];
  s.waiting = static_cast<uint32_t>(values[11]);
  s.running = static_cast<uint32_t>(values[12]);
  s.sessions = static_cast<uint32_t>(values[13]);
  s.kv_blocks_total = values[14];
  s.kv_blocks_used = values[15];
  s.step_last_ns = static_cast<int64_t>(values[16]);
  s.uptime_ns = static_cast<int64_t>(values[17]);
  return s;
}

}  // namespace troupe::wire
