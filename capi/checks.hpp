// Checks of what crosses the ABI, with messages that name the field, its value and its bounds.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/status.hpp"
#include "capi/troupe.h"

namespace troupe::capi {

// A value out of its bounds: "name is 7: it must be 0 to 5, or -1 for the default", -1 being what
// the field has when it is not given.
[[nodiscard]] Status out_of_bounds(std::string_view name, int64_t value, int64_t low, int64_t high,
                                   std::string_view not_given);
[[nodiscard]] Status bad_float(std::string_view name, float value, std::string_view bounds);

// -1 leaves `to` alone.
template <class T>
[[nodiscard]] Status take_int(std::string_view name, int64_t value, int64_t low, int64_t high,
                              T& to) {
  if (value == -1) return {};
  if (value < low || value > high) return out_of_bounds(name, value, low, high, "-1");
  if constexpr (std::is_same_v<T, bool>) {
    to = value != 0;
  } else if constexpr (std::is_integral_v<T>) {
    to = static_cast<T>(value);
  } else {  // an optional
    to = static_cast<typename T::value_type>(value);
  }
  return {};
}

// TROUPE_UNSET leaves `to` alone.
template <class T>
[[nodiscard]] Status take_time(std::string_view name, int64_t value_ns, int64_t low, T& to) {
  constexpr int64_t kHigh = std::numeric_limits<int64_t>::max();
  if (value_ns == TROUPE_UNSET) return {};
  if (value_ns < low) return out_of_bounds(name, value_ns, low, kHigh, "TROUPE_UNSET");
  to = value_ns;
  return {};
}

// `field`, of `count` elements that `count_field` counts, is there: "field is NULL but count_field
// is 3".
[[nodiscard]] Status check_list(std::string_view field, const void* list,
                                std::string_view count_field, size_t count);

// Ids outside [0, vocab) are refused: "tokens[3] is 300: it must be 0 to 259".
[[nodiscard]] Status check_tokens(std::string_view name, std::span<const int32_t> tokens,
                                  int64_t vocab);

// Invalid UTF-8 is refused with the offset of its first bad byte.
[[nodiscard]] Status check_utf8(std::string_view name, std::string_view text);

// "unknown NAME "x"; did you mean "y"?".
[[nodiscard]] Status unknown_name(std::string_view what, std::string_view name,
                                  std::initializer_list<std::string_view> known);

}  // namespace troupe::capi
