// The tokens of a tokenizer as text: what each contributes to a decoded text, how the vocabulary
// spells it, and the rule by which contributions become one text. Immutable once built; views into it
// live as long as it does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::text {

enum class DecodeRule : uint8_t {
  bytes,   // contributions are bytes; the text is them all, ill-formed UTF-8 replaced
  pieces,  // contributions are text, but for byte tokens, whose runs are UTF-8 as a whole or not at all
  whole,   // only the tokenizer itself can say (not a decoder of language models known today)
};

class Vocabulary {
 public:
  struct Token {
    bool known = false;
    bool special = false;
    bool byte = false;  // a byte token such as <0xE2> under DecodeRule::pieces
    std::string bytes;
    std::string name;
  };

  DecodeRule rule = DecodeRule::whole;
  uint32_t strip_left = 0;          // spaces dropped from the start of a text
  bool first_drops_spaces = false;  // the first token of a text loses all its spaces

  void reserve(size_t tokens, size_t text_bytes);
  void append(const Token& token);
  void append(uint8_t flags, std::string_view bytes, std::string_view name);  // flags: kKnown | ...
  // Call once all are there: id_of needs it.
  void finish();

  static constexpr uint8_t kKnown = 1, kSpecial = 2, kByte = 4;

  [[nodiscard]] int32_t size() const { return static_cast<int32_t>(flags_.size()); }
  [[nodiscard]] bool known(int32_t id) const { return (flags(id) & kKnown) != 0; }
  [[nodiscard]] bool special(int32_t id) const { return (flags(id) & kSpecial) != 0; }
  [[nodiscard]] bool byte(int32_t id) const { return (flags(id) & kByte) != 0; }
  // Empty for an id that no token has.
  [[nodiscard]] std::string_view bytes(int32_t id) const { return part(bytes_, byte_offsets_, id); }
  [[nodiscard]] std::string_view name(int32_t id) const { return part(names_, name_offsets_, id); }
  // -1 when no token is spelt so.
  [[nodiscard]] int32_t id_of(std::string_view name) const;

 private:
  [[nodiscard]] uint8_t flags(int32_t id) const {
    return id >= 0 && id < size() ? flags_[static_cast<size_t>(id)] : uint8_t{0};
  }
  [[nodiscard]] std::string_view part(const std::string& blob, const std::vector<uint32_t>& offsets,
                                      int32_t id) const {
    if (id < 0 || id >= size()) return {};
    const auto at = static_cast<size_t>(id);
    return std::string_view(blob).substr(offsets[at], offsets[at + 1] - offsets[at]);
  }

  std::string bytes_, names_;
  std::vector<uint32_t> byte_offsets_{0}, name_offsets_{0};
  std::vector<uint8_t> flags_;
  std::vector<int32_t> by_name_;  // ids of known tokens, sorted by their names
};

}  // namespace troupe::text
