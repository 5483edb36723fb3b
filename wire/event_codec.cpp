#include "wire/event_codec.hpp"

#include <algorithm>

#include "base/limits.hpp"
#include "wire/control.hpp"
#include "wire/reader.hpp"
#include "wire/writer.hpp"

namespace troupe::wire {
namespace {

namespace keys = key::event;

void write_row(Writer& to, const std::vector<TokenLogprob>& row) {
  to.array(row.size());
  for (const TokenLogprob& entry : row) {
    to.array(3);
    to.integer(entry.token);
    to.real(entry.logprob);
    to.integer(entry.rank);
  }
}

void write_table(Writer& to, std::span<const std::vector<TokenLogprob>> table) {
  to.array(table.size());
  for (const auto& row : table) write_row(to, row);
}

void write_usage(Writer& to, const Usage& usage) {
  to.array(4);
  to.integer(usage.prompt_tokens);
  to.integer(usage.cached_tokens);
  to.integer(usage.completion_tokens);
  to.integer(usage.image_tokens);
}

void write_finish(Writer::Map& map, FinishReason finish, int32_t stop_token,
                  std::string_view stop_text) {
  if (finish == FinishReason::none) return;
  map.key(keys::finish).number(static_cast<uint64_t>(finish));
  if (stop_token >= 0) map.key(keys::stop_token).integer(stop_token);
  put(map, keys::stop_text, stop_text);
}

LogprobTable read_table(Reader& from) {
  LogprobTable table;
  for (size_t n = from.array(); n > 0 && from.ok(); --n) {
    auto& row = table.emplace_back();
    for (size_t k = from.array(limits::top_logprobs + 1); k > 0 && from.ok(); --k) {
      if (from.array(3) != 3) from.fail("a logprob is a list of token, logprob and rank");
      TokenLogprob& entry = row.emplace_back();
      entry.token = from.int32(0);
      entry.logprob = from.real32();
      entry.rank = from.int32(0);
    }
  }
  return table;
}

Usage read_usage(Reader& from) {
  Usage usage;
  int64_t* const to[] = {&usage.prompt_tokens, &usage.cached_tokens, &usage.completion_tokens,
                         &usage.image_tokens};
  const size_t count = from.array(64);
  for (size_t i = 0; i < count && from.ok(); ++i) {
    const int64_t value = from.integer(0);
    if (i < std::size(to)) *to[i] = value;
  }
  return usage;
}

Timings read_timings(Reader& from) {
  Timings timings;
  int64_t* const to[] = {&timings.queued_ns, &timings.first_token_ns, &timings.total_ns};
  const size_t count = from.array(64);
  for (size_t i = 0; i < count && from.ok(); ++i) {
    const int64_t value = from.integer();
    if (i < std::size(to)) *to[i] = value;
  }
  return timings;
}

bool read_lists(Reader& from, uint64_t k, Event& event) {
  switch (k) {
    case keys::tokens: {
      const size_t count = from.array(size_t{1} << 20);
      event.tokens.reserve(from.ok() ? count : 0);
      for (size_t i = 0; i < count && from.ok(); ++i) event.tokens.push_back(from.int32(0));
      return true;
    }
    case keys::logprobs: {
      const size_t count = from.array(size_t{1} << 20);
      for (size_t i = 0; i < count && from.ok(); ++i) event.logprobs.push_back(from.real32());
      return true;
    }
    case keys::top_logprobs:
      event.top_logprobs = read_table(from);
      return true;
    case keys::prompt_logprobs:
      event.prompt_logprobs = read_table(from);
      return true;
    case keys::data_shape:
      if (from.array(2) != 2) from.fail("a shape is a list of rows and columns");
      for (int64_t& side : event.data_shape) side = from.integer(0, int64_t{1} << 32);
      return true;
    default:
      return false;
  }
}

bool read_field(Reader& from, uint64_t k, WireEvent& to) {
  Event& event = to.event;
  switch (k) {
    case key::id:
      to.id = from.id();
      return true;
    case keys::seq:
      to.seq = from.number();
      return true;
    case keys::index:
      event.index = from.int32(0, limits::choices - 1);
      return true;
    case keys::from:
      event.from = from.integer(0);
      return true;
    case keys::text_from:
      to.text_from = from.integer(0);
      return true;
    case keys::text:
      event.text = from.text();
      return true;
    case keys::finish:
      event.finish =
          static_cast<FinishReason>(from.number(static_cast<uint64_t>(FinishReason::error)));
      return true;
    case keys::stop_token:
      event.stop_token = from.int32(-1);
      return true;
    case keys::stop_text:
      event.stop_text = from.text();
      return true;
    case keys::usage:
      event.usage = read_usage(from);
      return true;
    case keys::timings:
      event.timings = read_timings(from);
      return true;
    case keys::error:
      event.status = read_error(from);
      return true;
    default:
      return read_lists(from, k, event);
  }
}

EventKind event_kind(Kind kind) {
  switch (kind) {
    case Kind::admitted:
      return EventKind::admitted;
    case Kind::done:
      return EventKind::done;
    case Kind::cancelled:
      return EventKind::cancelled;
    case Kind::failed:
      return EventKind::failed;
    default:
      return EventKind::tokens;
  }
}

std::string name_of(Kind kind) {
  return "message of kind " + std::to_string(static_cast<int>(kind));
}

void write_pair(std::string& body, const Id128& id, uint64_t key_a, uint64_t a, uint64_t key_b,
                uint64_t b) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::id).id(id);
  map.key(key_a).number(a);
  map.key(key_b).number(b);
}

