// Tokenizers that the Rust library runs: tokenizer.json, and tiktoken vocabularies with the pattern
// and the special tokens that their Python code would add.
#include <nlohmann/json.hpp>

#include "base/limits.hpp"
#include "text/encoder.hpp"
#include "text/ffi.hpp"
#include "text/files.hpp"
#include "text/tokenizer_config.hpp"

namespace troupe::text {
namespace {

using nlohmann::json;

class RustEncoder final : public Encoder {
 public:
  explicit RustEncoder(tt_tokenizer* handle) : handle_(handle) {}
  RustEncoder(const RustEncoder&) = delete;
  RustEncoder& operator=(const RustEncoder&) = delete;
  ~RustEncoder() override { tt_tokenizer_free(handle_); }

  Result<std::vector<int32_t>> encode(std::string_view text, bool add_special,
                                      bool parse_special) const override {
    tt_ids ids{nullptr, 0};
    ffi::Bytes error;
    const uint32_t flags = (add_special ? uint32_t{TT_ADD_SPECIAL} : 0U) |
                           (parse_special ? 0U : uint32_t{TT_SPECIAL_AS_TEXT});
    const int32_t rc = tt_tokenizer_encode(handle_, ffi::slice(text), flags, &ids, error.out());
    if (rc != TT_OK) return ffi::failure(rc, error, "");
    std::vector<int32_t> out(ids.data, ids.data + ids.size);
    tt_ids_free(ids);
    return out;
  }

  Result<std::string> decode(std::span<const int32_t> ids, bool skip_special) const override {
    const std::vector<uint32_t> plain(ids.begin(), ids.end());
    ffi::Bytes text, error;
    const int32_t rc = tt_tokenizer_decode(handle_, plain.data(), plain.size(), skip_special ? 1 : 0,
                                           text.out(), error.out());
    if (rc != TT_OK) return ffi::failure(rc, error, "");
    return std::string(text.view());
  }

  [[nodiscard]] Result<Vocabulary> vocabulary() const {
    tt_pieces pieces{};
    ffi::Bytes error;
    const int32_t rc = tt_tokenizer_pieces(handle_, &pieces, error.out());
    if (rc != TT_OK) return ffi::failure(rc, error, "");
    Vocabulary vocabulary;
    vocabulary.rule = pieces.decode == TT_DECODE_BYTES    ? DecodeRule::bytes
                      : pieces.decode == TT_DECODE_PIECES ? DecodeRule::pieces
                                                          : DecodeRule::whole;
    vocabulary.strip_left = pieces.strip_left;
    vocabulary.first_drops_spaces = pieces.first_drops_spaces != 0;
    vocabulary.reserve(pieces.count, pieces.names.size);
    const std::string_view bytes(pieces.bytes.data, pieces.bytes.size);
    const std::string_view names(pieces.names.data, pieces.names.size);
    const auto part = [](std::string_view blob, const tt_ids& offsets, uint32_t at) {
      return blob.substr(offsets.data[at], offsets.data[at + 1] - offsets.data[at]);
    };
    for (uint32_t id = 0; id < pieces.count; ++id) {
      vocabulary.append(static_cast<uint8_t>(pieces.flags.data[id]), part(bytes, pieces.byte_offsets, id),
                        part(names, pieces.name_offsets, id));
    }
    tt_pieces_free(pieces);
    vocabulary.finish();
    return vocabulary;
  }

