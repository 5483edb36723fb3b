#include "capi/checks.hpp"

#include <algorithm>
#include <cstdio>
#include <vector>

namespace troupe::capi {
namespace {

// Length of the well-formed UTF-8 sequence at the start of `s`, 0 if there is none (RFC 3629: no
// overlong forms, no surrogates, nothing beyond U+10FFFF).
size_t sequence_length(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || s.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool surrogate = lead == 0xED && second > 0x9F;
  const bool beyond = lead == 0xF4 && second > 0x8F;
  return overlong || surrogate || beyond ? 0 : length;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replace});
    }
  }
  return row[b.size()];
}

}  // namespace

Status out_of_bounds(std::string_view name, int64_t value, int64_t low, int64_t high,
                     std::string_view not_given) {
  return invalid(std::string(name) + " is " + std::to_string(value) + ": it must be " +
                 std::to_string(low) + " to " + std::to_string(high) + ", or " +
                 std::string(not_given) + " for the default");
}

Status bad_float(std::string_view name, float value, std::string_view bounds) {
  char number[32];
  std::snprintf(number, sizeof number, "%g", static_cast<double>(value));
  return invalid(std::string(name) + " is " + number + ": it must be " + std::string(bounds) +
                 ", or NaN for the default");
}

Status check_list(std::string_view field, const void* list, std::string_view count_field,
                  size_t count) {
  if (count == 0 || list != nullptr) return {};
  return invalid(std::string(field) + " is NULL but " + std::string(count_field) + " is " +
                 std::to_string(count));
}

Status check_tokens(std::string_view name, std::span<const int32_t> tokens, int64_t vocab) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocab) continue;
    return invalid(std::string(name) + "[" + std::to_string(i) + "] is " +
                   std::to_string(tokens[i]) + ": it must be 0 to " + std::to_string(vocab - 1) +
                   ", the model's vocabulary");
  }
  return {};
}

Status check_utf8(std::string_view name, std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t n = sequence_length(text.substr(i, 4));
    if (n == 0) {
      char byte[8];
      std::snprintf(byte, sizeof byte, "0x%02X",
                    static_cast<unsigned>(static_cast<unsigned char>(text[i])));
      return invalid(std::string(name) + " is not UTF-8: byte " + byte + " at offset " +
                     std::to_string(i) + " of " + std::to_string(text.size()));
    }
    i += n;
  }
  return {};
}

Status unknown_name(std::string_view what, std::string_view name,
                    std::initializer_list<std::string_view> known) {
  const std::string_view shown = name.substr(0, 64);
  const auto nearest = std::min_element(known.begin(), known.end(), [&](auto a, auto b) {
    return edit_distance(a, shown) < edit_distance(b, shown);
  });
  std::string message = "unknown " + std::string(what) + " \"" + std::string(shown) +
                        "\"; did you mean \"" + std::string(*nearest) + "\"? Known are:";
  for (const std::string_view k : known) message += " " + std::string(k);
  return invalid(std::move(message));
}

}  // namespace troupe::capi
