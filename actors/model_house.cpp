#include "actors/model_house.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "actors/chat_pictures.hpp"
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

std::vector<size_t> all_images(const Request& request) {
  std::vector<size_t> all(request.images.size());
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

class ModelHouse final : public TextHouse {
 public:
  ModelHouse(std::unique_ptr<text::Tokenizer> tokenizer, std::unique_ptr<text::ChatTemplate> chat,
             Status no_chat, std::string placeholder)
      : tokenizer_(std::move(tokenizer)),
        chat_(std::move(chat)),
        no_chat_(std::move(no_chat)),
        placeholder_(std::move(placeholder)),
        shape_(chat_ ? content_shape(chat_->source()) : ContentShape::text) {}

  Result<std::vector<int32_t>> encode(std::string_view text, bool add_special,
                                      bool parse_special) const override {
    return tokenizer_->encode(text, add_special, parse_special);
  }
  Result<std::string> decode(std::span<const int32_t> ids, bool skip_special) const override {
    return tokenizer_->decode(ids, skip_special);
  }
  std::string template_origin() const override { return chat_ ? chat_->origin() : ""; }
  std::unique_ptr<engine::TextStream> stream(bool skip_special) const override {
    return make<ModelStream>(*tokenizer_, skip_special);
  }

  Result<std::string> render(const Request& request) const override {
    std::vector<size_t> images;
    if (is_chat(request)) return chat_text(request, images);
    std::string text;
    for (const PromptPart& part : request.prompt) {
      if (part.kind == PromptPart::Kind::text) {
        text += part.text;
      } else if (part.kind == PromptPart::Kind::image) {
        text += placeholder_;
      } else {
        TR_ASSIGN(const std::string piece, tokenizer_->decode(part.tokens, false));
        text += piece;
      }
    }
    return text;
  }

  Result<HousePrompt> prompt(const Request& request, const PictureText& pictures,
                             size_t tokens_most) const override {
    HousePrompt out;
    if (!is_chat(request)) {
      TR_ASSIGN(out, raw_prompt(request, pictures, tokens_most));
      return out;
    }
    TR_ASSIGN(std::string text, chat_text(request, out.images));
    if (out.images.empty()) out.images = all_images(request);
    TR_TRY(expand(text, pictures, out.images));
    TR_ASSIGN(out.ids, encode_within(tokens_most, text, false));
    return out;
  }

 private:
  [[nodiscard]] static bool is_chat(const Request& request) {
    return !request.messages.empty() || !request.messages_json.empty();
  }

  Result<std::vector<int32_t>> encode_within(size_t tokens_most, std::string_view text,
                                             bool add_special) const {
    if (tokenizer_->far_longer_than(tokens_most, text)) {
      return limit_exceeded("prompt: " + std::to_string(text.size()) + " bytes of text, far more than the " +
                            std::to_string(tokens_most) + " tokens that the context holds; shorten it");
    }
    return tokenizer_->encode(text, add_special, true);
  }

  Result<std::string> chat_text(const Request& request, std::vector<size_t>& images) const {
    if (!chat_) return no_chat_;
    TR_ASSIGN(const std::string messages, chat_messages(request, shape_, placeholder_, images));
    text::ChatRequest chat;
    chat.messages_json = messages;
    chat.tools_json = request.tools_json;
    chat.documents_json = request.documents_json;
    chat.kwargs_json = request.template_kwargs_json;
    chat.add_generation_prompt = request.add_generation_prompt;
    return chat_->render(chat);
  }

  // Image parts stand where they were given, unless the text itself says where pictures go, or the
  // ids have their tokens already.
  Result<HousePrompt> raw_prompt(const Request& request, const PictureText& pictures,
                                 size_t tokens_most) const {
    HousePrompt out;
    std::vector<size_t> in_parts;
    size_t in_text = 0;
    bool in_ids = false;
    for (const PromptPart& part : request.prompt) {
      if (part.kind == PromptPart::Kind::image) in_parts.push_back(part.image);
      in_text += count_places(part.text, pictures.placeholder);
      in_ids |= std::find(part.tokens.begin(), part.tokens.end(), pictures.image_token) != part.tokens.end();
    }
    const bool parts_place = in_text == 0 && !in_ids;
    out.images = in_parts.empty() ? all_images(request) : in_parts;
    std::string text;
    bool first = true;
    size_t next = 0;
    // Texts that stand side by side are one text: tokens may reach from one into the next.
    const auto take_text = [&]() -> Status {
      const size_t here = count_places(text, pictures.placeholder);
      const std::span<const size_t> rest = std::span(out.images).subspan(std::min(next, out.images.size()));
      if (!in_ids) TR_TRY(expand(text, pictures, rest.first(std::min(here, rest.size()))));
      next += here;
      TR_ASSIGN(const std::vector<int32_t> piece,
                encode_within(tokens_most, text, first && request.add_special_tokens));
      out.ids.insert(out.ids.end(), piece.begin(), piece.end());
      text.clear();
      first = false;
      return {};
    };
    for (const PromptPart& part : request.prompt) {
      if (part.kind == PromptPart::Kind::text) {
        text += part.text;
        continue;
      }
      if (part.kind == PromptPart::Kind::image) {
        if (parts_place) text += pictures.placeholder;
        continue;
      }
      if (!text.empty()) TR_TRY(take_text());
      out.ids.insert(out.ids.end(), part.tokens.begin(), part.tokens.end());
      first = false;
    }
    if (!text.empty() || first) TR_TRY(take_text());
    if (!in_ids && next != out.images.size()) return places_disagree(next, out.images.size(), pictures);
    return out;
  }

  const std::unique_ptr<text::Tokenizer> tokenizer_;
  const std::unique_ptr<text::ChatTemplate> chat_;
  const Status no_chat_;
  const std::string placeholder_;
  const ContentShape shape_;
};

}  // namespace

Result<std::shared_ptr<const TextHouse>> open_model_house(const std::string& folder,
                                                          const std::string& chat_template,
                                                          const std::string& placeholder) {
  TR_ASSIGN(auto tokenizer, text::Tokenizer::load(folder));
  auto chat = text::ChatTemplate::load(folder, *tokenizer, chat_template);
  // Only "there is none" may be lived with: a template that was named or is broken is an error.
  if (!chat.ok() && (chat.status().code() != Code::unsupported || !chat_template.empty())) {
    return chat.status();
  }
  Status no_chat = chat.status();
  return std::shared_ptr<const TextHouse>(std::make_shared<ModelHouse>(
      std::move(tokenizer), chat.ok() ? std::move(chat).value() : nullptr, std::move(no_chat), placeholder));
}

}  // namespace troupe::actors
