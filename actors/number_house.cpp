#include "actors/number_house.hpp"

#include <charconv>
#include <string>

namespace troupe::actors {
namespace {

constexpr const char* kWhy =
    "this folder has no tokenizer, so prompts are token ids (as ids, or as text of numbers: \"17 4 92\")";

void append_number(int32_t id, std::string& text) {
  text += std::to_string(id);
  text += ' ';
}

class NumberStream final : public engine::TextStream {
 public:
  void push(int32_t token, std::string& text) override { append_number(token, text); }
  void finish(std::string&) override {}
};

class NumberHouse final : public TextHouse {
 public:
  explicit NumberHouse(int32_t vocab) : vocab_(vocab) {}

  Result<std::vector<int32_t>> encode(std::string_view text, bool /*add_special*/,
                                      bool /*parse_special*/) const override {
    std::vector<int32_t> ids;
    const char* const end = text.data() + text.size();
    for (const char* at = text.data(); at != end;) {
      if (*at == ' ' || *at == '\n' || *at == '\t') {
        ++at;
        continue;
      }
      int32_t id = 0;
      const auto [next, error] = std::from_chars(at, end, id);
      if (error != std::errc() || id < 0 || id >= vocab_) {
        return unsupported("prompt: at byte " + std::to_string(at - text.data()) +
                           " is no token id below " + std::to_string(vocab_) + ": " + kWhy);
      }
      ids.push_back(id);
      at = next;
    }
    return ids;
  }
  Result<std::string> decode(std::span<const int32_t> ids, bool /*skip_special*/) const override {
    std::string text;
    for (const int32_t id : ids) append_number(id, text);
    return text;
  }
  Result<std::string> render(const Request& request) const override {
    TR_TRY(check_raw(request));
    std::string text;
    for (const PromptPart& part : request.prompt) {
      text += part.text;
      for (const int32_t id : part.tokens) append_number(id, text);
    }
    return text;
  }
  Result<HousePrompt> prompt(const Request& request, const PictureText& pictures,
                             size_t /*tokens_most*/) const override {
    TR_TRY(check_raw(request));
    HousePrompt out;
    for (const PromptPart& part : request.prompt) {
      TR_ASSIGN(const std::vector<int32_t> piece, encode(part.text, false, true));
      out.ids.insert(out.ids.end(), piece.begin(), piece.end());
      out.ids.insert(out.ids.end(), part.tokens.begin(), part.tokens.end());
      if (part.kind != PromptPart::Kind::image || part.image >= pictures.tokens.size()) continue;
      out.ids.insert(out.ids.end(), static_cast<size_t>(pictures.tokens[part.image]),
                     pictures.image_token);
      out.images.push_back(part.image);
    }
    return out;
  }
  std::string template_origin() const override { return {}; }
  std::unique_ptr<engine::TextStream> stream(bool /*skip_special*/) const override {
    return make<NumberStream>();
  }

 private:
  static Status check_raw(const Request& request) {
    if (request.messages.empty() && request.messages_json.empty()) return {};
    return unsupported(std::string("messages: there is no chat template: ") + kWhy);
  }
  const int32_t vocab_;
};

}  // namespace

std::shared_ptr<const TextHouse> make_number_house(int32_t vocab) {
  return std::make_shared<NumberHouse>(vocab);
}

}  // namespace troupe::actors
