// The engine names fields of troupe.h; who typed flags reads of flags.
#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "cli/handles.hpp"

namespace troupe::cli {
namespace {

// Flags that are not called as their field is.
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kOtherNames = {{
    {"troupe_engine_options.kv_bytes", "--kv-memory"},
    {"troupe_engine_options.tensor_parallel", "--tp"},
    {"troupe_engine_options.seed", "--weights-seed"},
    {"troupe_engine_options.settings", "--set"},
    {"troupe_engine_options.prefix_reuse", "--no-prefix-reuse"},
    {"troupe_engine_options.overlap", "--no-overlap"},
    {"troupe_sampling.stop_tokens", "--stop-token"},
    {"troupe_sampling.bad_words", "--bad-word"},
    {"troupe_sampling.n", "-n"},
}};

std::string flag_of(std::string_view field) {
  for (const auto& [name, flag] : kOtherNames) {
    if (name == field) return std::string(flag);
  }
  std::string flag = "--" + std::string(field.substr(field.find('.') + 1));
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

std::string in_flags(std::string text) {
  for (const std::string_view start : {"troupe_engine_options.", "troupe_sampling."}) {
    size_t at = text.find(start);
    if (at == std::string::npos) continue;
    const size_t after = at + start.size();
    size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789", after);
    end = std::min(end, text.size());
    const std::string flag = flag_of(std::string_view(text).substr(at, end - at));
    if (end < text.size() && text[end] == '[') end = std::min(text.find(']', end), text.size() - 1) + 1;
    text.replace(at, end - at, flag);
    // A flag that is left out is the default.
    for (const std::string_view spare : {", or -1 for the default", ", or NaN for the default"}) {
      at = text.find(spare);
      if (at != std::string::npos) text.erase(at, spare.size());
    }
  }
  return text;
}

}  // namespace

std::string text_of(const troupe_error* error) {
  return std::string(troupe_error_name(troupe_error_code(error))) + ": " +
         in_flags(troupe_error_message(error));
}

}  // namespace troupe::cli
