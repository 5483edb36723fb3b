// All that an engine does with text, behind one face: a model's tokenizer and chat template, or the
// bytes of `echo:`. Const and thread-safe: callers' threads and the pool share it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/request.hpp"
#include "base/status.hpp"
#include "engine/token_text.hpp"

namespace troupe::actors {

// How a model's pictures stand in text. Empty for text models.
struct PictureText {
  std::string placeholder;            // in what the template renders, and in raw prompts
  int32_t image_token = -1;
  std::vector<std::string> expanded;  // by image of the request: what takes the placeholder's place …
  std::vector<int32_t> tokens;        // … and how many image tokens are in it
};
struct HousePrompt {
  std::vector<int32_t> ids;
  std::vector<size_t> images;  // which image of the request stands where, in order of the prompt
};

class TextHouse : public engine::TextSource {
 public:
  [[nodiscard]] virtual Result<std::vector<int32_t>> encode(std::string_view text, bool add_special,
                                                            bool parse_special) const = 0;
  [[nodiscard]] virtual Result<std::string> decode(std::span<const int32_t> ids,
                                                   bool skip_special) const = 0;
  // The chat template applied; a raw prompt as it is.
  [[nodiscard]] virtual Result<std::string> render(const Request& request) const = 0;
  // The whole prompt as ids, pictures in their places. Places and pictures that do not agree in
  // number are an error that says both. Text that is sure to have more than `tokens_most` tokens may be
  // refused before it is read whole; whether the prompt fits is for the caller to see.
  [[nodiscard]] virtual Result<HousePrompt> prompt(const Request& request, const PictureText& pictures,
                                                   size_t tokens_most) const = 0;
  // Where the chat template comes from; empty: there is none, chat is refused.
  [[nodiscard]] virtual std::string template_origin() const = 0;
};

}  // namespace troupe::actors
