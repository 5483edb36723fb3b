#include "text/builtin_templates.hpp"

#include <algorithm>
#include <cctype>
#include <string>

#include "text/tokenizer.hpp"
#include "text/tokenizer_config.hpp"

namespace troupe::text {
namespace {

// A family is recognised by model_type, by what its chat models are called, and by a token that its
// format needs; an empty field asks for nothing. The first row that fits decides. Model types whose
// base models carry the same tokens need the name to tell the two apart.
struct Family {
  std::string_view model_type;
  std::string_view name_part;
  std::string_view token;
  std::string_view chat_template;
  std::string_view name_part_too = {};
};

constexpr Family kFamilies[] = {
    {"", "vicuna", "", "vicuna"},
    {"", "zephyr", "", "zephyr"},
    {"qwen", "chat", "<|im_start|>", "chatml"},
    {"qwen2", "instruct", "<|im_start|>", "qwen"},
    {"qwen2", "chat", "<|im_start|>", "qwen"},
    {"llama", "instruct", "<|start_header_id|>", "llama3"},
    {"llama", "llama-2", "", "llama2", "chat"},
    {"llama", "llama2", "", "llama2", "chat"},
    {"llama", "chat", "<|im_start|>", "chatml"},
    {"mistral", "instruct", "", "mistral"},
    {"mixtral", "instruct", "", "mixtral"},
    {"gemma", "-it", "<start_of_turn>", "gemma"},
    {"gemma2", "-it", "<start_of_turn>", "gemma"},
    {"deepseek", "chat", "", "deepseek"},
    {"deepseek_v2", "chat", "", "deepseek"},
    {"llava", "llava", "", "vicuna"},
};

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

}  // namespace

const BuiltinTemplate* find_builtin_template(std::string_view name) {
  for (const BuiltinTemplate& candidate : builtin_templates()) {
    if (candidate.name == name) return &candidate;
  }
  return nullptr;
}

const BuiltinTemplate* template_of_family(const TokenizerConfig& config, const Tokenizer& tokenizer) {
  const std::string name = lower(config.name);
  const auto called = [&](std::string_view part) { return name.find(part) != std::string::npos; };
  for (const Family& family : kFamilies) {
    if (!family.model_type.empty() && family.model_type != config.model_type) continue;
    if (!called(family.name_part) || !called(family.name_part_too)) continue;
    if (!family.token.empty() && tokenizer.id_of(family.token) < 0) continue;
    return find_builtin_template(family.chat_template);
  }
  return nullptr;
}

}  // namespace troupe::text