bool read_note(Reader& from, Kind kind, uint64_t k, Note& note) {
  if (k == key::id) {
    note.id = from.id();
    return true;
  }
  switch (kind) {
    case Kind::credit:
      if (k != key::credit::n) return false;
      note.n = std::min(from.number(), kCreditMax);
      return true;
    case Kind::blob:
      if (k != key::blob::blob && k != key::blob::offset) return false;
      (k == key::blob::blob ? note.blob : note.offset) = from.number(uint64_t{1} << 40);
      return true;
    case Kind::grant:
      if (k != key::grant::blob && k != key::grant::bytes) return false;
      (k == key::grant::blob ? note.blob : note.bytes) = from.number(uint64_t{1} << 40);
      return true;
    case Kind::data:
      if (k != key::data::offset) return false;
      note.offset = from.number(uint64_t{1} << 40);
      return true;
    case Kind::resume:
      if (k == key::resume::credit) {
        note.credit = static_cast<uint32_t>(std::min(from.number(), kCreditMax));
        return true;
      }
      if (k != key::resume::from) return false;
      for (size_t n = from.array(limits::choices); n > 0 && from.ok(); --n) {
        if (from.array(2) != 2) from.fail("a position is a list of tokens and bytes of text");
        Position& at = note.from.emplace_back();
        at.tokens = from.number(uint64_t{1} << 40);
        at.text_bytes = from.number(uint64_t{1} << 40);
      }
      return true;
    default:
      return false;
  }
}

}  // namespace

void write_delta(std::string& body, const Id128& id, uint64_t seq, const DeltaView& d) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::id).id(id);
  map.key(keys::seq).number(seq);
  if (d.index != 0) map.key(keys::index).integer(d.index);
  map.key(keys::from).integer(d.from);
  map.key(keys::text_from).integer(d.text_from);
  map.key(keys::tokens).array(d.tokens.size());
  for (const int32_t token : d.tokens) writer.integer(token);
  map.key(keys::text).text(d.text);
  if (!d.logprobs.empty()) {
    map.key(keys::logprobs).array(d.logprobs.size());
    for (const float value : d.logprobs) writer.real(value);
  }
  if (!d.top_logprobs.empty()) write_table(map.key(keys::top_logprobs), d.top_logprobs);
  if (d.prompt_logprobs != nullptr) write_table(map.key(keys::prompt_logprobs), *d.prompt_logprobs);
  write_finish(map, d.finish, d.stop_token, d.stop_text);
  write_usage(map.key(keys::usage), d.usage);
}

void write_end(std::string& body, const Id128& id, uint64_t seq, const Event& end) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::id).id(id);
  map.key(keys::seq).number(seq);
  if (end.index != 0) map.key(keys::index).integer(end.index);
  write_finish(map, end.finish, end.stop_token, end.stop_text);
  write_usage(map.key(keys::usage), end.usage);
  map.key(keys::timings).array(3);
  writer.integer(end.timings.queued_ns);
  writer.integer(end.timings.first_token_ns);
  writer.integer(end.timings.total_ns);
  if (!end.status.ok()) write_error(map.key(keys::error), end.status);
  if (!end.prompt_logprobs.empty())
    write_table(map.key(keys::prompt_logprobs), end.prompt_logprobs);
  if (!end.data.empty()) {
    map.key(keys::data_shape).array(2);
    for (const int64_t side : end.data_shape) writer.integer(side);
  }
}

Event end_of(const Status& why) {
  Event end;
  end.kind = why.code() == Code::cancelled ? EventKind::cancelled : EventKind::failed;
  end.finish = end.kind == EventKind::cancelled ? FinishReason::cancelled : FinishReason::error;
  end.status = why;
  return end;
}

void write_id(std::string& body, const Id128& id) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::id).id(id);
}

void write_credit(std::string& body, const Id128& id, uint32_t n) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::id).id(id);
  map.key(key::credit::n).number(n);
}

void write_data(std::string& body, const Id128& id, uint64_t offset) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::id).id(id);
  map.key(key::data::offset).number(offset);
}

void write_blob(std::string& body, const Id128& id, uint64_t blob, uint64_t offset) {
  write_pair(body, id, key::blob::blob, blob, key::blob::offset, offset);
}

void write_grant(std::string& body, const Id128& id, uint64_t blob, uint64_t bytes) {
  write_pair(body, id, key::grant::blob, blob, key::grant::bytes, bytes);
}

void write_resume(std::string& body, const Id128& id, std::span<const Position> from,
                  uint32_t credit) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::id).id(id);
  map.key(key::resume::from).array(from.size());
  for (const Position& at : from) {
    writer.array(2);
    writer.number(at.tokens);
    writer.number(at.text_bytes);
  }
  map.key(key::resume::credit).number(credit);
}

Status read_notes(Kind kind, std::string_view body, const std::function<void(Note&)>& take,
                  size_t most) {
  Reader reader(body);
  do {
    Note note;
    bool named = false;
    reader.each([&](uint64_t k) {
      named |= k == key::id;
      return read_note(reader, kind, k, note);
    });
    if (reader.ok() && !named) reader.fail("the id (key 0) is missing");
    if (reader.ok()) take(note);
  } while (--most > 0 && !reader.at_end());
  return reader.ok() ? Status() : reader.status(name_of(kind));
}

Status read_events(Kind kind, std::string_view body, const std::function<void(WireEvent&)>& take) {
  Reader reader(body);
  do {
    WireEvent event;
    event.event.kind = event_kind(kind);
    bool named = false;
    reader.each([&](uint64_t k) {
      named |= k == key::id;
      return read_field(reader, k, event);
    });
    if (reader.ok() && !named) reader.fail("the id (key 0) is missing");
    if (reader.ok()) take(event);
  } while (!reader.at_end());
  return reader.ok() ? Status() : reader.status(name_of(kind));
}

}  // namespace troupe::wire
