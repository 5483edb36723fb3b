#include "wire/question_codec.hpp"

#include "wire/reader.hpp"
#include "wire/writer.hpp"

namespace troupe::wire {
namespace {

namespace keys = key::question;

bool read_field(Reader& from, uint64_t k, const Limits& limits, Question& q) {
  switch (k) {
    case key::call:
      q.call = from.number();
      return true;
    case keys::text:
      q.text = from.text();
      return true;
    case keys::flags:
      q.flags = from.number();
      return true;
    case keys::tokens:
      q.tokens_blob = from.number(0);
      return true;
    case keys::request:
      q.draft = read_request(from, limits);
      return true;
    case keys::session:
      q.session = from.number();
      return true;
    case keys::lease_ns:
      q.lease_ns = from.integer(1);
      return true;
    case keys::n_tokens:
      q.n_tokens = from.integer();
      return true;
    default:
      return false;
  }
}

SessionState read_state(Reader& from) {
  SessionState state;
  int64_t* const to[] = {&state.tokens, &state.cached_tokens, &state.lease_left_ns};
  const size_t count = from.array(64);
  for (size_t i = 0; i < count && from.ok(); ++i) {
    const int64_t value = from.integer();
    if (i < std::size(to)) *to[i] = value;
  }
  return state;
}

}  // namespace

Result<Question> read_question(Kind kind, std::string_view body, const Limits& limits) {
  Reader reader(body);
  Question q;
  q.kind = kind;
  reader.each([&](uint64_t k) { return read_field(reader, k, limits, q); });
  if (!reader.ok())
    return reader.status("question of kind " + std::to_string(static_cast<int>(kind)));
  return q;
}

std::optional<uint64_t> call_of(std::string_view body) {
  Reader reader(body);
  std::optional<uint64_t> call;
  reader.each([&](uint64_t k) {
    if (k != key::call) return false;
    const uint64_t value = reader.number();
    if (reader.ok()) call = value;
    return true;
  });
  return call;
}

void write_answer(std::string& body, const Answer& a) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::call).number(a.call);
  if (!a.status.ok()) {
    write_error(map.key(key::reply::error), a.status);
    return;
  }
  put(map, key::reply::text, a.text);
  if (a.tokens) map.key(key::reply::tokens).number(0);
  if (a.stats) write_stats(map.key(key::reply::stats), *a.stats);
  if (a.session) map.key(key::reply::session).number(*a.session);
  if (a.state) {
    map.key(key::reply::state).array(3);
    writer.integer(a.state->tokens);
    writer.integer(a.state->cached_tokens);
    writer.integer(a.state->lease_left_ns);
  }
}

Result<Answer> read_answer(std::string_view body, std::span<const SharedBytes> blobs) {
  Reader reader(body);
  Answer a;
  bool tokens = false;
  reader.each([&](uint64_t k) {
    switch (k) {
      case key::call:
        a.call = reader.number();
        return true;
      case key::reply::error:
        a.status = read_error(reader);
        return true;
      case key::reply::text:
        a.text = reader.text();
        return true;
      case key::reply::tokens:
        reader.number(0);
        tokens = true;
        return true;
      case key::reply::stats:
        a.stats = read_stats(reader);
        return true;
      case key::reply::session:
        a.session = reader.number();
        return true;
      case key::reply::state:
        a.state = read_state(reader);
        return true;
      default:
        return false;
    }
  });
  if (reader.ok() && tokens && blobs.empty()) reader.fail("the ids' blob is missing");
  if (!reader.ok()) return reader.status("REPLY");
  if (tokens) {
    TR_ASSIGN(a.tokens, tokens_of("REPLY", std::span(blobs[0].data, blobs[0].size)));
  }
  return a;
}

void write_plain(std::string& body, uint64_t call) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::call).number(call);
}

void write_tokenize(std::string& body, uint64_t call, std::string_view text, uint64_t flags) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::call).number(call);
  map.key(keys::text).text(text);
  map.key(keys::flags).number(flags);
}

void write_detokenize(std::string& body, uint64_t call, uint64_t flags) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::call).number(call);
  map.key(keys::flags).number(flags);
  map.key(keys::tokens).number(0);
}

void write_render(std::string& body, uint64_t call, const Request& request,
                  std::vector<SharedBytes>& blobs) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::call).number(call);
  write_request(map.key(keys::request), request, blobs);
}

void write_session_new(std::string& body, uint64_t call, const SessionOptions& options) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::call).number(call);
  if (options.lease_ns) map.key(keys::lease_ns).integer(*options.lease_ns);
}

void write_session(std::string& body, uint64_t call, uint64_t session,
                   std::optional<int64_t> tokens) {
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::call).number(call);
  map.key(keys::session).number(session);
  if (tokens) map.key(keys::n_tokens).integer(*tokens);
}

}  // namespace troupe::wire
