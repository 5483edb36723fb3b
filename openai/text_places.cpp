#include "openai/text_places.hpp"

#include <algorithm>

namespace troupe::openai {
namespace {

constexpr size_t kSpace = 1;
constexpr size_t kCharacterMost = 4;  // bytes, in UTF-8
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool begins_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
}

}  // namespace

void TextPlaces::pass(size_t bytes) {
  characters_ += static_cast<size_t>(std::count_if(
      rest_.begin(), rest_.begin() + static_cast<std::ptrdiff_t>(bytes), begins_character));
  rest_.remove_prefix(bytes);
}

size_t TextPlaces::next(std::string_view token) {
  const size_t at = rest_.substr(0, unseen_ + token.size()).find(token);
  if (at == std::string_view::npos) {
    if (token.find(kReplacement) != std::string_view::npos)
      unseen_ += token.size() + kCharacterMost;
    return characters_;
  }
  pass(at);
  const size_t begin = characters_;
  pass(token.size());
  if (!token.empty()) unseen_ = kSpace;
  return begin;
}

}  // namespace troupe::openai
