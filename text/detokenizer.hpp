// Tokens to text while they are generated.
//
// push() gives out text as soon as it cannot change any more: a character is never cut, and nothing
// is decoded twice. What push() and finish() give out, end to end, is Tokenizer::decode() of the same
// ids. One exception, so that a stream of rare characters flows: a run of byte tokens (SentencePiece's
// fallback) that began with 16 bytes of well-formed UTF-8 is given out character by character, while
// decode() turns all of it into U+FFFD if a later byte of the same run is broken.
//
// One per sequence, used by one thread at a time. Costs a few hundred nanoseconds per token and, in
// steady state, no allocation but the growth of its history (reserve() it).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/vocabulary.hpp"

namespace troupe::text {

class Tokenizer;

struct DetokenizerOptions {
  bool skip_special_tokens = true;
  // The text goes on from a prompt's: a space at its start stays, where decode() would drop it.
  bool continues_text = false;
  // Hold runs of byte tokens to their end, however long: decode() to the letter.
  bool whole_runs = false;
};

class Detokenizer {
 public:
  // `tokenizer` must outlive this.
  explicit Detokenizer(const Tokenizer& tokenizer, DetokenizerOptions options = {});

  // Appends to `out` what token `id` settles; ids that no token has settle nothing.
  void push(int32_t id, std::string& out);
  // No token follows: what is held comes out, incomplete characters as U+FFFD.
  void finish(std::string& out);
  // Back to the state after the first `tokens` tokens; text_bytes() then says how much of the text
  // given out stays. tokens <= this->tokens().
  void rewind(int64_t tokens);

  void reserve(size_t tokens);
  [[nodiscard]] int64_t tokens() const { return static_cast<int64_t>(ids_.size()); }
  // Bytes given out so far.
  [[nodiscard]] int64_t text_bytes() const { return text_bytes_; }

 private:
  enum class Run : uint8_t { none, held, flowing, broken };

  void restart();
  void step(int32_t id, std::string& out);
  void step_whole(std::string& out);
  void push_byte(std::string_view byte, std::string& out);
  void end_run(std::string& out);
  void emit(std::string_view text, std::string& out);
  [[nodiscard]] bool clean() const { return held_.empty() && run_ == Run::none; }

  const Tokenizer* tokenizer_;
  const Vocabulary* vocabulary_;
  DetokenizerOptions options_;

  std::string held_;  // bytes that are not text yet
  Run run_ = Run::none;
  uint32_t strip_left_ = 0;
  bool first_ = true;  // no token has counted yet
  int64_t text_bytes_ = 0;
  // DecodeRule::whole: the window of tokens that is decoded, and how much of it is out.
  size_t window_begin_ = 0, window_read_ = 0;

  std::vector<int32_t> ids_;
  std::vector<int64_t> marks_;  // per token: text_bytes_ after it, times two, plus one when clean
};

}  // namespace troupe::text
