// Troupe's own chat templates (text/templates/*.jinja, compiled in) and the rule that says which
// family's folder gets which.
#pragma once

#include <span>
#include <string_view>

namespace troupe::text {

class Tokenizer;
struct TokenizerConfig;

struct BuiltinTemplate {
  std::string_view name;
  std::string_view source;
};
[[nodiscard]] std::span<const BuiltinTemplate> builtin_templates();  // sorted by name
[[nodiscard]] const BuiltinTemplate* find_builtin_template(std::string_view name);

// The template of a chat model whose folder has none; null when it is a base model, or not known.
[[nodiscard]] const BuiltinTemplate* template_of_family(const TokenizerConfig& config,
                                                        const Tokenizer& tokenizer);

}  // namespace troupe::text
