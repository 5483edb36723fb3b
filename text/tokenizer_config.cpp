#include "text/tokenizer_config.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json_value.hpp"
#include "base/limits.hpp"
#include "text/files.hpp"

namespace troupe::text {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 7> kNamedTokens = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                          "pad_token", "cls_token", "mask_token"};
constexpr int64_t kIdsMax = int64_t{1} << 22;  // no vocabulary comes near; a table per id is built

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// One JSON object of one file. Every field that is read is held against what it must be; the first
// that is something else sticks, by name, and status() gives it. A null field counts as absent.
class Reader {
 public:
  Reader(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  [[nodiscard]] const json* look(const std::string& key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  [[nodiscard]] std::string text(const char* key) {
    const json* value = look(key);
    if (value == nullptr) return {};
    if (!value->is_string()) fail(key, "must be text", *value);
    return value->is_string() ? value->get<std::string>() : std::string();
  }
  [[nodiscard]] std::optional<bool> flag(const char* key) {
    const json* value = look(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) fail(key, "must be true or false", *value);
    return value->is_boolean() ? std::optional(value->get<bool>()) : std::nullopt;
  }
  void fail(const std::string& key, const std::string& must, const json& is) {
    if (status_.ok()) status_ = corrupt_model(where_ + key + " " + must + ", is " + shown(is));
  }
  void take(Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  [[nodiscard]] std::string at(const std::string& key) const { return where_ + key; }
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  const json& object_;
  const std::string where_;  // "FILE: " and the way to the object
  Status status_;
};

// A token is a string or an AddedToken object. Nothing when the field is null or the token empty.
std::optional<AddedToken> token_of(Reader& from, const std::string& key, const json& value) {
  AddedToken token;
  if (value.is_null()) return std::nullopt;
  if (value.is_string()) {
    token.content = value.get<std::string>();
    token.special = true;
    return token;
  }
  if (!value.is_object()) {
    from.fail(key, "must be text or a token object", value);
    return std::nullopt;
  }
  Reader fields(value, from.at(key) + ".");
  token.content = fields.text("content");
  token.lstrip = fields.flag("lstrip").value_or(false);
  token.rstrip = fields.flag("rstrip").value_or(false);
  token.single_word = fields.flag("single_word").value_or(false);
  token.special = fields.flag("special").value_or(false);
  token.normalized = fields.flag("normalized").value_or(!token.special);
  from.take(fields.status());
  if (token.content.empty()) return std::nullopt;
  return token;
}

void read_extra_tokens(Reader& from, const std::string& key, const json& list, TokenizerConfig& config) {
  if (list.is_array()) {
    for (size_t i = 0; i < list.size(); ++i) {
      const auto token = token_of(from, key + "[" + std::to_string(i) + "]", list[i]);
      if (token) config.extra_special_tokens.push_back(token->content);
    }
  } else if (list.is_object()) {
    for (const auto& [name, value] : list.items()) {
      if (const auto token = token_of(from, key + "." + name, value)) config.set_special(name, token->content);
    }
  } else if (!list.is_null()) {
    from.fail(key, "must be a list or an object of tokens", list);
  }
}

void read_special_tokens(Reader& from, const json& object, TokenizerConfig& config) {
  for (const auto& [key, value] : object.items()) {
    if (key == "additional_special_tokens" || key == "extra_special_tokens") {
      read_extra_tokens(from, key, value, config);
      continue;
    }
    const bool named = std::find(kNamedTokens.begin(), kNamedTokens.end(), key) != kNamedTokens.end();
    const bool flag = value.is_boolean() && !named;  // add_bos_token
    if (!ends_with(key, "_token") || flag) continue;
    if (const auto token = token_of(from, key, value)) config.set_special(key, token->content);
  }
}

Status read_added_decoder(const json& decoder, const std::string& path, TokenizerConfig& config) {
  Reader from(decoder, path + ": added_tokens_decoder.");
  for (const auto& [key, value] : decoder.items()) {
    auto token = token_of(from, key, value);
    TR_TRY(from.status());
    int64_t id = -1;
    if (!key.empty() && key.size() <= 9 &&
        std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      id = std::stoll(key);
    }
    if (!token || id < 0 || id >= kIdsMax) {
      return corrupt_model(path + ": added_tokens_decoder[\"" + key +
                           "\"]: expected an id below 2^22 with a token object");
    }
    token->id = static_cast<int32_t>(id);
    config.added_tokens.push_back(*std::move(token));
  }
  return ok_status();
}

Status read_added_tokens_file(const std::string& path, TokenizerConfig& config) {
  TR_ASSIGN(const json ids, read_json_object(path, limits::config_bytes));
  for (const auto& [content, id] : ids.items()) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= kIdsMax) {
      return corrupt_model(path + ": \"" + content + "\": expected a token id below 2^22");
    }
    AddedToken token;
    token.content = content;
    token.id = id.get<int32_t>();
    const auto names_it = [&name = content](const auto& entry) { return entry.second == name; };
    token.special = std::any_of(config.special_tokens.begin(), config.special_tokens.end(), names_it) ||
                    std::count(config.extra_special_tokens.begin(),
                               config.extra_special_tokens.end(), content) > 0;
    token.normalized = !token.special;
    config.added_tokens.push_back(std::move(token));
  }
  return ok_status();
}

Status read_templates(const json& value, const std::string& path, TokenizerConfig& config) {
  if (value.is_null()) return ok_status();
  config.chat_template_file = path;
  if (value.is_string()) {
    config.chat_templates = {{"default", value.get<std::string>()}};
    return ok_status();
  }
  if (value.is_object()) {
    for (const auto& [name, source] : value.items()) {
      if (!source.is_string()) {
        return corrupt_model(path + ": chat_template." + name + " must be text, is " + shown(source));
      }
      config.chat_templates.emplace_back(name, source.get<std::string>());
    }
    return ok_status();
  }
  if (!value.is_array()) {
    return corrupt_model(path + ": chat_template: expected text or a list of {name, template}");
  }
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string at = path + ": chat_template[" + std::to_string(i) + "]";
    if (!value[i].is_object()) return corrupt_model(at + " must be {name, template}, is " + shown(value[i]));
    Reader fields(value[i], at + ".");
    std::string name = fields.text("name"), source = fields.text("template");
    TR_TRY(fields.status());
    if (name.empty()) return corrupt_model(at + ".name is missing");
    config.chat_templates.emplace_back(std::move(name), std::move(source));
  }
  return ok_status();
}

