#include "capi/request.hpp"

#include <charconv>
#include <cstring>
#include <string>
#include <utility>

#include "base/limits.hpp"
#include "capi/checks.hpp"
#include "capi/error.hpp"
#include "capi/options.hpp"
#include "capi/session.hpp"
#include "capi/sized.hpp"

namespace troupe::capi {
namespace {

// Calls the program's release function once, when the last one to use its bytes lets go.
struct Release {
  void (*function)(void*) = nullptr;
  void* user = nullptr;
  Release() = default;
  Release(const Release&) = delete;
  Release& operator=(const Release&) = delete;
  ~Release() {
    if (function != nullptr) function(user);
  }
};

size_t prompt_bytes(const Request& request) {
  size_t bytes = request.messages_json.size();
  const auto add = [&](const std::vector<PromptPart>& parts) {
    for (const PromptPart& part : parts) bytes += part.text.size() + 4 * part.tokens.size();
  };
  add(request.prompt);
  for (const PromptMessage& message : request.messages) add(message.parts);
  return bytes;
}

Status check_prompt_size(const Request& request, size_t more) {
  const size_t bytes = prompt_bytes(request);
  if (more <= limits::prompt_bytes && bytes + more <= limits::prompt_bytes) return {};
  return limit_exceeded("the prompt would have " + std::to_string(bytes) + " + " +
                        std::to_string(more) + " bytes: at most " +
                        std::to_string(limits::prompt_bytes));
}

// Where the next part goes: the last message, or the raw prompt.
Result<std::vector<PromptPart>*> parts_of(Request& request) {
  if (!request.messages_json.empty()) {
    return invalid(
        "this request has messages as JSON: text and tokens belong into it; "
        "troupe_request_clear begins anew");
  }
  return request.messages.empty() ? &request.prompt : &request.messages.back().parts;
}

Status add_text(Request& request, std::string_view text) {
  TR_TRY(check_prompt_size(request, text.size()));
  TR_TRY(check_utf8("text", text));
  TR_ASSIGN(std::vector<PromptPart> * parts, parts_of(request));
  PromptPart part;
  part.text = text;
  parts->push_back(std::move(part));
  return {};
}

Status add_tokens(Request& request, const int32_t* tokens, size_t n_tokens) {
  if (n_tokens > limits::prompt_bytes / 4)
    return check_prompt_size(request, limits::prompt_bytes + 1);
  TR_TRY(check_prompt_size(request, 4 * n_tokens));
  TR_TRY(check_tokens("tokens", std::span(tokens, n_tokens), int64_t{1} << 31));
  TR_ASSIGN(std::vector<PromptPart> * parts, parts_of(request));
  PromptPart part;
  part.kind = PromptPart::Kind::tokens;
  if (n_tokens > 0) part.tokens.assign(tokens, tokens + n_tokens);
  parts->push_back(std::move(part));
  return {};
}

std::shared_ptr<const void> copy_bytes(const troupe_image& from, const std::byte*& data) {
  auto copy = std::make_shared_for_overwrite<std::byte[]>(from.size);
  std::memcpy(copy.get(), from.data, from.size);
  data = copy.get();
  return copy;
}

Status add_image(Request& request, const troupe_image& from) {
  if (request.images.size() >= static_cast<size_t>(limits::images_per_request)) {
    return limit_exceeded("this request has " + std::to_string(request.images.size()) +
                          " images: at most " + std::to_string(limits::images_per_request));
  }
  TR_ASSIGN(ImageInput image, image_input(from));
  std::shared_ptr<Release> release;
  image.bytes.size = from.size;
  if (from.release != nullptr) {
    release = std::make_shared<Release>();
    image.bytes.owner = release;
    image.bytes.data = static_cast<const std::byte*>(from.data);
  } else {
    image.bytes.owner = copy_bytes(from, image.bytes.data);
  }
  request.images.reserve(request.images.size() + 1);
  if (request.messages_json.empty()) {
    TR_ASSIGN(std::vector<PromptPart> * parts, parts_of(request));
    PromptPart part;
    part.kind = PromptPart::Kind::image;
    part.image = request.images.size();
    parts->push_back(std::move(part));
  }
  request.images.push_back(std::move(image));  // cannot fail any more: now the promise holds
  if (release) {
    release->function = from.release;
    release->user = from.release_user;
  }
  return {};
}

Status set_messages(Request& request, std::string_view json) {
  if (!request.messages.empty() || !request.prompt.empty()) {
    for (const PromptPart& part : request.prompt) {
      if (part.kind == PromptPart::Kind::image) continue;
      return invalid(
          "this request has a raw prompt: it cannot have messages too; "
          "troupe_request_clear begins anew");
    }
    if (!request.messages.empty()) {
      return invalid(
          "this request has messages by troupe_request_message: it cannot have them as "
          "JSON too; troupe_request_clear begins anew");
    }
  }
  TR_TRY(check_prompt_size(request, json.size()));
  TR_TRY(check_utf8("messages", json));
  if (json.empty()) return invalid("messages is empty: it must be a JSON array");
  request.messages_json = json;
  request.prompt.clear();  // images given before: the JSON says where they go
  return {};
}

Status set_json(const char* name, std::string_view json, std::string& to) {
  if (json.size() > limits::prompt_bytes) {
    return limit_exceeded(std::string(name) + " has " + std::to_string(json.size()) +
                          " bytes: at most " + std::to_string(limits::prompt_bytes));
  }
  TR_TRY(check_utf8(name, json));
  to = json;
  return {};
}

// ---- options by name ----------------------------------------------------------------------------

Status parse_number(std::string_view key, std::string_view value, int64_t low, int64_t high,
                    int64_t& to) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), to);
  if (error == std::errc() && end == value.data() + value.size() && to >= low && to <= high) {
    return {};
  }
  return invalid("option " + std::string(key) + " is \"" + std::string(value.substr(0, 64)) +
                 "\": it must be a whole number, " + std::to_string(low) + " to " +
                 std::to_string(high));
}

