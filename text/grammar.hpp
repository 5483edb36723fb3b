// Output grammars: which tokens may come next so that the text keeps to a JSON schema, a regular
// expression, a Lark grammar or a list of choices.
//
// A GrammarCompiler belongs to one vocabulary and may be used from any thread; a Grammar is the state
// of one sequence. The engine asks for mask() before a token is drawn and commit()s the one that was.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/status.hpp"

struct tt_compiler;
struct tt_grammar;

namespace troupe::text {

class Tokenizer;

enum class GrammarKind : uint8_t { json_schema = 1, regex = 2, lark = 3, choice = 4 };

class Grammar {
 public:
  explicit Grammar(tt_grammar* handle) : handle_(handle) {}
  ~Grammar();
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;

  // Bit i: token i may come next. Where the text is complete, the end-of-sequence tokens may.
  // bits.size() >= (vocab_size + 31) / 32.
  [[nodiscard]] Status mask(std::span<uint32_t> bits);
  // invalid when the token does not fit; the grammar is of no use then.
  [[nodiscard]] Status commit(int32_t token);
  // Takes the last `tokens` back.
  [[nodiscard]] Status rollback(int64_t tokens);
  // Nothing but the end may follow.
  [[nodiscard]] bool finished() const;

 private:
  tt_grammar* handle_;
};

class GrammarCompiler {
 public:
  // `vocab_size`: of the model, which may be larger than the tokenizer's. `eos_ids`: at least one.
  [[nodiscard]] static Result<std::unique_ptr<GrammarCompiler>> create(
      const Tokenizer& tokenizer, int32_t vocab_size, std::span<const int32_t> eos_ids);
  ~GrammarCompiler();
  GrammarCompiler(const GrammarCompiler&) = delete;
  GrammarCompiler& operator=(const GrammarCompiler&) = delete;

  // choice: a JSON array of strings. invalid when the text does not compile.
  [[nodiscard]] Result<std::unique_ptr<Grammar>> compile(GrammarKind kind, std::string_view text) const;

 private:
  explicit GrammarCompiler(tt_compiler* handle) : handle_(handle) {}
  tt_compiler* handle_;
};

}  // namespace troupe::text
