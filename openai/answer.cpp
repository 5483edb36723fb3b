#include "openai/answer.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "openai/refusal.hpp"

namespace troupe::openai {
namespace {

using nlohmann::json;

std::string string_of(troupe_bytes* bytes) {
  if (bytes == nullptr) return {};
  std::string text(static_cast<const char*>(bytes->data), bytes->size);
  troupe_bytes_free(bytes);
  return text;
}

}  // namespace

json finish_name(int32_t finish_reason) {
  switch (finish_reason) {
    case TROUPE_FINISH_STOP: return "stop";
    case TROUPE_FINISH_LENGTH: return "length";
    case TROUPE_FINISH_CANCELLED: return "cancelled";
    case TROUPE_FINISH_ERROR: return "error";
    default: return nullptr;
  }
}

void Choice::end_as(const troupe_event& event) {
  finish_reason = event.finish_reason;
  stop_token = event.stop_token;
  if (event.stop_text != nullptr) stop_text.assign(event.stop_text, event.stop_text_size);
}

Answer::Answer(const Call& call, troupe_engine* engine, std::string id, std::string model,
               int64_t created)
    : call_(call), engine_(engine), id_(std::move(id)), model_(std::move(model)), created_(created),
      names_(engine, call.tokens_as_ids), requests_(call.requests()), open_(call.requests()) {
  const size_t n = call.sampling.raw.n < 1 ? 1 : static_cast<size_t>(call.sampling.raw.n);
  for (PerRequest& request : requests_) request.choices.resize(n);
}

void Answer::close(PerRequest& request) {
  if (request.done) return;
  request.done = true;
  --open_;
}

void Answer::refuse(size_t request, const troupe_error* error) {
  if (!error_) error_ = refusal_of(error, call_.endpoint);
  close(requests_[request]);
}

void Answer::take(size_t i, const troupe_event& event) {
  PerRequest& request = requests_[i];
  if (event.prompt_logprobs != nullptr) request.prompt = prompt_scores(*event.prompt_logprobs);
  if (event.kind == TROUPE_EVENT_TOKENS) {
    Choice& choice = request.choices[static_cast<size_t>(event.index)];
    choice.text.append(event.text, event.text_size);
    choice.tokens.insert(choice.tokens.end(), event.tokens, event.tokens + event.n_tokens);
    for (TokenScore& row : answer_scores(event)) choice.scores.push_back(std::move(row));
    if (event.finish_reason != TROUPE_FINISH_NONE) choice.end_as(event);
    return;
  }
  if (!TROUPE_IS_TERMINAL(event.kind)) return;
  request.prompt_tokens = event.prompt_tokens;
  request.cached_tokens = event.cached_tokens;
  request.completion_tokens = event.completion_tokens;
  if (event.kind == TROUPE_EVENT_DONE) {
    Choice& first = request.choices[0];
    if (first.finish_reason == TROUPE_FINISH_NONE) first.end_as(event);
    close(request);
  } else if (event.error != nullptr) {
    refuse(i, event.error);
  } else {
    if (!error_) error_ = from_code(TROUPE_ERROR_CANCELLED, "the request was cancelled");
    close(request);
  }
}

std::string Answer::prompt_text(size_t i) const {
  const Prompt& prompt = call_.prompts[i];
  if (!prompt.is_tokens) return prompt.text;
  troupe_bytes* bytes = nullptr;
  troupe_error* error = troupe_detokenize(engine_, prompt.tokens.data(), prompt.tokens.size(),
                                          TROUPE_TEXT_SKIP_SPECIAL, &bytes);
  troupe_error_free(error);
  return string_of(bytes);
}

std::vector<int32_t> Answer::prompt_ids(size_t i) const {
  std::string text;
  uint32_t flags = TROUPE_TEXT_PARSE_SPECIAL;
  if (call_.endpoint == Endpoint::completions) {
    if (call_.prompts[i].is_tokens) return call_.prompts[i].tokens;
    text = call_.prompts[i].text;
    if (call_.add_special_tokens) flags |= TROUPE_TEXT_ADD_SPECIAL;
  } else {
    troupe_request* request = nullptr;
    troupe_bytes* rendered = nullptr;
    troupe_error* error = troupe_request_new(&request);
    if (error == nullptr) error = call_.fill(0, request);
    if (error == nullptr) error = troupe_render(engine_, request, &rendered);
    troupe_error_free(error);
    troupe_request_free(request);
    text = string_of(rendered);
  }
  troupe_bytes* ids = nullptr;
  troupe_error* error = troupe_tokenize(engine_, text.data(), text.size(), flags, &ids);
  troupe_error_free(error);
  std::vector<int32_t> out;
  if (ids != nullptr) {
    const auto* first = static_cast<const int32_t*>(ids->data);
    out.assign(first, first + ids->size / sizeof(int32_t));
    troupe_bytes_free(ids);
  }
  return out;
}

std::vector<TokenScore> Answer::prompt_rows(size_t i) const {
  std::vector<TokenScore> rows = requests_[i].prompt;
  if (rows.empty()) rows.push_back({.scored = false, .likeliest = {}});
  // The first token of a prompt has no logprob, and so no row entry to name it.
  if (!rows[0].scored) {
    const auto ids = prompt_ids(i);
    if (!ids.empty()) rows[0].token = ids[0];
  }
  return rows;
}

json Answer::stop_reason(const Choice& choice) const {
  if (!choice.stop_text.empty()) return choice.stop_text;
  const auto& asked = call_.sampling.stop_tokens;
  const bool was_asked = std::find(asked.begin(), asked.end(), choice.stop_token) != asked.end();
  return was_asked ? json(choice.stop_token) : json(nullptr);
}

json Answer::completion_choice(size_t i, size_t index) {
  const Choice& choice = requests_[i].choices[index];
  const std::string text = (call_.echo ? prompt_text(i) : std::string()) + choice.text;
  json out = {{"index", i * requests_[i].choices.size() + index},
              {"text", text},
              {"logprobs", nullptr},
              {"finish_reason", finish_name(choice.finish_reason)},
              {"stop_reason", stop_reason(choice)}};
  if (call_.logprobs >= 0) {
    std::vector<TokenScore> rows;
    if (call_.echo) rows = prompt_rows(i);
    rows.insert(rows.end(), choice.scores.begin(), choice.scores.end());
    out["logprobs"] = completion_table(rows, call_.logprobs, text, names_);
  }
  if (call_.prompt_logprobs >= 0) {
    out["prompt_logprobs"] = prompt_table(prompt_rows(i), call_.prompt_logprobs, names_);
  }
  if (call_.return_token_ids) {
    out["token_ids"] = choice.tokens;
    out["prompt_token_ids"] = prompt_ids(i);
  }
  return out;
}

json Answer::chat_choice(size_t index) {
  const Choice& choice = requests_[0].choices[index];
  json out = {{"index", index},
              {"message", {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}}},
              {"logprobs", nullptr},
              {"finish_reason", finish_name(choice.finish_reason)},
              {"stop_reason", stop_reason(choice)}};
  if (call_.return_token_ids) out["token_ids"] = choice.tokens;
  if (call_.logprobs >= 0) out["logprobs"] = chat_table(choice.scores, call_.logprobs, names_);
  return out;
}

