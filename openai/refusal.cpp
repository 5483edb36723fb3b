#include "openai/refusal.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace troupe::openai {
namespace {

// What the engine calls it, the request's field, and how a message names it.
struct Name {
  std::string_view engine, field, shown;
};
constexpr std::string_view kStruct = "troupe_sampling.";
// Of troupe_sampling, those that are not called as the request's field is.
constexpr std::array<Name, 8> kOtherNames = {{
    {"n_stop", "stop", "the length of 'stop'"},
    {"n_bad_words", "bad_words", "the length of 'bad_words'"},
    {"stop_tokens", "stop_token_ids", "a token id of 'stop_token_ids'"},
    {"n_stop_tokens", "stop_token_ids", "the length of 'stop_token_ids'"},
    {"bias_tokens", "logit_bias", "a token id of 'logit_bias'"},
    {"bias_values", "logit_bias", "'logit_bias'"},
    {"n_bias", "logit_bias", "the length of 'logit_bias'"},
    {"include_stop", "include_stop_str_in_output", "'include_stop_str_in_output'"},
}};
// Fields that the engine's own messages begin with.
constexpr std::array<std::string_view, 18> kFields = {"stop",
                                                      "stop_token_ids",
                                                      "bad_words",
                                                      "logit_bias",
                                                      "temperature",
                                                      "top_p",
                                                      "top_k",
                                                      "min_p",
                                                      "repetition_penalty",
                                                      "presence_penalty",
                                                      "frequency_penalty",
                                                      "max_tokens",
                                                      "min_tokens",
                                                      "n",
                                                      "logprobs",
                                                      "prompt_logprobs",
                                                      "tools",
                                                      "messages"};

constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz_";

std::string_view word_at(std::string_view text, size_t at) {
  return text.substr(at, std::min(text.find_first_not_of(kLetters, at), text.size()) - at);
}

// "troupe_sampling.stop[1] is empty" becomes "'stop[1]' is empty".
std::string name_in_request(std::string& message, size_t at) {
  const std::string word(word_at(message, at + kStruct.size()));
  size_t end = at + kStruct.size() + word.size();
  std::string index;
  if (end < message.size() && message[end] == '[') {
    const size_t close = std::min(message.find(']', end), message.size() - 1) + 1;
    index = message.substr(end, close - end);
    end = close;
  }
  const auto* const other = std::find_if(kOtherNames.begin(), kOtherNames.end(),
                                         [&](const Name& n) { return n.engine == word; });
  const bool own = other == kOtherNames.end();
  message.replace(at, end - at, own ? "'" + word + index + "'" : std::string(other->shown));
  // A field that is left out is the default.
  for (const std::string_view spare : {", or -1 for the default", ", or NaN for the default"}) {
    if (const size_t s = message.find(spare); s != std::string::npos)
      message.erase(s, spare.size());
  }
  return own ? word : std::string(other->field);
}

std::string field_of(std::string_view message, Endpoint endpoint) {
  constexpr std::string_view kArticle = "the ";
  const std::string_view word =
      word_at(message, message.starts_with(kArticle) ? kArticle.size() : 0);
  if (word == "prompt" || word == "images" || word == "tokens") {
    return endpoint == Endpoint::chat ? "messages" : "prompt";
  }
  const bool known = std::find(kFields.begin(), kFields.end(), word) != kFields.end();
  return known ? std::string(word) : std::string();
}

}  // namespace

ApiError refusal_of(const troupe_error* error, Endpoint endpoint) {
  ApiError out = from_code(troupe_error_code(error), troupe_error_message(error));
  const size_t at = out.message.find(kStruct);
  out.param =
      at != std::string::npos ? name_in_request(out.message, at) : field_of(out.message, endpoint);
  return out;
}

}  // namespace troupe::openai
