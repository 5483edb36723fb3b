// What tokenizer_config.json, special_tokens_map.json, added_tokens.json and the tokenizer's corner of
// config.json say, read as transformers reads them (which file wins, which keys are tokens).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.hpp"

namespace troupe::text {

struct AddedToken {
  std::string content;
  int32_t id = -1;  // -1: the next free one
  bool lstrip = false, rstrip = false, single_word = false, normalized = false, special = false;
};

struct TokenizerConfig {
  std::string tokenizer_class;  // without "Fast"; empty when not said
  std::string model_type;       // of config.json
  std::string name;             // the folder's name and config.json's _name_or_path, for people
  bool has_vision = false;      // config.json has a "visual" part (Qwen-VL)
  // "bos_token" -> "<s>" and so on, in the order of the file; every *_token key counts.
  std::vector<std::pair<std::string, std::string>> special_tokens;
  std::vector<std::string> extra_special_tokens;
  std::vector<AddedToken> added_tokens;  // by id, where an id is given
  std::optional<bool> add_bos, add_eos, legacy, add_prefix_space;
  // Name -> source; a single template is called "default".
  std::vector<std::pair<std::string, std::string>> chat_templates;
  std::string chat_template_file;  // where they were read, for people

  [[nodiscard]] const std::string* special(std::string_view key) const;
  void set_special(std::string_view key, std::string value);
};

// A folder without any of these files gives an empty answer, not an error.
[[nodiscard]] Result<TokenizerConfig> read_tokenizer_config(const std::string& folder);

}  // namespace troupe::text
