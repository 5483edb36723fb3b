// The part of a tokenizer that differs by the kind of its files: text to ids. Tokenizer
// (text/tokenizer.hpp) owns one and does the rest from the Vocabulary.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.hpp"
#include "text/vocabulary.hpp"

namespace troupe::text {

struct TokenizerConfig;

class Encoder {
 public:
  virtual ~Encoder() = default;
  // `text` is valid UTF-8. Appends to nothing: the ids of the whole text.
  [[nodiscard]] virtual Result<std::vector<int32_t>> encode(std::string_view text, bool add_special,
                                                            bool parse_special) const = 0;
  // For DecodeRule::whole only.
  [[nodiscard]] virtual Result<std::string> decode(std::span<const int32_t> ids,
                                                   bool skip_special) const = 0;
};

struct LoadedTokenizer {
  std::unique_ptr<Encoder> encoder;
  Vocabulary vocabulary;
  std::string kind;  // for people: "tokenizer.json", "SentencePiece", "tiktoken"
  // What the files themselves call the beginning and the end, when the configuration does not.
  std::string bos, eos, unk;
};

[[nodiscard]] Result<LoadedTokenizer> load_tokenizer_json(const std::string& path,
                                                          const TokenizerConfig& config);
[[nodiscard]] Result<LoadedTokenizer> load_tiktoken(const std::string& path,
                                                    const TokenizerConfig& config);
[[nodiscard]] Result<LoadedTokenizer> load_sentencepiece(const std::string& path,
                                                         const TokenizerConfig& config);
// Lines of "base64 rank" rather than a SentencePiece model, by the looks of the first line.
[[nodiscard]] bool looks_like_tiktoken(std::string_view content);

}  // namespace troupe::text
