// Checks of what crosses the ABI, with messages that name the field, its value and its bounds.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/status.hpp"

namespace troupe::capi {

// A value out of its bounds: "name is 7: 0 to 5 (-1: not given)".
[[nodiscard]] Status out_of_bounds(std::string_view name, int64_t value, int64_t low, int64_t high);
[[nodiscard]] Status bad_float(std::string_view name, float value, std::string_view bounds);

// -1 leaves `to` alone.
template <class T>
[[nodiscard]] Status take_int(std::string_view name, int64_t value, int64_t low, int64_t high,
                              T& to) {
  if (value == -1) return {};
  if (value < low || value > high) return out_of_bounds(name, value, low, high);
  if constexpr (std::is_same_v<T, bool>) {
    to = value != 0;
  } else if constexpr (std::is_integral_v<T>) {
    to = static_cast<T>(value);
  } else {  // an optional
    to = static_cast<typename T::value_type>(value);
  }
  return {};
}

// Ids outside [0, vocab) are refused: "tokens[3] is 300: it must be 0 to 259".
[[nodiscard]] Status check_tokens(std::string_view name, std::span<const int32_t> tokens,
                                  int64_t vocab);

// Invalid UTF-8 is refused with the offset of its first bad byte.
[[nodiscard]] Status check_utf8(std::string_view name, std::string_view text);

// "unknown NAME "x"; did you mean "y"?".
[[nodiscard]] Status unknown_name(std::string_view what, std::string_view name,
                                  std::initializer_list<std::string_view> known);

}  // namespace troupe::capi
