#include "text/utf8.hpp"

#include <cstdint>

namespace troupe::text {
namespace {

struct Lead {
  int length = 0;  // of the character; 0: no character begins with this byte
  uint8_t second_min = 0x80, second_max = 0xBF;
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1};
  if (byte >= 0xC2 && byte <= 0xDF) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {};
}

}  // namespace

Utf8Span scan_utf8(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    const Lead lead = lead_of(static_cast<uint8_t>(bytes[at]));
    if (lead.length == 0) return {at, 1};
    for (int k = 1; k < lead.length; ++k) {
      if (at + static_cast<size_t>(k) >= bytes.size()) return {at, 0};
      const auto byte = static_cast<uint8_t>(bytes[at + static_cast<size_t>(k)]);
      const uint8_t low = k == 1 ? lead.second_min : 0x80;
      const uint8_t high = k == 1 ? lead.second_max : 0xBF;
      if (byte < low || byte > high) return {at, static_cast<size_t>(k)};
    }
    at += static_cast<size_t>(lead.length);
  }
  return {at, 0};
}

size_t find_invalid_utf8(std::string_view bytes) {
  const Utf8Span span = scan_utf8(bytes);
  return span.valid == bytes.size() ? std::string_view::npos : span.valid;
}

void append_lossy(std::string& bytes, std::string& out) {
  size_t done = 0;
  while (true) {
    const std::string_view rest = std::string_view(bytes).substr(done);
    const Utf8Span span = scan_utf8(rest);
    out.append(rest.substr(0, span.valid));
    done += span.valid + span.broken;
    if (span.broken == 0) break;
    out.append(kReplacement);
  }
  bytes.erase(0, done);
}

}  // namespace troupe::text
