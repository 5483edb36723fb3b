// Text to tokens and back, as the model's own tokenizer does it.
//
// A folder is read as transformers reads it: tokenizer.json if there is one, else a tiktoken
// vocabulary (*.tiktoken, or a tokenizer.model of base64 lines), else a SentencePiece
// tokenizer.model; tokenizer_config.json and its siblings add tokens and say what goes around a text.
// A Tokenizer is immutable: any number of threads may use one. For streams use text/detokenizer.hpp.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.hpp"

namespace troupe::text {

class Vocabulary;

class Tokenizer {
 public:
  // Failures name the file: not_found when the folder has no vocabulary, corrupt_model when one of
  // its files does not hold what it should, limit when one is too large.
  [[nodiscard]] static Result<std::unique_ptr<Tokenizer>> load(const std::string& folder);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // add_special_tokens: what the model's configuration puts around a text (usually the bos token).
  // parse_special: "<|im_end|>" in the text is that token; false: it is ordinary text.
  // invalid when the text is not UTF-8, limit when it is too long.
  [[nodiscard]] Result<std::vector<int32_t>> encode(std::string_view text, bool add_special_tokens,
                                                    bool parse_special = true) const;
  // Whether `text` is sure to have more than `tokens` tokens, told from as few pieces of it as that
  // takes: a text far too long costs no more than one that fits. False: not so, or not by far.
  [[nodiscard]] bool far_longer_than(size_t tokens, std::string_view text) const;
  // The text of `ids` as a whole; ids that no token has are passed over. Ill-formed UTF-8 becomes
  // U+FFFD as in the reference.
  [[nodiscard]] Result<std::string> decode(std::span<const int32_t> ids,
                                           bool skip_special_tokens) const;

  // What a token contributes to a text, as bytes; empty for an id that no token has. A view into the
  // tokenizer.
  [[nodiscard]] std::string_view token_bytes(int32_t id) const;
  // A token as the vocabulary spells it ("Ġthe", "▁the", "<0x0A>").
  [[nodiscard]] std::string_view token_name(int32_t id) const;
  // The id of a token as the vocabulary spells it, or -1.
  [[nodiscard]] int32_t id_of(std::string_view name) const;
  // One more than the highest id. The model's own vocabulary may be larger (padding).
  [[nodiscard]] int32_t vocab_size() const;
  [[nodiscard]] bool is_special(int32_t id) const;

  // -1 when the model has no such token.
  [[nodiscard]] int32_t bos_id() const { return bos_; }
  [[nodiscard]] int32_t eos_id() const { return eos_; }
  [[nodiscard]] int32_t pad_id() const { return pad_; }
  [[nodiscard]] int32_t unk_id() const { return unk_; }
  // Ascending.
  [[nodiscard]] const std::vector<int32_t>& special_ids() const { return special_ids_; }
  // "bos_token" -> "<s>" and so on, as chat templates see them.
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& named_tokens() const {
    return named_;
  }

  // For people: "tokenizer.json", "SentencePiece" or "tiktoken", and the file.
  [[nodiscard]] const std::string& kind() const { return kind_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  friend class Detokenizer;
  struct Parts;
  explicit Tokenizer(std::unique_ptr<Parts> parts);
  [[nodiscard]] const Vocabulary& vocabulary() const;
  [[nodiscard]] Result<std::string> decode_whole(std::span<const int32_t> ids,
                                                 bool skip_special_tokens) const;

  std::unique_ptr<Parts> parts_;
  std::string kind_, path_;
  int32_t bos_ = -1, eos_ = -1, pad_ = -1, unk_ = -1;
  std::vector<int32_t> special_ids_;
  std::vector<std::pair<std::string, std::string>> named_;
};

}  // namespace troupe::text
