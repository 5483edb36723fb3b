// The tokenizer and the chat template of `echo:`.
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "base/json_value.hpp"
#include "engine/echo.hpp"

namespace troupe::engine {
namespace {

// How many bytes the character that begins with `lead` has; 0: none begins so.
size_t character_bytes(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

// May `byte` stand at place `at` of the character that begins with `lead`?
bool continues(uint8_t lead, size_t at, uint8_t byte) {
  if (byte < 0x80 || byte > 0xBF) return false;
  if (at != 1) return true;
  switch (lead) {
    case 0xE0: return byte >= 0xA0;
    case 0xED: return byte <= 0x9F;
    case 0xF0: return byte >= 0x90;
    case 0xF4: return byte <= 0x8F;
    default: return true;
  }
}

class EchoStream final : public TextStream {
 public:
  explicit EchoStream(bool skip_special) : skip_special_(skip_special) {}

  void push(int32_t token, std::string& text) override {
    if (token >= 0 && token < 0x80 && held_.empty()) return text.push_back(static_cast<char>(token));
    if (token < 0 || token > 255) {
      finish(text);
      if (token == EchoText::kEos && !skip_special_) text += EchoText::kEosText;
      return;
    }
    const auto byte = static_cast<uint8_t>(token);
    if (!held_.empty() && !continues(static_cast<uint8_t>(held_[0]), held_.size(), byte)) finish(text);
    if (held_.empty() && character_bytes(byte) == 0) {
      text += kReplacement;
      return;
    }
    held_ += static_cast<char>(byte);
    if (held_.size() < character_bytes(static_cast<uint8_t>(held_[0]))) return;
    text += held_;
    held_.clear();
  }
  // An incomplete character, however many bytes of it there are, is one U+FFFD.
  void finish(std::string& text) override {
    if (!held_.empty()) text += kReplacement;
    held_.clear();
  }

 private:
  static constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  bool skip_special_;
  std::string held_;
};

struct Message {
  std::string role;
  std::vector<PromptPart> parts;
};

PromptPart text_part(std::string text) {
  PromptPart part;
  part.text = std::move(text);
  return part;
}

Result<PromptPart> json_part(const nlohmann::json& json, size_t& next_image) {
  const std::string type = json.value("type", "");
  if (type == "text") return text_part(json.value("text", ""));
  if (type != "image" && type != "image_url") {
    return invalid("messages: a part has the type \"" + type + "\"; text and image are known");
  }
  PromptPart part;
  part.kind = PromptPart::Kind::image;
  part.image = json.value("index", next_image);
  next_image = part.image + 1;
  return part;
}

Result<Message> json_message(const nlohmann::json& json, size_t& next_image) {
  Message message;
  message.role = json.value("role", "user");
  if (!json.contains("content") || json["content"].is_null()) return message;
  const nlohmann::json& content = json["content"];
  if (content.is_string()) {
    message.parts.push_back(text_part(content.get<std::string>()));
    return message;
  }
  if (!content.is_array()) return invalid("messages: content must be a string or a list of parts");
  for (const nlohmann::json& part : content) {
    if (!part.is_object()) return invalid("messages: a part of content must be an object");
    TR_ASSIGN(PromptPart p, json_part(part, next_image));
    message.parts.push_back(std::move(p));
  }
  return message;
}

Result<std::vector<Message>> messages_of(const Request& request) {
  std::vector<Message> out;
  if (request.messages_json.empty()) {
    constexpr const char* kRoles[] = {"system", "user", "assistant", "tool"};
    for (const PromptMessage& m : request.messages) {
      out.push_back({kRoles[static_cast<size_t>(m.role) & 3], m.parts});
    }
    return out;
  }
  try {
    const auto parsed = parse_json(request.messages_json, kMessageDepth);
    if (!parsed.ok()) return invalid("messages: " + parsed.status().message());
    const nlohmann::json& json = *parsed;
    if (!json.is_array()) return invalid("messages: must be a JSON array");
    size_t next_image = 0;
    for (const nlohmann::json& m : json) {
      if (!m.is_object()) return invalid("messages: each must be a JSON object");
      TR_ASSIGN(Message message, json_message(m, next_image));
      out.push_back(std::move(message));
    }
  } catch (const nlohmann::json::exception& e) {
    return invalid(std::string("messages: ") + e.what());
  }
  return out;
}

Status append_part(const Request& request, const PromptPart& part, std::vector<int32_t>& ids) {
  std::string text = part.text;
  if (part.kind == PromptPart::Kind::tokens) {
    ids.insert(ids.end(), part.tokens.begin(), part.tokens.end());
    return ok_status();
  }
  if (part.kind == PromptPart::Kind::image) {
    if (part.image >= request.images.size()) {
      return invalid("prompt: image " + std::to_string(part.image) + " of " +
                     std::to_string(request.images.size()));
    }
    TR_ASSIGN(text, echo_image_text(request.images[part.image]));
  }
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
  return ok_status();
}

}  // namespace

std::vector<int32_t> EchoText::encode(std::string_view text, bool /*add_special*/,
                                      bool parse_special) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size());
  while (!text.empty()) {
    if (parse_special && text.starts_with(kEosText)) {
      ids.push_back(kEos);
      text.remove_prefix(kEosText.size());
      continue;
    }
    ids.push_back(static_cast<uint8_t>(text.front()));
    text.remove_prefix(1);
  }
  return ids;
}

std::string EchoText::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  EchoStream stream(skip_special);
  for (const int32_t id : ids) stream.push(id, text);
  stream.finish(text);
  return text;
}

Result<std::vector<int32_t>> EchoText::prompt(const Request& request) const {
  std::vector<int32_t> ids;
  if (request.messages.empty() && request.messages_json.empty()) {
    for (const PromptPart& part : request.prompt) TR_TRY(append_part(request, part, ids));
    return ids;
  }
  TR_ASSIGN(const std::vector<Message> messages, messages_of(request));
  if (messages.empty()) return invalid("messages: there are none");
  for (const Message& message : messages) {
    const bool last = &message == &messages.back();
    if (!last) TR_TRY(append_part(request, text_part(message.role + ": "), ids));
    for (const PromptPart& part : message.parts) TR_TRY(append_part(request, part, ids));
    if (!last) ids.push_back(kEos);
  }
  return ids;
}

Result<std::string> EchoText::render(const Request& request) const {
  TR_ASSIGN(const std::vector<int32_t> ids, prompt(request));
  return decode(ids, false);
}

std::unique_ptr<TextStream> EchoText::stream(bool skip_special) const {
  return make<EchoStream>(skip_special);
}

}  // namespace troupe::engine
