// A Request as a body and blobs, and back. What a stranger sent is bounded here as the C ABI bounds
// what a program gives: the rooms behind take sizes and counts for granted.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/request.hpp"
#include "wire/control.hpp"
#include "wire/protocol.hpp"

namespace troupe::wire {

class Reader;
class Writer;

// The request's map. Images and long lists of ids become blobs, in this order; their bytes are
// shared, not copied.
void write_request(Writer& writer, const Request& request, std::vector<SharedBytes>& blobs);

// A request whose images and lists of ids still name their blobs.
struct RequestDraft {
  Request request;
  struct TokenBlob {
    size_t message = 0;  // kRawPrompt: the raw prompt
    size_t part = 0, blob = 0;
  };
  static constexpr size_t kRawPrompt = static_cast<size_t>(-1);
  std::vector<TokenBlob> tokens;
  std::vector<size_t> images;  // blob of each image
};
RequestDraft read_request(Reader& reader, const Limits& limits);

// Every blob that the draft names is one of `blobs`, and fits what is said of it.
Status check_blobs(const RequestDraft& draft, std::span<const size_t> sizes, const Limits& limits);
// The request, with its blobs in place. check_blobs has said yes.
Request complete(RequestDraft draft, std::span<const SharedBytes> blobs);

struct Submit {
  Id128 id{};
  uint32_t credit = kDefaultCredit;
  struct Upload {
    size_t blob = 0, size = 0;
  };
  std::vector<Upload>
      uploads;  // blobs that follow in chunks, by rising number; the rest are frames
  RequestDraft draft;
};
// A request ready to go: what stands in the message itself, and what is uploaded behind it.
struct Packed {
  std::string body;
  std::vector<SharedBytes> frames;
  std::vector<std::pair<size_t, SharedBytes>> uploads;  // by number of blob
};
Packed pack_submit(const Id128& id, uint32_t credit, const Request& request, const Limits& limits);
Result<Submit> read_submit(std::string_view body, const Limits& limits);

// Ids as a blob: 32-bit little-endian numbers.
SharedBytes tokens_blob(std::vector<int32_t> tokens);
Result<std::vector<int32_t>> tokens_of(std::string_view where, std::span<const std::byte> blob);

}  // namespace troupe::wire
