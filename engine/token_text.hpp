// The way back from ids to text, as the output core needs it: implemented over text/'s detokenizer
// and by the echo engine's bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace troupe::engine {

// One choice's text as it grows. Never cuts a UTF-8 character: bytes wait until it is whole.
class TextStream {
 public:
  virtual ~TextStream() = default;
  virtual void push(int32_t token, std::string& text) = 0;  // appends what has become certain
  virtual void finish(std::string& text) = 0;               // and what was still waiting
};

class TextSource {
 public:
  virtual ~TextSource() = default;
  [[nodiscard]] virtual std::unique_ptr<TextStream> stream(bool skip_special) const = 0;
};

}  // namespace troupe::engine