Status parse_task(std::string_view value, Task& to) {
  constexpr std::pair<std::string_view, Task> kTasks[] = {{"generate", Task::generate},
                                                          {"score", Task::score},
                                                          {"embed", Task::embed},
                                                          {"encode_image", Task::encode_image}};
  for (const auto& [name, task] : kTasks) {
    if (value == name) {
      to = task;
      return {};
    }
  }
  return unknown_name("task", value, {"generate", "score", "embed", "encode_image"});
}

Status set_name(std::string_view key, std::string_view value, std::string& to) {
  if (value.size() > limits::stop_string_bytes) {
    return limit_exceeded("option " + std::string(key) + " has " + std::to_string(value.size()) +
                          " bytes: at most " + std::to_string(limits::stop_string_bytes));
  }
  TR_TRY(check_utf8(key, value));
  to = value;
  return {};
}

Status set_option(Request& request, std::string_view key, std::string_view value) {
  constexpr int64_t kDeadlineMax_ms = int64_t{365} * 24 * 3600 * 1000;
  int64_t number = 0;
  if (key == "task") return parse_task(value, request.task);
  if (key == "adapter") return set_name(key, value, request.adapter);
  if (key == "client") return set_name(key, value, request.client);
  if (key == "deadline_ms") {
    TR_TRY(parse_number(key, value, 1, kDeadlineMax_ms, number));
    request.deadline_ns = number * 1'000'000;
    return {};
  }
  if (key == "priority") {
    TR_TRY(parse_number(key, value, -100, 100, number));
    request.priority = static_cast<int32_t>(number);
    return {};
  }
  if (key == "add_generation_prompt" || key == "add_special_tokens") {
    TR_TRY(parse_number(key, value, 0, 1, number));
    (key == "add_special_tokens" ? request.add_special_tokens : request.add_generation_prompt) =
        number != 0;
    return {};
  }
  return unknown_name("option", key,
                      {"task", "deadline_ms", "priority", "adapter", "client",
                       "add_generation_prompt", "add_special_tokens"});
}

