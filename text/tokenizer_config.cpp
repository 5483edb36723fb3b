#include "text/tokenizer_config.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/limits.hpp"
#include "text/files.hpp"

namespace troupe::text {
namespace {

using nlohmann::json;

constexpr int64_t kIdsMax = int64_t{1} << 22;  // no vocabulary comes near; a table per id is built

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::string string_or_empty(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<bool> flag(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_boolean()) return std::nullopt;
  return found->get<bool>();
}

// A token is a string or an AddedToken object; anything else is no token.
std::optional<AddedToken> token_of(const json& value) {
  AddedToken token;
  if (value.is_string()) {
    token.content = value.get<std::string>();
    token.special = true;
    return token;
  }
  if (!value.is_object()) return std::nullopt;
  token.content = string_or_empty(value, "content");
  if (token.content.empty()) return std::nullopt;
  token.lstrip = flag(value, "lstrip").value_or(false);
  token.rstrip = flag(value, "rstrip").value_or(false);
  token.single_word = flag(value, "single_word").value_or(false);
  token.special = flag(value, "special").value_or(false);
  token.normalized = flag(value, "normalized").value_or(!token.special);
  return token;
}

void read_extra_tokens(const json& list, TokenizerConfig& config) {
  if (list.is_array()) {
    for (const json& item : list) {
      if (const auto token = token_of(item)) config.extra_special_tokens.push_back(token->content);
    }
  } else if (list.is_object()) {
    for (const auto& [key, value] : list.items()) {
      if (const auto token = token_of(value)) config.set_special(key, token->content);
    }
  }
}

void read_special_tokens(const json& object, TokenizerConfig& config) {
  for (const auto& [key, value] : object.items()) {
    if (key == "additional_special_tokens" || key == "extra_special_tokens") {
      read_extra_tokens(value, config);
    } else if (ends_with(key, "_token")) {
      if (const auto token = token_of(value)) config.set_special(key, token->content);
    }
  }
}

Status read_added_decoder(const json& decoder, const std::string& path, TokenizerConfig& config) {
  for (const auto& [key, value] : decoder.items()) {
    auto token = token_of(value);
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
      if (source.is_string()) config.chat_templates.emplace_back(name, source.get<std::string>());
    }
    return ok_status();
  }
  if (!value.is_array()) {
    return corrupt_model(path + ": chat_template: expected text or a list of {name, template}");
  }
  for (const json& item : value) {
    if (!item.is_object() || string_or_empty(item, "name").empty()) {
      return corrupt_model(path + ": chat_template: expected a list of {name, template}");
    }
    config.chat_templates.emplace_back(string_or_empty(item, "name"), string_or_empty(item, "template"));
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
  config.model_type = string_or_empty(object, "model_type");
  config.has_vision = object.contains("visual");
  const std::string name = string_or_empty(object, "_name_or_path");
  if (!name.empty()) config.name += " " + name;
  if (config.tokenizer_class.empty()) config.tokenizer_class = string_or_empty(object, "tokenizer_class");
  return ok_status();
}

Status read_main_config(const json& object, const std::string& path, TokenizerConfig& config) {
  config.tokenizer_class = string_or_empty(object, "tokenizer_class");
  config.add_bos = flag(object, "add_bos_token");
  config.add_eos = flag(object, "add_eos_token");
  config.legacy = flag(object, "legacy");
  config.add_prefix_space = flag(object, "add_prefix_space");
  read_special_tokens(object, config);
  if (const auto decoder = object.find("added_tokens_decoder");
      decoder != object.end() && decoder->is_object()) {
    TR_TRY(read_added_decoder(*decoder, path, config));
  }
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
      read_special_tokens(map, config);
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
