#include "text/grammar.hpp"

#include <string>
#include <vector>

#include "text/ffi.hpp"
#include "text/tokenizer.hpp"

namespace troupe::text {

Grammar::~Grammar() { tt_grammar_free(handle_); }

Status Grammar::mask(std::span<uint32_t> bits) {
  ffi::Bytes error;
  const int32_t rc = tt_grammar_mask(handle_, bits.data(), bits.size(), error.out());
  return rc == TT_OK ? ok_status() : ffi::failure(rc, error, "");
}

Status Grammar::commit(int32_t token) {
  if (token < 0) return invalid("token " + std::to_string(token) + " does not fit the grammar");
  ffi::Bytes error;
  const int32_t rc = tt_grammar_commit(handle_, static_cast<uint32_t>(token), error.out());
  return rc == TT_OK ? ok_status() : ffi::failure(rc, error, "");
}

Status Grammar::rollback(int64_t tokens) {
  ffi::Bytes error;
  const int32_t rc = tt_grammar_rollback(handle_, static_cast<size_t>(tokens), error.out());
  return rc == TT_OK ? ok_status() : ffi::failure(rc, error, "");
}

bool Grammar::finished() const { return tt_grammar_finished(handle_) != 0; }

GrammarCompiler::~GrammarCompiler() { tt_compiler_free(handle_); }

Result<std::unique_ptr<GrammarCompiler>> GrammarCompiler::create(const Tokenizer& tokenizer,
                                                                 int32_t vocab_size,
                                                                 std::span<const int32_t> eos_ids) {
  if (vocab_size <= 0) return invalid("a grammar needs a vocabulary");
  std::string bytes;
  std::vector<uint32_t> offsets{0};
  for (int32_t id = 0; id < vocab_size; ++id) {
    if (tokenizer.is_special(id)) {
      bytes += '\xFF';  // never text: no grammar reaches it by its letters
      bytes += tokenizer.token_name(id);
    } else {
      bytes += tokenizer.token_bytes(id);
    }
    offsets.push_back(static_cast<uint32_t>(bytes.size()));
  }
  std::vector<uint32_t> eos;
  for (const int32_t id : eos_ids) {
    if (id < 0 || id >= vocab_size) {
      return invalid("end-of-sequence token " + std::to_string(id) + " is not in the vocabulary of " +
                     std::to_string(vocab_size));
    }
    eos.push_back(static_cast<uint32_t>(id));
  }
  if (eos.empty()) return invalid("a grammar needs an end-of-sequence token; the model names none");
  const tt_vocabulary vocabulary{static_cast<uint32_t>(vocab_size), ffi::slice(bytes), offsets.data(),
                                 eos.data(), eos.size()};
  tt_compiler* handle = nullptr;
  ffi::Bytes error;
  const int32_t rc = tt_compiler_new(&vocabulary, &handle, error.out());
  if (rc != TT_OK) return ffi::failure(rc, error, "");
  return std::unique_ptr<GrammarCompiler>(new GrammarCompiler(handle));
}

Result<std::unique_ptr<Grammar>> GrammarCompiler::compile(GrammarKind kind, std::string_view text) const {
  tt_grammar* handle = nullptr;
  ffi::Bytes error;
  const int32_t rc =
      tt_grammar_new(handle_, static_cast<int32_t>(kind), ffi::slice(text), &handle, error.out());
  if (rc != TT_OK) return ffi::failure(rc, error, "");
  return std::make_unique<Grammar>(handle);
}

}  // namespace troupe::text
