// A model's chat template: messages to the text the model was trained on, byte for byte what
// transformers' apply_chat_template gives.
//
// Where it comes from, in this order: what the user names (a template of the folder, a built-in one,
// or a file), chat_template.jinja, tokenizer_config.json, chat_template.json, and for chat models of
// families that shipped without one, Troupe's own (text/templates/). A base model has none, and then
// chat is refused rather than guessed. Immutable: any number of threads may render.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.hpp"

namespace troupe::text {

class Tokenizer;

struct ChatRequest {
  std::string_view messages_json{};   // array of {"role", "content", ...}
  std::string_view tools_json{};      // array of JSON schemas; empty: none
  std::string_view documents_json{};  // array of {"title", "text"}; empty: none
  std::string_view kwargs_json{};     // object of further template variables; empty: none
  bool add_generation_prompt = true;
  // Go on with the last message instead of beginning one: the field of it that is continued, usually
  // "content"; empty: no. Excludes add_generation_prompt.
  std::string_view continue_field{};
  std::optional<int64_t> now_s{};  // the clock that strftime_now reads; unset: the real one
};

class ChatTemplate {
 public:
  // `name_or_file`: empty for the folder's own. unsupported when the folder has no template and its
  // family none either; not_found when the name or file does not exist.
  [[nodiscard]] static Result<std::unique_ptr<ChatTemplate>> load(const std::string& folder,
                                                                  const Tokenizer& tokenizer,
                                                                  std::string_view name_or_file = {});
  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // invalid when the input is not what the template or this call expects; a template's own
  // raise_exception comes back with its message. limit, with the template's name, when the template
  // goes beyond what one rendering may take of memory and time (text/rust/src/bounds.rs).
  [[nodiscard]] Result<std::string> render(const ChatRequest& request) const;

  // For people: a path, or "built-in llama2 (text/templates/llama2.jinja)".
  [[nodiscard]] const std::string& origin() const { return origin_; }
  // The source that renders when no tools are given.
  [[nodiscard]] const std::string& source() const { return source_; }

 private:
  struct Named;
  ChatTemplate();

  std::vector<Named> templates_;
  std::string special_tokens_json_;
  std::string origin_, source_;
};

// The names of Troupe's own templates, sorted.
[[nodiscard]] std::vector<std::string> builtin_chat_templates();

}  // namespace troupe::text