// Template files win over tokenizer_config.json, as in transformers.
Status read_template_files(const std::string& folder, TokenizerConfig& config) {
  std::vector<std::pair<std::string, std::string>> found;
  const std::string single = folder + "/chat_template.jinja";
  if (file_exists(single)) {
    TR_ASSIGN(std::string source, read_file(single, limits::config_bytes));
    found.emplace_back("default", std::move(source));
    config.chat_template_file = single;
  }
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(folder + "/additional_chat_templates", error)) {
    if (entry.path().extension() != ".jinja") continue;
    TR_ASSIGN(std::string source, read_file(entry.path().string(), limits::config_bytes));
    found.emplace_back(entry.path().stem().string(), std::move(source));
    if (config.chat_template_file.empty()) config.chat_template_file = entry.path().string();
  }
  if (!found.empty()) {
    config.chat_templates = std::move(found);
    return ok_status();
  }
  const std::string processor = folder + "/chat_template.json";
  if (config.chat_templates.empty() && file_exists(processor)) {
    TR_ASSIGN(const json object, read_json_object(processor, limits::config_bytes));
    const auto source = object.find("chat_template");
    if (source != object.end()) return read_templates(*source, processor, config);
  }
  return ok_status();
}

Status read_model_config(const std::string& folder, TokenizerConfig& config) {
  config.name = std::filesystem::path(folder + "/").parent_path().filename().string();
  const std::string path = folder + "/config.json";
  if (!file_exists(path)) return ok_status();
  TR_ASSIGN(const json object, read_json_object(path, limits::config_bytes));
  Reader fields(object, path + ": ");
  config.model_type = fields.text("model_type");
  config.has_vision = object.contains("visual");
  const std::string name = fields.text("_name_or_path");
  if (!name.empty()) config.name += " " + name;
  if (config.tokenizer_class.empty()) config.tokenizer_class = fields.text("tokenizer_class");
  return fields.status();
}

Status read_main_config(const json& object, const std::string& path, TokenizerConfig& config) {
  Reader fields(object, path + ": ");
  config.tokenizer_class = fields.text("tokenizer_class");
  config.add_bos = fields.flag("add_bos_token");
  config.add_eos = fields.flag("add_eos_token");
  config.legacy = fields.flag("legacy");
  config.add_prefix_space = fields.flag("add_prefix_space");
  read_special_tokens(fields, object, config);
  const json* decoder = fields.look("added_tokens_decoder");
  if (decoder != nullptr && !decoder->is_object()) {
    fields.fail("added_tokens_decoder", "must be an object of token objects", *decoder);
  }
  TR_TRY(fields.status());
  if (decoder != nullptr) TR_TRY(read_added_decoder(*decoder, path, config));
  if (const auto templates = object.find("chat_template"); templates != object.end()) {
    TR_TRY(read_templates(*templates, path, config));
  }
  return ok_status();
}

}  // namespace

const std::string* TokenizerConfig::special(std::string_view key) const {
  for (const auto& [held_key, value] : special_tokens) {
    if (held_key == key) return &value;
  }
  return nullptr;
}

void TokenizerConfig::set_special(std::string_view key, std::string value) {
  for (auto& [held_key, held] : special_tokens) {
    if (held_key == key) {
      held = std::move(value);
      return;
    }
  }
  special_tokens.emplace_back(key, std::move(value));
}

Result<TokenizerConfig> read_tokenizer_config(const std::string& folder) {
  TokenizerConfig config;
  const std::string main_path = folder + "/tokenizer_config.json";
  bool has_decoder = false;
  if (file_exists(main_path)) {
    TR_ASSIGN(const json object, read_json_object(main_path, limits::config_bytes));
    has_decoder = object.contains("added_tokens_decoder");
    TR_TRY(read_main_config(object, main_path, config));
  }
  TR_TRY(read_model_config(folder, config));
  if (!has_decoder) {
    const std::string map_path = folder + "/special_tokens_map.json";
    if (file_exists(map_path)) {
      TR_ASSIGN(const json map, read_json_object(map_path, limits::config_bytes));
      Reader fields(map, map_path + ": ");
      read_special_tokens(fields, map, config);
      TR_TRY(fields.status());
    }
    const std::string added_path = folder + "/added_tokens.json";
    if (file_exists(added_path)) TR_TRY(read_added_tokens_file(added_path, config));
  }
  if (ends_with(config.tokenizer_class, "Fast")) {
    config.tokenizer_class.resize(config.tokenizer_class.size() - 4);
  }
  std::sort(config.added_tokens.begin(), config.added_tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  TR_TRY(read_template_files(folder, config));
  return config;
}

}  // namespace troupe::text
