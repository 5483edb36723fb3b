// The way back from ids to text, as the output core needs it: implemented over text/'s detokenizer
// and by the echo engine's bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "engine/slab.hpp"

namespace troupe::engine {

// One choice's text as it grows. Never cuts a UTF-8 character: bytes wait until it is whole. Those of
// one source stand side by side (TextSource::make).
class TextStream {
 public:
  static void* operator new(size_t bytes, Slab& slab) { return slab.take(bytes); }
  static void operator delete(void* place, Slab&) { Slab::give(place); }
  static void operator delete(void* place) { Slab::give(place); }
  virtual ~TextStream() = default;
  virtual void push(int32_t token, std::string& text) = 0;  // appends what has become certain
  virtual void finish(std::string& text) = 0;               // and what was still waiting
};

class TextSource {
 public:
  virtual ~TextSource() = default;
  // Does not outlive its source.
  [[nodiscard]] virtual std::unique_ptr<TextStream> stream(bool skip_special) const = 0;

 protected:
  template <class Stream, class... Args>
  std::unique_ptr<TextStream> make(Args&&... args) const {
    return std::unique_ptr<TextStream>(new (slab_) Stream(std::forward<Args>(args)...));
  }

 private:
  mutable Slab slab_;
};

}  // namespace troupe::engine