 private:
  tt_tokenizer* handle_;
};

json token_json(const AddedToken& token) {
  json object = {{"content", token.content},   {"lstrip", token.lstrip},
                 {"rstrip", token.rstrip},     {"single_word", token.single_word},
                 {"normalized", token.normalized}, {"special", token.special}};
  if (token.id >= 0) object["id"] = token.id;
  return object;
}

AddedToken special_token(std::string content, int32_t id = -1) {
  AddedToken token;
  token.content = std::move(content);
  token.id = id;
  token.special = true;
  return token;
}

// In the reference's order: tokens with ids, then the named special ones, then the extra ones. Those
// that the vocabulary has already keep their ids.
json added_tokens(const TokenizerConfig& config) {
  json list = json::array();
  for (const AddedToken& token : config.added_tokens) list.push_back(token_json(token));
  const auto add = [&](const std::string& content) {
    for (const json& known : list) {
      if (known["content"] == content) return;
    }
    list.push_back(token_json(special_token(content)));
  };
  for (const auto& [key, content] : config.special_tokens) add(content);
  for (const std::string& content : config.extra_special_tokens) add(content);
  return list;
}

// The reference gives every LlamaTokenizer over a BPE that is not byte-level the same pipeline,
// whatever tokenizer.json says; "legacy" decides about the space in front.
std::string metaspace_scheme(const std::string& file, const TokenizerConfig& config) {
  if (config.tokenizer_class != "LlamaTokenizer") return {};
  if (file.find("\"ByteLevel\"") != std::string::npos) return {};
  if (file.find("\"byte_fallback\"") == std::string::npos) return {};
  if (!config.add_prefix_space.value_or(true)) return "never";
  return config.legacy.value_or(false) ? "always" : "first";
}

Result<LoadedTokenizer> finish(int32_t rc, tt_tokenizer* handle, const ffi::Bytes& error,
                               const std::string& path, std::string kind) {
  if (rc != TT_OK) return ffi::failure(rc, error, path);
  auto encoder = std::make_unique<RustEncoder>(handle);
  auto vocabulary = encoder->vocabulary();
  if (!vocabulary.ok()) return vocabulary.status().at(path);
  LoadedTokenizer loaded;
  loaded.vocabulary = std::move(vocabulary).value();
  loaded.encoder = std::move(encoder);
  loaded.kind = std::move(kind);
  return loaded;
}

// ---- tiktoken ---------------------------------------------------------------------------------

constexpr const char* kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// GLM-4's; also what the reference assumes of every other tiktoken file (Llama 3's own is the same).
constexpr const char* kDefaultPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// One more than the highest rank: where the special tokens of these families begin.
int32_t rank_count(std::string_view content) {
  int32_t count = 0;
  for (size_t at = 0; at < content.size();) {
    const size_t end = std::min(content.find('\n', at), content.size());
    const std::string_view line = content.substr(at, end - at);
    const size_t space = line.find(' ');
    if (space != std::string_view::npos) {
      int32_t rank = 0;
      for (const char c : line.substr(space + 1)) {
        if (c < '0' || c > '9' || rank > (1 << 24)) break;
        rank = rank * 10 + (c - '0');
      }
      count = std::max(count, rank + 1);
    }
    at = end + 1;
  }
  return count;
}

std::vector<std::string> qwen_tokens(bool vision) {
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (int i = 0; i < 205; ++i) tokens.push_back("<|extra_" + std::to_string(i) + "|>");
  if (vision) {
    tokens.insert(tokens.end(), {"<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>",
                                 "</img>", "<imgpad>"});
  }
  return tokens;
}

const std::vector<std::string>& glm4_tokens() {
  static const std::vector<std::string> tokens = {
      "<|endoftext|>", "[MASK]",        "[gMASK]",      "[sMASK]",           "<sop>",
      "<eop>",         "<|system|>",    "<|user|>",     "<|assistant|>",     "<|observation|>",
      "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"};
  return tokens;
}

bool is_glm(const TokenizerConfig& config) {
  return config.tokenizer_class.rfind("ChatGLM", 0) == 0 || config.model_type.rfind("chatglm", 0) == 0 ||
         config.model_type.rfind("glm", 0) == 0;
}

// The tokens of the configuration where it lists them, else those that the family's code adds.
std::vector<AddedToken> tiktoken_specials(const TokenizerConfig& config, bool qwen, int32_t first) {
  std::vector<AddedToken> tokens = config.added_tokens;
  if (tokens.empty()) {
    std::vector<std::string> names = config.extra_special_tokens;
    if (qwen) names = qwen_tokens(config.has_vision);
    if (is_glm(config)) names = glm4_tokens();
    for (const std::string& name : names) tokens.push_back(special_token(name, first++));
    return tokens;
  }
  for (const AddedToken& token : tokens) first = std::max(first, token.id + 1);
  const auto known = [&](const std::string& content) {
    return std::any_of(tokens.begin(), tokens.end(),
                       [&](const AddedToken& token) { return token.content == content; });
  };
  for (const std::string& content : config.extra_special_tokens) {
    if (!known(content)) tokens.push_back(special_token(content, first++));
  }
  return tokens;
}

}  // namespace

bool looks_like_tiktoken(std::string_view content) {
  const std::string_view line = content.substr(0, content.find('\n'));
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || line.size() > 4096) return false;
  const auto base64 = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/' || c == '=';
  };
  const std::string_view token = line.substr(0, space);
  const std::string_view rank = line.substr(space + 1);
  return std::all_of(token.begin(), token.end(), base64) &&
         rank.find_first_not_of("0123456789\r") == std::string_view::npos && !rank.empty();
}

Result<LoadedTokenizer> load_tokenizer_json(const std::string& path, const TokenizerConfig& config) {
  TR_ASSIGN(const std::string file, read_file(path, limits::tokenizer_bytes));
  json options = {{"added_tokens", added_tokens(config)}};
  const std::string scheme = metaspace_scheme(file, config);
  if (!scheme.empty()) options["metaspace"] = scheme;
  tt_tokenizer* handle = nullptr;
  ffi::Bytes error;
  const int32_t rc =
      tt_tokenizer_from_json(ffi::slice(file), ffi::slice(options.dump()), &handle, error.out());
  return finish(rc, handle, error, path, "tokenizer.json");
}

Result<LoadedTokenizer> load_tiktoken(const std::string& path, const TokenizerConfig& config) {
  TR_ASSIGN(const std::string file, read_file(path, limits::tokenizer_bytes));
  const bool qwen = path.size() >= 9 && path.compare(path.size() - 9, 9, ".tiktoken") == 0;
  json specials = json::array();
  for (const AddedToken& token : tiktoken_specials(config, qwen, rank_count(file))) {
    specials.push_back(token_json(token));
  }
  json options = {{"pattern", qwen ? kQwenPattern : kDefaultPattern},
                  {"nfc", qwen},
                  {"special_tokens", std::move(specials)}};
  // ChatGLM4Tokenizer puts these two in front of every text.
  if (!qwen && is_glm(config)) options["prefix"] = {"[gMASK]", "<sop>"};
  tt_tokenizer* handle = nullptr;
  ffi::Bytes error;
  const int32_t rc =
      tt_tokenizer_from_ranks(ffi::slice(file), ffi::slice(options.dump()), &handle, error.out());
  auto loaded = finish(rc, handle, error, path, "tiktoken");
  if (loaded.ok() && (qwen || is_glm(config))) {
    loaded.value().eos = "<|endoftext|>";
  }
  return loaded;
}

}  // namespace troupe::text
