// Bounds of numbers on the command line, with words for whoever is out of them.
#pragma once

#include <CLI/App.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <system_error>

namespace troupe::cli {

// CLI11 gives a validator one number's text at a time, after the text turned out to be a number
// of the option's type or not.
inline CLI::Validator at_least(double least, const std::string& said) {
  return {[least, said](std::string& text) {
            char* end = nullptr;
            const double number = std::strtod(text.c_str(), &end);
            const bool whole = end != text.c_str() && *end == '\0';
            return whole && std::isfinite(number) && number >= least
                       ? std::string()
                       : "'" + text + "' is not " + said;
          },
          ""};
}
inline CLI::Validator from_one() {
  return at_least(1, "a whole number of at least 1");
}
inline CLI::Validator not_negative() {
  return at_least(0, "a number of at least 0");
}

// CLI11 lets a whole number beyond 64 bits be the greatest one.
inline CLI::Validator whole_number() {
  return {[](std::string& text) {
            int64_t number = 0;
            const auto [rest, failure] =
                std::from_chars(text.data(), text.data() + text.size(), number);
            return failure == std::errc{} && rest == text.data() + text.size()
                       ? std::string()
                       : "'" + text + "' is not a whole number of 64 bits";
          },
          ""};
}

// For what is bounded further in: NaN stands for "not given" there, so it is refused here.
inline CLI::Validator a_number() {
  return at_least(-HUGE_VAL, "a number");
}

}  // namespace troupe::cli
