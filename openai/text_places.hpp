// Where in a text its tokens begin, counted in characters (code points, as Python indexes a
// string).
#pragma once

#include <cstddef>
#include <string_view>

namespace troupe::openai {

// Given the tokens' texts in order. What a text leaves out (a begin token, a stop token) takes no
// room in it. A token of part of a character stands where the character does; the next whole one is
// found again.
class TextPlaces {
 public:
  explicit TextPlaces(std::string_view text) : rest_(text) {}
  size_t next(std::string_view token);

 private:
  void pass(size_t bytes);

  std::string_view rest_;
  size_t characters_ = 0;  // before rest_
  size_t unseen_ = 1;  // bytes that tokens before may stand for: a space that a token alone drops,
                       // and the characters that were in parts
};

}  // namespace troupe::openai
