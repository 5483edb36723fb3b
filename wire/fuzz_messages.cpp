// Fuzzes every reader of the wire: the first byte is a kind, the rest a body. Whatever is accepted
// must be writable again and read back the same way.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/assert.hpp"
#include "wire/control.hpp"
#include "wire/event_codec.hpp"
#include "wire/question_codec.hpp"
#include "wire/request_codec.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using namespace troupe::wire;

void fuzz_submit(std::string_view body) {
  const Limits limits;
  troupe::Result<Submit> read = read_submit(body, limits);
  if (!read.ok()) {
    TR_ASSERT(!read.status().message().empty());
    return;
  }
  std::vector<size_t> sizes(4, 48);
  if (!check_blobs(read->draft, sizes, limits).ok()) return;
  auto bytes = std::make_shared<std::vector<std::byte>>(48);
  const std::vector<troupe::SharedBytes> blobs(4, {bytes, bytes->data(), bytes->size()});
  const troupe::Request request = complete(std::move(read->draft), blobs);
  const Packed packed = pack_submit(read->id, read->credit, request, limits);
  const auto again = read_submit(packed.body, limits);
  TR_ASSERT(again.ok() && again->id == read->id);
}

void fuzz_events(Kind kind, std::string_view body) {
  size_t count = 0;
  (void)read_events(kind, body, [&](WireEvent& event) {
    ++count;
    if (!is_terminal(event.event.kind)) return;
    std::string written;
    write_end(written, event.id, event.seq, event.event);
    TR_ASSERT(read_events(kind, written, [](WireEvent&) {}).ok());
  });
  TR_ASSERT(count <= body.size());
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto kind = static_cast<Kind>(data[0]);
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto blob = std::make_shared<std::vector<std::byte>>(8);
  const troupe::SharedBytes blobs[] = {{blob, blob->data(), blob->size()}};
  switch (kind) {
    case Kind::hello:
      (void)read_hello(body);
      break;
    case Kind::welcome:
      (void)read_welcome(body);
      break;
    case Kind::refused:
      (void)read_refused(body);
      break;
    case Kind::ping:
      (void)read_ping(body);
      break;
    case Kind::pong:
      (void)read_pong(body);
      break;
    case Kind::bye:
      (void)read_bye(body);
      break;
    case Kind::submit:
      fuzz_submit(body);
      break;
    case Kind::blob:
    case Kind::credit:
    case Kind::cancel:
    case Kind::resume:
    case Kind::release:
    case Kind::grant:
    case Kind::data:
      (void)read_notes(kind, body, [](Note&) {});
      break;
    case Kind::accepted:
    case Kind::admitted:
    case Kind::delta:
    case Kind::done:
    case Kind::cancelled:
    case Kind::failed:
      fuzz_events(kind, body);
      break;
    case Kind::reply:
      (void)read_answer(body, blobs);
      break;
    default:
      if (is_question(kind)) (void)read_question(kind, body, Limits());
      (void)call_of(body);
  }
  return 0;
}
