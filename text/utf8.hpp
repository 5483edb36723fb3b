// UTF-8 at the level that streaming needs: where valid text ends, and whether what follows is broken
// or only not complete yet. The rules are those of Unicode's maximal subparts, as every reference
// decoder replaces them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace troupe::text {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Utf8Span {
  size_t valid = 0;   // bytes of complete, valid characters at the start
  size_t broken = 0;  // bytes after them that form one ill-formed subpart; 0 when more may complete it
};
// The longest valid start of `bytes` and the kind of what stops it. valid + broken < size with
// broken == 0 means: an incomplete character of size - valid bytes (1 to 3) ends the input.
[[nodiscard]] Utf8Span scan_utf8(std::string_view bytes);

// The byte offset of the first ill-formed or incomplete character; npos: all is well.
[[nodiscard]] size_t find_invalid_utf8(std::string_view bytes);

// Appends `bytes` to `out`, every ill-formed subpart replaced; an incomplete end stays in `bytes`.
void append_lossy(std::string& bytes, std::string& out);

}  // namespace troupe::text
