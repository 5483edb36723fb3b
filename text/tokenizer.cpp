#include "text/tokenizer.hpp"

#include <algorithm>
#include <filesystem>

#include "base/limits.hpp"
#include "text/detokenizer.hpp"
#include "text/encoder.hpp"
#include "text/files.hpp"
#include "text/tokenizer_config.hpp"
#include "text/utf8.hpp"

namespace troupe::text {
namespace {

struct Source {
  std::string path;
  Result<LoadedTokenizer> (*load)(const std::string&, const TokenizerConfig&) = nullptr;
};

std::string tiktoken_file(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".tiktoken") found.push_back(entry.path().string());
  }
  return found.empty() ? std::string() : *std::min_element(found.begin(), found.end());
}

Result<Source> find_source(const std::string& folder) {
  const std::string json = folder + "/tokenizer.json";
  if (file_exists(json)) return Source{json, load_tokenizer_json};
  const std::string ranks = tiktoken_file(folder);
  if (!ranks.empty()) return Source{ranks, load_tiktoken};
  const std::string model = folder + "/tokenizer.model";
  if (file_exists(model)) {
    TR_ASSIGN(const std::string content, read_file(model, limits::tokenizer_bytes));
    return Source{model, looks_like_tiktoken(content) ? load_tiktoken : load_sentencepiece};
  }
  return Status(Code::not_found,
                folder + ": no tokenizer in this folder: expected tokenizer.json, tokenizer.model or "
                         "a *.tiktoken file; download the model's tokenizer files into it");
}

// Texts of fewer bytes per token allowed are not looked at: few have so long ones, and reading them is cheap.
constexpr size_t kLongTokenBytes = 8;
constexpr size_t kPieceBytes = size_t{16} << 10;
// More than the two cuts of a piece can add to the tokens that the whole has in its place: what stood across
// a cut falls apart, and a run that is one token (unknown words, spaces) is one in every piece.
constexpr size_t kTokensOfCuts = 64;

}  // namespace

struct Tokenizer::Parts {
  LoadedTokenizer loaded;
};

Tokenizer::Tokenizer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::load(const std::string& folder) {
  TR_ASSIGN(const Source source, find_source(folder));
  TR_ASSIGN(TokenizerConfig config, read_tokenizer_config(folder));
  TR_ASSIGN(LoadedTokenizer loaded, source.load(source.path, config));
  for (const auto& [key, name] : {std::pair{"bos_token", &loaded.bos}, std::pair{"eos_token", &loaded.eos},
                                  std::pair{"unk_token", &loaded.unk}}) {
    if (!name->empty() && config.special(key) == nullptr) config.set_special(key, *name);
  }
  auto parts = std::make_unique<Parts>();
  parts->loaded = std::move(loaded);
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer(std::move(parts)));
  tokenizer->kind_ = tokenizer->parts_->loaded.kind;
  tokenizer->path_ = source.path;
  tokenizer->named_ = config.special_tokens;
  const auto id = [&](const char* key) {
    const std::string* name = config.special(key);
    return name == nullptr ? -1 : tokenizer->id_of(*name);
  };
  tokenizer->bos_ = id("bos_token");
  tokenizer->eos_ = id("eos_token");
  tokenizer->pad_ = id("pad_token");
  tokenizer->unk_ = id("unk_token");
  for (int32_t at = 0; at < tokenizer->vocab_size(); ++at) {
    if (tokenizer->is_special(at)) tokenizer->special_ids_.push_back(at);
  }
  return tokenizer;
}

const Vocabulary& Tokenizer::vocabulary() const { return parts_->loaded.vocabulary; }

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, bool add_special_tokens,
                                               bool parse_special) const {
  if (text.size() > limits::prompt_bytes) {
    return limit_exceeded("the text has " + std::to_string(text.size()) + " bytes; the limit is " +
                          std::to_string(limits::prompt_bytes));
  }
  if (const size_t bad = find_invalid_utf8(text); bad != std::string_view::npos) {
    return invalid("the text is not valid UTF-8 at byte " + std::to_string(bad));
  }
  return parts_->loaded.encoder->encode(text, add_special_tokens, parse_special);
}

bool Tokenizer::far_longer_than(size_t tokens, std::string_view text) const {
  if (text.size() / kLongTokenBytes <= tokens) return false;
  size_t counted = 0;
  while (!text.empty() && counted <= tokens) {
    const std::string_view near = text.substr(0, kPieceBytes);
    const std::string_view piece = near.substr(0, scan_utf8(near).valid);
    if (piece.empty()) return false;  // encode() says what is wrong
    const auto ids = parts_->loaded.encoder->encode(piece, false, true);
    if (!ids.ok()) return false;
    counted += ids->size() - std::min(ids->size(), kTokensOfCuts);
    text.remove_prefix(piece.size());
  }
  return counted > tokens;
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  if (vocabulary().rule == DecodeRule::whole) return decode_whole(ids, skip_special_tokens);
  Detokenizer detokenizer(*this, {.skip_special_tokens = skip_special_tokens, .whole_runs = true});
  std::string text;
  for (const int32_t id : ids) detokenizer.push(id, text);
  detokenizer.finish(text);
  return text;
}

Result<std::string> Tokenizer::decode_whole(std::span<const int32_t> ids,
                                            bool skip_special_tokens) const {
  std::vector<int32_t> known;
  known.reserve(ids.size());
  std::copy_if(ids.begin(), ids.end(), std::back_inserter(known),
               [this](int32_t id) { return vocabulary().known(id); });
  return parts_->loaded.encoder->decode(known, skip_special_tokens);
}

std::string_view Tokenizer::token_bytes(int32_t id) const { return vocabulary().bytes(id); }
std::string_view Tokenizer::token_name(int32_t id) const { return vocabulary().name(id); }
int32_t Tokenizer::id_of(std::string_view name) const { return vocabulary().id_of(name); }
int32_t Tokenizer::vocab_size() const { return vocabulary().size(); }
bool Tokenizer::is_special(int32_t id) const { return vocabulary().special(id); }

}  // namespace troupe::text
