#include "actors/model_house.hpp"

#include <nlohmann/json.hpp>
#include <utility>

#include "text/chat_template.hpp"
#include "text/detokenizer.hpp"
#include "text/tokenizer.hpp"

namespace troupe::actors {
namespace {

class ModelStream final : public engine::TextStream {
 public:
  ModelStream(const text::Tokenizer& tokenizer, bool skip_special)
      : detokenizer_(tokenizer, {.skip_special_tokens = skip_special, .continues_text = true}) {}
  void push(int32_t token, std::string& text) override { detokenizer_.push(token, text); }
  void finish(std::string& text) override { detokenizer_.finish(text); }

 private:
  text::Detokenizer detokenizer_;
};

const char* role_name(Role role) {
  switch (role) {
    case Role::system: return "system";
    case Role::user: return "user";
    case Role::assistant: return "assistant";
    case Role::tool: return "tool";
  }
  return "user";
}

Result<std::string> messages_json(const Request& request) {
  if (!request.messages_json.empty()) return request.messages_json;
  nlohmann::json messages = nlohmann::json::array();
  for (const PromptMessage& message : request.messages) {
    std::string content;
    for (const PromptPart& part : message.parts) {
      if (part.kind == PromptPart::Kind::text) {
        content += part.text;
      } else {
        return unsupported("messages: a message of this model holds text only; give token ids as a "
                           "raw prompt");
      }
    }
    messages.push_back({{"role", role_name(message.role)}, {"content", std::move(content)}});
  }
  try {
    return messages.dump();
  } catch (const nlohmann::json::exception&) {
    return invalid("messages: the text is not valid UTF-8");
  }
}

class ModelHouse final : public TextHouse {
 public:
  ModelHouse(std::unique_ptr<text::Tokenizer> tokenizer, std::unique_ptr<text::ChatTemplate> chat,
             Status no_chat)
      : tokenizer_(std::move(tokenizer)), chat_(std::move(chat)), no_chat_(std::move(no_chat)) {}

  Result<std::vector<int32_t>> encode(std::string_view text, bool add_special,
                                      bool parse_special) const override {
    return tokenizer_->encode(text, add_special, parse_special);
  }
  Result<std::string> decode(std::span<const int32_t> ids, bool skip_special) const override {
    return tokenizer_->decode(ids, skip_special);
  }
  std::string template_origin() const override { return chat_ ? chat_->origin() : ""; }
  std::unique_ptr<engine::TextStream> stream(bool skip_special) const override {
    return std::make_unique<ModelStream>(*tokenizer_, skip_special);
  }

  Result<std::string> render(const Request& request) const override {
    if (request.messages.empty() && request.messages_json.empty()) {
      std::string text;
      for (const PromptPart& part : request.prompt) {
        if (part.kind == PromptPart::Kind::text) {
          text += part.text;
        } else {
          TR_ASSIGN(const std::string piece, tokenizer_->decode(part.tokens, false));
          text += piece;
        }
      }
      return text;
    }
    if (!chat_) return no_chat_;
    TR_ASSIGN(const std::string messages, messages_json(request));
    text::ChatRequest chat;
    chat.messages_json = messages;
    chat.tools_json = request.tools_json;
    chat.documents_json = request.documents_json;
    chat.kwargs_json = request.template_kwargs_json;
    chat.add_generation_prompt = request.add_generation_prompt;
    return chat_->render(chat);
  }

  Result<std::vector<int32_t>> prompt(const Request& request) const override {
    if (!request.messages.empty() || !request.messages_json.empty()) {
      TR_ASSIGN(const std::string text, render(request));
      return tokenizer_->encode(text, false, true);
    }
    std::vector<int32_t> ids;
    std::string text;
    bool first = true;
    // Texts that stand side by side are one text: tokens may reach from one into the next.
    const auto take_text = [&]() -> Status {
      TR_ASSIGN(const std::vector<int32_t> piece,
                tokenizer_->encode(text, first && request.add_special_tokens, true));
      ids.insert(ids.end(), piece.begin(), piece.end());
      text.clear();
      first = false;
      return {};
    };
    for (const PromptPart& part : request.prompt) {
      if (part.kind == PromptPart::Kind::text) {
        text += part.text;
        continue;
      }
      if (!text.empty()) TR_TRY(take_text());
      ids.insert(ids.end(), part.tokens.begin(), part.tokens.end());
      first = false;
    }
    if (!text.empty() || first) TR_TRY(take_text());
    return ids;
  }

 private:
  const std::unique_ptr<text::Tokenizer> tokenizer_;
  const std::unique_ptr<text::ChatTemplate> chat_;
  const Status no_chat_;
};

}  // namespace

Result<std::shared_ptr<const TextHouse>> open_model_house(const std::string& folder,
                                                          const std::string& chat_template) {
  TR_ASSIGN(auto tokenizer, text::Tokenizer::load(folder));
  auto chat = text::ChatTemplate::load(folder, *tokenizer, chat_template);
  // Only "there is none" may be lived with: a template that was named or is broken is an error.
  if (!chat.ok() && (chat.status().code() != Code::unsupported || !chat_template.empty())) {
    return chat.status();
  }
  Status no_chat = chat.status();
  return std::shared_ptr<const TextHouse>(std::make_shared<ModelHouse>(
      std::move(tokenizer), chat.ok() ? std::move(chat).value() : nullptr, std::move(no_chat)));
}

}  // namespace troupe::actors
