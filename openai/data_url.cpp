#include "openai/data_url.hpp"

#include <array>
#include <cstdint>

namespace troupe::openai {
namespace {

constexpr std::array<int8_t, 256> make_values() {
  std::array<int8_t, 256> values{};
  for (auto& v : values) v = -1;
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < kAlphabet.size(); ++i) {
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
  }
  return values;
}
constexpr auto kValues = make_values();

}  // namespace

std::optional<std::vector<unsigned char>> bytes_of_data_url(std::string_view url) {
  if (!url.starts_with("data:")) return std::nullopt;
  const size_t comma = url.find(',');
  if (comma == std::string_view::npos || !url.substr(0, comma).ends_with(";base64")) {
    return std::nullopt;
  }
  std::string_view payload = url.substr(comma + 1);
  while (payload.ends_with('=')) payload.remove_suffix(1);
  if (payload.empty() || payload.size() % 4 == 1) return std::nullopt;

  std::vector<unsigned char> bytes;
  bytes.reserve(payload.size() * 3 / 4);
  uint32_t bits = 0;
  int held = 0;
  for (const char c : payload) {
    const int value = kValues[static_cast<unsigned char>(c)];
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes.push_back(static_cast<unsigned char>(bits >> held & 0xFFU));
    }
  }
  return bytes;
}

}  // namespace troupe::openai
