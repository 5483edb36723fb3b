#include "text/chat_template.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/limits.hpp"
#include "text/builtin_templates.hpp"
#include "text/ffi.hpp"
#include "text/files.hpp"
#include "text/tokenizer.hpp"
#include "text/tokenizer_config.hpp"

namespace troupe::text {
namespace {

struct FreeTemplate {
  void operator()(tt_template* handle) const { tt_template_free(handle); }
};

std::string join(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

struct Source {
  std::vector<std::pair<std::string, std::string>> templates;  // name -> source
  std::string origin;
};

Source builtin_source(const BuiltinTemplate& builtin) {
  const std::string name(builtin.name);
  return {{{"default", std::string(builtin.source)}},
          "built-in " + name + " (text/templates/" + name + ".jinja)"};
}

Result<Source> named_source(const TokenizerConfig& config, const std::string& wanted) {
  for (const auto& [name, source] : config.chat_templates) {
    if (name == wanted) {
      return Source{{{"default", source}}, config.chat_template_file + " (\"" + name + "\")"};
    }
  }
  if (const BuiltinTemplate* builtin = find_builtin_template(wanted)) return builtin_source(*builtin);
  if (file_exists(wanted)) {
    TR_ASSIGN(std::string source, read_file(wanted, limits::config_bytes));
    return Source{{{"default", std::move(source)}}, wanted};
  }
  return Status(Code::not_found, "chat template \"" + wanted +
                                     "\": no such file, and no template of that name; built-in ones: " +
                                     join(builtin_chat_templates()));
}

Result<Source> folder_source(const std::string& folder, const TokenizerConfig& config,
                             const Tokenizer& tokenizer) {
  if (!config.chat_templates.empty()) return Source{config.chat_templates, config.chat_template_file};
  if (const BuiltinTemplate* builtin = template_of_family(config, tokenizer)) {
    return builtin_source(*builtin);
  }
  return unsupported(folder +
                     ": this model has no chat template, so it is taken for a base model and does not "
                     "chat. If it is a chat model, name its template (--chat-template NAME|FILE; "
                     "built-in ones: " + join(builtin_chat_templates()) +
                     "); otherwise send a plain prompt");
}

}  // namespace

struct ChatTemplate::Named {
  std::string name;
  std::unique_ptr<tt_template, FreeTemplate> handle;
};

ChatTemplate::ChatTemplate() = default;
ChatTemplate::~ChatTemplate() = default;

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::load(const std::string& folder,
                                                         const Tokenizer& tokenizer,
                                                         std::string_view name_or_file) {
  TR_ASSIGN(const TokenizerConfig config, read_tokenizer_config(folder));
  TR_ASSIGN(Source source, name_or_file.empty() ? folder_source(folder, config, tokenizer)
                                                : named_source(config, std::string(name_or_file)));
  std::unique_ptr<ChatTemplate> chat(new ChatTemplate);
  chat->origin_ = std::move(source.origin);
  for (const auto& [name, text] : source.templates) {
    tt_template* handle = nullptr;
    ffi::Bytes error;
    const int32_t rc = tt_template_new(ffi::slice(text), &handle, error.out());
    if (rc != TT_OK) return ffi::failure(rc, error, chat->origin_);
    chat->templates_.push_back({name, std::unique_ptr<tt_template, FreeTemplate>(handle)});
    if (name == "default" || source.templates.size() == 1) chat->source_ = text;
  }
  if (chat->source_.empty() && chat->templates_.empty()) {
    return corrupt_model(chat->origin_ + ": no chat template in it");
  }
  nlohmann::ordered_json special = nlohmann::ordered_json::object();
  for (const auto& [name, token] : tokenizer.named_tokens()) special[name] = token;
  chat->special_tokens_json_ =
      special.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  return chat;
}

Result<std::string> ChatTemplate::render(const ChatRequest& request) const {
  const auto find = [this](std::string_view name) {
    const auto found = std::find_if(templates_.begin(), templates_.end(),
                                    [&](const Named& entry) { return entry.name == name; });
    return found == templates_.end() ? nullptr : &*found;
  };
  const bool tools = !request.tools_json.empty() && request.tools_json != "null";
  const Named* chosen = tools ? find("tool_use") : nullptr;
  if (chosen == nullptr) chosen = find("default");
  if (chosen == nullptr && templates_.size() == 1) chosen = &templates_.front();
  if (chosen == nullptr) {
    std::vector<std::string> names;
    for (const Named& entry : templates_) names.push_back(entry.name);
    return invalid(origin_ + ": several chat templates and none called \"default\"; choose one with "
                             "--chat-template: " + join(names));
  }
  tt_render call{};
  call.messages = ffi::slice(request.messages_json);
  call.tools = ffi::slice(request.tools_json);
  call.documents = ffi::slice(request.documents_json);
  call.kwargs = ffi::slice(request.kwargs_json);
  call.special_tokens = ffi::slice(special_tokens_json_);
  call.continue_field = ffi::slice(request.continue_field);
  call.add_generation_prompt = request.add_generation_prompt ? 1 : 0;
  call.has_now = request.now_s.has_value() ? 1 : 0;
  call.now_s = request.now_s.value_or(0);
  ffi::Bytes text, error;
  const int32_t rc = tt_template_render(chosen->handle.get(), &call, text.out(), error.out());
  if (rc != TT_OK) return ffi::failure(rc, error, rc == TT_LIMIT ? origin_ : "");
  return std::string(text.view());
}

std::vector<std::string> builtin_chat_templates() {
  std::vector<std::string> names;
  for (const BuiltinTemplate& builtin : builtin_templates()) names.emplace_back(builtin.name);
  return names;
}

}  // namespace troupe::text
