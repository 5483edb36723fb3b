#include "text/vocabulary.hpp"

#include <algorithm>

namespace troupe::text {

void Vocabulary::reserve(size_t tokens, size_t text_bytes) {
  flags_.reserve(tokens);
  byte_offsets_.reserve(tokens + 1);
  name_offsets_.reserve(tokens + 1);
  bytes_.reserve(text_bytes);
  names_.reserve(text_bytes);
}

void Vocabulary::append(const Token& token) {
  const int flags = (token.known ? kKnown : 0) | (token.special ? kSpecial : 0) |
                    (token.byte ? kByte : 0);
  append(static_cast<uint8_t>(flags), token.bytes, token.name);
}

void Vocabulary::append(uint8_t flags, std::string_view bytes, std::string_view name) {
  flags_.push_back(flags);
  bytes_.append(bytes);
  names_.append(name);
  byte_offsets_.push_back(static_cast<uint32_t>(bytes_.size()));
  name_offsets_.push_back(static_cast<uint32_t>(names_.size()));
}

void Vocabulary::finish() {
  by_name_.clear();
  by_name_.reserve(flags_.size());
  for (int32_t id = 0; id < size(); ++id) {
    if (known(id)) by_name_.push_back(id);
  }
  // A name twice: the lower id answers.
  std::stable_sort(by_name_.begin(), by_name_.end(),
                   [this](int32_t a, int32_t b) { return name(a) < name(b); });
}

int32_t Vocabulary::id_of(std::string_view wanted) const {
  const auto found = std::lower_bound(by_name_.begin(), by_name_.end(), wanted,
                                      [this](int32_t id, std::string_view w) { return name(id) < w; });
  return found != by_name_.end() && name(*found) == wanted ? *found : -1;
}

}  // namespace troupe::text