json Answer::usage() const {
  int64_t prompt = 0, cached = 0, completion = 0;
  for (const PerRequest& request : requests_) {
    prompt += request.prompt_tokens;
    cached += request.cached_tokens;
    completion += request.completion_tokens;
  }
  return {{"prompt_tokens", prompt},
          {"completion_tokens", completion},
          {"total_tokens", prompt + completion},
          {"prompt_tokens_details", {{"cached_tokens", cached}}}};
}

json Answer::body() {
  const bool chat = call_.endpoint == Endpoint::chat;
  json choices = json::array();
  for (size_t i = 0; i < requests_.size(); ++i) {
    for (size_t c = 0; c < requests_[i].choices.size(); ++c) {
      choices.push_back(chat ? chat_choice(c) : completion_choice(i, c));
    }
  }
  json out = {{"id", id_},
              {"object", chat ? "chat.completion" : "text_completion"},
              {"created", created_},
              {"model", model_},
              {"choices", choices},
              {"usage", usage()}};
  if (chat && call_.prompt_logprobs >= 0) {
    out["prompt_logprobs"] = prompt_table(prompt_rows(0), call_.prompt_logprobs, names_);
  }
  if (chat && call_.return_token_ids) out["prompt_token_ids"] = prompt_ids(0);
  return out;
}

}  // namespace troupe::openai
