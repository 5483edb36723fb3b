#include "openai/call.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "openai/data_url.hpp"

namespace troupe::openai {
namespace {

using nlohmann::json;

bool is_token(const json& value) {
  return value.is_number_integer() && value.get<int64_t>() >= 0 &&
         value.get<int64_t>() <= std::numeric_limits<int32_t>::max();
}

std::optional<Prompt> one_prompt(const json& value) {
  Prompt prompt;
  if (value.is_string()) {
    prompt.text = value.get<std::string>();
    return prompt;
  }
  if (!value.is_array()) return std::nullopt;
  prompt.is_tokens = true;
  for (const json& element : value) {
    if (!is_token(element)) return std::nullopt;
    prompt.tokens.push_back(element.get<int32_t>());
  }
  return prompt;
}

// A string, a list of strings, a list of token ids, or a list of such lists.
void read_prompts(Fields& fields, std::vector<Prompt>& out) {
  const json* value = fields.take("prompt");
  if (value == nullptr) {
    fields.fail("prompt", "is missing");
    return;
  }
  const bool many = value->is_array() && !value->empty() && !(*value)[0].is_number();
  const json list = many ? *value : json::array({*value});
  for (const json& element : list) {
    auto prompt = one_prompt(element);
    if (!prompt) {
      fields.fail("prompt", "must be text, token ids, or a list of these");
      return;
    }
    out.push_back(std::move(*prompt));
  }
}

// Turns image_url parts into image parts by index, and collects their bytes.
void read_image_parts(Fields& fields, json& messages, std::vector<std::vector<unsigned char>>& images) {
  for (json& message : messages) {
    if (!message.is_object() || !message.contains("content")) continue;
    json& content = message["content"];
    if (!content.is_array()) continue;
    for (json& part : content) {
      if (!part.is_object() || part.value("type", json()) != "image_url") continue;
      const json url = part.value("image_url", json());
      const json& text = url.is_object() && url.contains("url") ? url["url"] : url;
      auto bytes = text.is_string() ? bytes_of_data_url(text.get_ref<const std::string&>())
                                    : std::nullopt;
      if (!bytes) {
        fields.fail("messages", "has an image_url that is no base64 data: URL; others are never fetched");
        return;
      }
      part = json{{"type", "image"}, {"index", images.size()}};
      images.push_back(std::move(*bytes));
    }
  }
}

void read_json(Fields& fields, const char* name, bool array, std::string& out) {
  const json* value = fields.take(name);
  if (value == nullptr) return;
  if (array ? !value->is_array() : !value->is_object()) {
    fields.fail(name, array ? "must be a list" : "must be an object");
    return;
  }
  out = value->dump();
}

void read_chat(Fields& fields, Call& call) {
  const json* messages = fields.take("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    fields.fail("messages", "must be a list with at least one message");
    return;
  }
  json rewritten = *messages;
  read_image_parts(fields, rewritten, call.images);
  call.messages = rewritten.dump();
  read_json(fields, "tools", true, call.tools);
  read_json(fields, "documents", true, call.documents);
  read_json(fields, "chat_template_kwargs", false, call.template_kwargs);
  fields.read("add_generation_prompt", call.add_generation_prompt);
  fields.read("max_completion_tokens", call.sampling.raw.max_tokens, 0,
              std::numeric_limits<int32_t>::max());
  if (const json* choice = fields.take("tool_choice"); choice != nullptr) {
    if (*choice == "none") {
      call.tools.clear();
    } else if (*choice != "auto") {
      fields.fail("tool_choice", "may be 'auto' or 'none'");
    }
  }
  bool logprobs = false;
  int32_t top = 0;
  fields.read("logprobs", logprobs);
  fields.read("top_logprobs", top, 0, 64);
  if (top > 0 && !logprobs) fields.fail("top_logprobs", "needs 'logprobs' to be true");
  if (logprobs) call.logprobs = top;
}

void read_completions(Fields& fields, Call& call) {
  read_prompts(fields, call.prompts);
  fields.read("echo", call.echo);
  fields.read("logprobs", call.logprobs, 0, 64);
  if (const json* suffix = fields.take("suffix"); suffix != nullptr && *suffix != "") {
    fields.fail("suffix", "is not supported");
  }
  int32_t best_of = 1;
  fields.read("best_of", best_of, 1, 128);
  if (best_of > 1 && best_of != call.sampling.raw.n) {
    fields.fail("best_of", "is supported only when equal to 'n'");
  }
  // OpenAI's default for this endpoint; chat answers run to their end.
  if (call.sampling.raw.max_tokens < 0) call.sampling.raw.max_tokens = 16;
}

void read_stream(Fields& fields, Call& call) {
  fields.read("stream", call.stream);
  const json* options = fields.take("stream_options");
  if (options == nullptr) return;
  if (!options->is_object()) {
    fields.fail("stream_options", "must be an object");
    return;
  }
  call.stream_usage = options->value("include_usage", json(false)) == true;
}

void read_format(Fields& fields) {
  const json* format = fields.take("response_format");
  if (format == nullptr) return;
  if (!format->is_object()) {
    fields.fail("response_format", "must be an object");
  } else if (format->value("type", json()) != "text") {
    fields.fail("response_format", "other than text is not supported yet");
  }
}

}  // namespace

Parsed<Call> parse_call(Endpoint endpoint, const json& body) {
  if (!body.is_object()) return bad_field("body", "the body must be a JSON object");
  Call call;
  call.endpoint = endpoint;
  Fields fields(body);
  fields.accept({"user", "metadata", "store", "service_tier", "parallel_tool_calls",
                 "prompt_cache_key", "safety_identifier"});
  fields.read("model", call.model);
  read_sampling(fields, call.sampling);
  read_stream(fields, call);
  fields.read("add_special_tokens", call.add_special_tokens);
  fields.read("return_token_ids", call.return_token_ids);
  fields.read("return_tokens_as_token_ids", call.tokens_as_ids);
  read_format(fields);
  if (endpoint == Endpoint::chat) {
    read_chat(fields, call);
  } else {
    read_completions(fields, call);
  }
  fields.refuse_unknown();
  if (fields.error()) return *fields.error();
  call.sampling.raw.logprobs = call.logprobs;
  call.prompt_logprobs = call.sampling.raw.prompt_logprobs;
  if (call.echo) {
    // One table serves both: each lists as many of its alternatives as it was asked for.
    call.sampling.raw.prompt_logprobs = std::max(call.prompt_logprobs, call.logprobs);
  }
  return call;
}

troupe_error* Call::fill(size_t i, troupe_request* request) const {
  if (troupe_error* e = sampling.apply(request)) return e;
  if (endpoint == Endpoint::completions) {
    if (!add_special_tokens) {
      if (troupe_error* e = troupe_request_option(request, "add_special_tokens", "0")) return e;
    }
    const Prompt& prompt = prompts[i];
    return prompt.is_tokens
               ? troupe_request_tokens(request, prompt.tokens.data(), prompt.tokens.size())
               : troupe_request_text(request, prompt.text.data(), prompt.text.size());
  }
  for (const auto& bytes : images) {
    troupe_image image;
    troupe_image_init(&image, sizeof image);
    image.data = bytes.data();
    image.size = bytes.size();
    if (troupe_error* e = troupe_request_image(request, &image)) return e;
  }
  if (!add_generation_prompt) {
    if (troupe_error* e = troupe_request_option(request, "add_generation_prompt", "0")) return e;
  }
  using Give = troupe_error* (*)(troupe_request*, const char*, size_t);
  const std::pair<const std::string*, Give> given[] = {
      {&messages, troupe_request_messages},
      {&tools, troupe_request_tools},
      {&documents, troupe_request_documents},
      {&template_kwargs, troupe_request_template_kwargs}};
  for (const auto& [text, give] : given) {
    if (text->empty()) continue;
    if (troupe_error* e = give(request, text->data(), text->size())) return e;
  }
  return nullptr;
}

}  // namespace troupe::openai