// Only the engine knows which ids there are: checked when the request is submitted.
Status check_ids(const Request& request, int64_t vocab) {
  const auto check_parts = [&](const std::vector<PromptPart>& parts) -> Status {
    for (const PromptPart& part : parts) TR_TRY(check_tokens("tokens", part.tokens, vocab));
    return {};
  };
  TR_TRY(check_parts(request.prompt));
  for (const PromptMessage& message : request.messages) TR_TRY(check_parts(message.parts));
  TR_TRY(check_tokens("troupe_sampling.stop_tokens", request.sampling.stop_token_ids, vocab));
  for (size_t i = 0; i < request.sampling.logit_bias.size(); ++i) {
    const int32_t token = request.sampling.logit_bias[i].first;
    TR_TRY(check_tokens("troupe_sampling.bias_tokens", std::span(&token, 1), vocab));
  }
  return {};
}

}  // namespace

Result<Request> snapshot(const troupe_request& from, const EngineCore& engine) {
  if (from.session_engine && from.session_engine.get() != &engine) {
    return invalid("the request's session belongs to engine " + from.session_engine->endpoint() +
                   ": it cannot be submitted to " + engine.endpoint());
  }
  const Request& request = from.request;
  const bool chat = !request.messages.empty() || !request.messages_json.empty();
  if (!chat && request.prompt.empty() && request.images.empty()) {
    return invalid("the request has no prompt: give it text, tokens, an image or messages");
  }
  TR_TRY(check_ids(request, engine.info().vocab_size));
  Request copy = request;
  if (copy.task == Task::score) {
    copy.sampling.max_tokens = 0;
    copy.sampling.min_tokens.reset();
    if (!copy.sampling.prompt_logprobs) copy.sampling.prompt_logprobs = 0;
  }
  return copy;
}

}  // namespace troupe::capi

using troupe::Role;
using troupe::Status;
using troupe::capi::guard;
using troupe::capi::guard_out;
using troupe::capi::guard_void;

namespace {

// Text as (pointer, size); NULL is fine when the size is 0.
Status view_of(const char* text, size_t size, std::string_view& to) {
  if (size > 0) TR_NEED(text);
  to = size > 0 ? std::string_view(text, size) : std::string_view();
  return {};
}

troupe_error* set_request_json(troupe_request* request, const char* name, const char* json,
                               size_t size, std::string troupe::Request::*field) {
  return guard([&]() -> Status {
    TR_NEED(request);
    std::string_view view;
    TR_TRY(view_of(json, size, view));
    return troupe::capi::set_json(name, view, request->request.*field);
  });
}

}  // namespace

