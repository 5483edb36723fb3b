// tokenizer.model: SentencePiece runs the model, this file does what the reference's LlamaTokenizer
// does around it: added tokens are cut out of the text first, the rest goes to the model piece by
// piece, with or without the space in front ("legacy").
#include <sentencepiece_processor.h>

#include <algorithm>
#include <unordered_map>

#include "base/limits.hpp"
#include "text/encoder.hpp"
#include "text/files.hpp"
#include "text/tokenizer_config.hpp"

namespace troupe::text {
namespace {

using sentencepiece::SentencePieceProcessor;

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

// A serialized ModelProto with normalizer_spec.add_dummy_prefix = false: a repeated embedded message
// is merged into the first by the rules of protobuf, so the field can simply be appended.
std::string without_prefix(std::string model) {
  constexpr char kOverride[] = {0x1A, 0x02, 0x18, 0x00};
  model.append(kOverride, sizeof kOverride);
  return model;
}

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'; }

struct Segment {
  std::string_view text;
  int32_t token = -1;  // an added token, or -1: text for the model
};

class SentencePieceEncoder final : public Encoder {
 public:
  Status load(const std::string& file, const std::string& path, const TokenizerConfig& config);

  Result<std::vector<int32_t>> encode(std::string_view text, bool add_special,
                                      bool parse_special) const override;
  Result<std::string> decode(std::span<const int32_t>, bool) const override {
    return internal_error("SentencePiece vocabularies decode per piece");
  }

  [[nodiscard]] Vocabulary vocabulary() const;
  [[nodiscard]] std::string control_name(int id) const {
    return id < 0 ? std::string() : model_.IdToPiece(id);
  }
  [[nodiscard]] const SentencePieceProcessor& model() const { return model_; }

 private:
  void add_tokens(const TokenizerConfig& config);
  void add_token(const AddedToken& token);
  [[nodiscard]] std::vector<Segment> split(std::string_view text, bool parse_special) const;
  [[nodiscard]] const AddedToken* match(std::string_view rest, bool parse_special) const;
  Status encode_text(std::string_view text, bool first, std::vector<int32_t>& out) const;
  Status run(const SentencePieceProcessor& model, std::string_view text, std::vector<int32_t>& out) const;

