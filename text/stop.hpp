// Stop strings over a stream of text.
//
// Text that might be the beginning of a stop string is held back until it is known not to be; all
// else passes at once. The first stop string to be complete ends the stream (of several that end at
// the same byte, the one that began first), whatever the sizes of the chunks: overlapped and plain
// steps stop at the same place.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.hpp"

namespace troupe::text {

struct StopOptions {
  std::vector<std::string> stops;
  bool include_stop = false;  // the stop string stays in the text
  int64_t min_tokens = 0;     // up to this many tokens nothing stops
};

struct StopMatch {
  int32_t stop = 0;        // index into stops
  int64_t tokens = 0;      // the token that completed it, counted from 1: what the sequence is cut to
  int64_t text_bytes = 0;  // what remains of the text
};

class StopMatcher {
 public:
  // invalid for an empty or ill-formed stop string; limit for too many or too long ones.
  [[nodiscard]] static Result<StopMatcher> create(StopOptions options);

  // `text` is what token number `tokens` (from 1) added. Appends to `out` what may be shown. After a
  // match the rest of the text is dropped and push() goes on returning that match.
  const StopMatch* push(std::string_view text, int64_t tokens, std::string& out);
  // No text follows: what is held back may be shown.
  void finish(std::string& out);

  [[nodiscard]] const std::optional<StopMatch>& match() const { return match_; }
  [[nodiscard]] const std::string& stop(int32_t index) const {
    return needles_[static_cast<size_t>(index)].text;
  }
  [[nodiscard]] int64_t text_bytes() const { return released_; }  // shown so far

 private:
  struct Needle {
    std::string text;
    std::vector<uint32_t> fallback;  // Knuth-Morris-Pratt
    uint32_t matched = 0;
  };

  StopMatcher() = default;
  [[nodiscard]] const Needle* feed(char c);
  void release(size_t bytes, std::string& out);

  std::vector<Needle> needles_;
  bool include_stop_ = false;
  int64_t min_tokens_ = 0;
  std::string held_;
  int64_t released_ = 0;
  std::optional<StopMatch> match_;
};

}  // namespace troupe::text