extern "C" {

troupe_error* troupe_request_new(troupe_request** out) {
  return guard_out(out, [&]() -> Status {
    troupe::capi::adopt_process();
    *out = new troupe_request;
    return {};
  });
}

void troupe_request_free(troupe_request* request) {
  guard_void([&] { delete request; });
}

troupe_error* troupe_request_clear(troupe_request* request) {
  return guard([&]() -> Status {
    TR_NEED(request);
    *request = troupe_request{};
    return {};
  });
}

troupe_error* troupe_request_message(troupe_request* request, int32_t role) {
  return guard([&]() -> Status {
    TR_NEED(request);
    if (role < TROUPE_ROLE_SYSTEM || role > TROUPE_ROLE_TOOL) {
      return troupe::invalid("role is " + std::to_string(role) +
                             ": it must be one of TROUPE_ROLE_");
    }
    if (!request->request.prompt.empty() || !request->request.messages_json.empty()) {
      return troupe::invalid(
          "this request has a raw prompt or messages as JSON: it cannot have "
          "messages too; troupe_request_clear begins anew");
    }
    request->request.messages.push_back({static_cast<Role>(role), {}});
    return {};
  });
}

troupe_error* troupe_request_text(troupe_request* request, const char* text, size_t size) {
  return guard([&]() -> Status {
    TR_NEED(request);
    std::string_view view;
    TR_TRY(view_of(text, size, view));
    return troupe::capi::add_text(request->request, view);
  });
}

troupe_error* troupe_request_tokens(troupe_request* request, const int32_t* tokens,
                                    size_t n_tokens) {
  return guard([&]() -> Status {
    TR_NEED(request);
    if (n_tokens > 0) TR_NEED(tokens);
    return troupe::capi::add_tokens(request->request, tokens, n_tokens);
  });
}

troupe_error* troupe_request_image(troupe_request* request, const troupe_image* image) {
  return guard([&]() -> Status {
    TR_NEED(request);
    TR_NEED(image);
    TR_ASSIGN(const troupe_image read,
              troupe::capi::read_sized(*image, troupe::capi::kImageDefaults, "troupe_image"));
    return troupe::capi::add_image(request->request, read);
  });
}

troupe_error* troupe_request_sampling(troupe_request* request, const troupe_sampling* sampling) {
  return guard([&]() -> Status {
    TR_NEED(request);
    TR_NEED(sampling);
    TR_ASSIGN(request->request.sampling, troupe::capi::sampling_params(sampling));
    return {};
  });
}

troupe_error* troupe_request_constraint(troupe_request* request, int32_t kind, const char* text,
                                        size_t size) {
  return guard([&]() -> Status {
    TR_NEED(request);
    if (kind < TROUPE_CONSTRAINT_NONE || kind > TROUPE_CONSTRAINT_CHOICE) {
      return troupe::invalid("constraint kind is " + std::to_string(kind) +
                             ": it must be one of TROUPE_CONSTRAINT_");
    }
    std::string_view view;
    TR_TRY(view_of(text, size, view));
    troupe::Constraint constraint;
    constraint.kind = static_cast<troupe::ConstraintKind>(kind);
    TR_TRY(troupe::capi::set_json("constraint", view, constraint.text));
    request->request.constraint = std::move(constraint);
    return {};
  });
}

troupe_error* troupe_request_messages(troupe_request* request, const char* json, size_t size) {
  return guard([&]() -> Status {
    TR_NEED(request);
    std::string_view view;
    TR_TRY(view_of(json, size, view));
    return troupe::capi::set_messages(request->request, view);
  });
}

troupe_error* troupe_request_tools(troupe_request* request, const char* json, size_t size) {
  return set_request_json(request, "tools", json, size, &troupe::Request::tools_json);
}

troupe_error* troupe_request_documents(troupe_request* request, const char* json, size_t size) {
  return set_request_json(request, "documents", json, size, &troupe::Request::documents_json);
}

troupe_error* troupe_request_template_kwargs(troupe_request* request, const char* json,
                                             size_t size) {
  return set_request_json(request, "template_kwargs", json, size,
                          &troupe::Request::template_kwargs_json);
}

troupe_error* troupe_request_session(troupe_request* request, troupe_session* session) {
  return guard([&]() -> Status {
    TR_NEED(request);
    request->request.session = session == nullptr ? 0 : session->id;
    request->session_engine = session == nullptr ? nullptr : session->core;
    return {};
  });
}

troupe_error* troupe_request_option(troupe_request* request, const char* key, const char* value) {
  return guard([&]() -> Status {
    TR_NEED(request);
    TR_NEED(key);
    TR_NEED(value);
    return troupe::capi::set_option(request->request, key, value);
  });
}
}

static_assert(static_cast<int>(Role::system) == TROUPE_ROLE_SYSTEM);
static_assert(static_cast<int>(Role::user) == TROUPE_ROLE_USER);
static_assert(static_cast<int>(Role::assistant) == TROUPE_ROLE_ASSISTANT);
static_assert(static_cast<int>(Role::tool) == TROUPE_ROLE_TOOL);
static_assert(static_cast<int>(troupe::ConstraintKind::none) == TROUPE_CONSTRAINT_NONE);
static_assert(static_cast<int>(troupe::ConstraintKind::json_schema) ==
              TROUPE_CONSTRAINT_JSON_SCHEMA);
static_assert(static_cast<int>(troupe::ConstraintKind::regex) == TROUPE_CONSTRAINT_REGEX);
static_assert(static_cast<int>(troupe::ConstraintKind::ebnf) == TROUPE_CONSTRAINT_EBNF);
static_assert(static_cast<int>(troupe::ConstraintKind::choice) == TROUPE_CONSTRAINT_CHOICE);