  SentencePieceProcessor model_;     // as the file says
  SentencePieceProcessor bare_;      // the same without a space put in front
  bool bare_strips_ = false;         // it removes leading spaces by itself
  bool prefix_every_ = false;        // "legacy": each stretch of text gets the space in front
  bool prefix_first_ = true;
  int32_t bos_ = -1, eos_ = -1;      // put around a text when special tokens are asked for
  std::vector<AddedToken> added_;    // longest first, so that the first match is the longest
  std::unordered_map<int32_t, AddedToken> added_by_id_;
  bool starts_token_[256] = {};
};

Status SentencePieceEncoder::load(const std::string& file, const std::string& path,
                                  const TokenizerConfig& config) {
  if (const auto status = model_.LoadFromSerializedProto(file); !status.ok()) {
    return corrupt_model(path + ": not a SentencePiece model: " + status.ToString());
  }
  if (const auto status = bare_.LoadFromSerializedProto(without_prefix(file)); !status.ok()) {
    return corrupt_model(path + ": " + status.ToString());
  }
  if (model_.GetPieceSize() <= 0) return corrupt_model(path + ": no piece in the model");
  std::vector<int32_t> spaced, plain;
  TR_TRY(run(bare_, "  a", spaced));
  TR_TRY(run(bare_, "a", plain));
  bare_strips_ = spaced == plain;
  prefix_first_ = config.add_prefix_space.value_or(true);
  prefix_every_ = prefix_first_ && config.legacy.value_or(false);
  add_tokens(config);
  const auto id_of = [&](const char* key, int fallback) {
    const std::string* name = config.special(key);
    if (name == nullptr) return static_cast<int32_t>(fallback);
    for (const auto& [id, token] : added_by_id_) {
      if (token.content == *name) return id;
    }
    return int32_t{-1};
  };
  if (config.add_bos.value_or(false)) bos_ = id_of("bos_token", model_.bos_id());
  if (config.add_eos.value_or(false)) eos_ = id_of("eos_token", model_.eos_id());
  return ok_status();
}

void SentencePieceEncoder::add_token(const AddedToken& given) {
  if (given.content.empty()) return;
  for (const auto& [id, known] : added_by_id_) {
    if (known.content == given.content) return;
  }
  AddedToken token = given;
  const int found = model_.PieceToId(token.content);
  if (found != model_.unk_id() || model_.IdToPiece(found) == token.content) {
    token.id = found;
  } else if (token.id < 0 || added_by_id_.count(token.id) > 0) {
    token.id = model_.GetPieceSize();
    while (added_by_id_.count(token.id) > 0) ++token.id;
  }
  starts_token_[static_cast<uint8_t>(token.content[0])] = true;
  added_.push_back(token);
  added_by_id_.emplace(token.id, std::move(token));
}

void SentencePieceEncoder::add_tokens(const TokenizerConfig& config) {
  for (const AddedToken& token : config.added_tokens) add_token(token);
  const auto special = [&](const std::string& content) {
    AddedToken token;
    token.content = content;
    token.special = true;
    add_token(token);
  };
  for (const auto& [key, content] : config.special_tokens) special(content);
  for (const std::string& content : config.extra_special_tokens) special(content);
  for (const int id : {model_.unk_id(), model_.bos_id(), model_.eos_id()}) {
    if (id >= 0) special(model_.IdToPiece(id));
  }
  std::stable_sort(added_.begin(), added_.end(), [](const AddedToken& a, const AddedToken& b) {
    return a.content.size() > b.content.size();
  });
}

const AddedToken* SentencePieceEncoder::match(std::string_view rest, bool parse_special) const {
  if (!starts_token_[static_cast<uint8_t>(rest[0])]) return nullptr;
  for (const AddedToken& token : added_) {
    if ((parse_special || !token.special) && rest.substr(0, token.content.size()) == token.content) {
      return &token;
    }
  }
  return nullptr;
}

std::vector<Segment> SentencePieceEncoder::split(std::string_view text, bool parse_special) const {
  std::vector<Segment> segments;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = match(text.substr(at), parse_special);
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t left = at;
    while (token->lstrip && left > begin && is_space(text[left - 1])) --left;
    if (left > begin) segments.push_back({text.substr(begin, left - begin)});
    segments.push_back({text.substr(at, token->content.size()), token->id});
    at += token->content.size();
    while (token->rstrip && at < text.size() && is_space(text[at])) ++at;
    begin = at;
  }
  if (begin < text.size()) segments.push_back({text.substr(begin)});
  return segments;
}

Status SentencePieceEncoder::run(const SentencePieceProcessor& model, std::string_view text,
                                 std::vector<int32_t>& out) const {
  std::vector<int> ids;
  if (const auto status = model.Encode(text, &ids); !status.ok()) {
    return invalid("SentencePiece cannot encode the text: " + status.ToString());
  }
  out.insert(out.end(), ids.begin(), ids.end());
  return ok_status();
}

Status SentencePieceEncoder::encode_text(std::string_view text, bool first,
                                         std::vector<int32_t>& out) const {
  if (prefix_every_ || (first && prefix_first_)) return run(model_, text, out);
  const bool spaced = text[0] == ' ' || text.substr(0, kSpaceMark.size()) == kSpaceMark;
  if (!bare_strips_ || !spaced) return run(bare_, text, out);
  // A model that strips leading spaces keeps them behind other text; "<unk>" is what the reference
  // puts there, and cuts off again by its length in pieces.
  const std::string guard = model_.IdToPiece(model_.unk_id());
  std::vector<int32_t> guard_ids, ids;
  TR_TRY(run(bare_, guard, guard_ids));
  TR_TRY(run(bare_, guard + std::string(text), ids));
  const size_t cut = std::min(guard_ids.size(), ids.size());
  out.insert(out.end(), ids.begin() + static_cast<std::ptrdiff_t>(cut), ids.end());
  return ok_status();
}

Result<std::vector<int32_t>> SentencePieceEncoder::encode(std::string_view text, bool add_special,
                                                          bool parse_special) const {
  std::vector<int32_t> out;
  if (add_special && bos_ >= 0) out.push_back(bos_);
  bool first = true;
  for (const Segment& segment : split(text, parse_special)) {
    if (segment.token >= 0) {
      out.push_back(segment.token);
    } else {
      TR_TRY(encode_text(segment.text, first, out));
    }
    first = false;
  }
  if (add_special && eos_ >= 0) out.push_back(eos_);
  return out;
}

std::string replace_marks(std::string text) {
  for (size_t at = 0; (at = text.find(kSpaceMark, at)) != std::string::npos; ++at) {
    text.replace(at, kSpaceMark.size(), " ");
  }
  return text;
}

Vocabulary SentencePieceEncoder::vocabulary() const {
  Vocabulary vocabulary;
  vocabulary.rule = DecodeRule::pieces;
  vocabulary.strip_left = prefix_first_ ? 1 : 0;
  int32_t size = model_.GetPieceSize();
  for (const auto& [id, token] : added_by_id_) size = std::max(size, id + 1);
  vocabulary.reserve(static_cast<size_t>(size), static_cast<size_t>(size) * 8);
  for (int32_t id = 0; id < size; ++id) {
    Vocabulary::Token token;
    if (const auto added = added_by_id_.find(id); added != added_by_id_.end()) {
      token.known = true;
      token.special = added->second.special;
      token.name = added->second.content;
      token.bytes = replace_marks(token.name);
    } else if (id < model_.GetPieceSize()) {
      token.known = true;
      token.name = model_.IdToPiece(id);
      token.byte = model_.IsByte(id);
      token.bytes = token.byte && token.name.size() == 6
                        ? std::string(1, static_cast<char>(std::stoi(token.name.substr(3, 2), nullptr, 16)))
                        : replace_marks(token.name);
    }
    vocabulary.append(token);
  }
  vocabulary.finish();
  return vocabulary;
}

}  // namespace

Result<LoadedTokenizer> load_sentencepiece(const std::string& path, const TokenizerConfig& config) {
  TR_ASSIGN(const std::string file, read_file(path, limits::tokenizer_bytes));
  auto encoder = std::make_unique<SentencePieceEncoder>();
  try {
    TR_TRY(encoder->load(file, path, config));
    LoadedTokenizer loaded;
    loaded.vocabulary = encoder->vocabulary();
    loaded.kind = "SentencePiece";
    loaded.bos = encoder->control_name(encoder->model().bos_id());
    loaded.eos = encoder->control_name(encoder->model().eos_id());
    loaded.unk = encoder->control_name(encoder->model().unk_id());
    loaded.encoder = std::move(encoder);
    return loaded;
  } catch (const std::exception& e) {
    return corrupt_model(path + ": " + e.what());
  }
}

}  // namespace troupe::text
