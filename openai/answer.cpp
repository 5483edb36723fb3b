#include "openai/answer.hpp"

#include <nlohmann/json.hpp>
#include <utility>

namespace troupe::openai {
namespace {

using nlohmann::json;

std::vector<TokenScore> scores_of(const troupe_logprob_table& table) {
  std::vector<TokenScore> rows(table.n_rows);
  const auto* bytes = reinterpret_cast<const unsigned char*>(table.entries);
  for (size_t r = 0; r < table.n_rows; ++r) {
    for (size_t e = table.row_starts[r]; e < table.row_starts[r + 1]; ++e) {
      rows[r].alternatives.push_back(
          *reinterpret_cast<const troupe_logprob*>(bytes + e * table.entry_size));
    }
    rows[r].scored = !rows[r].alternatives.empty();
    if (rows[r].scored) {
      rows[r].token = rows[r].alternatives[0].token;
      rows[r].logprob = rows[r].alternatives[0].logprob;
    }
  }
  return rows;
}

// JSON cannot hold -inf; OpenAI's servers write a very small number instead.
float finite(float logprob) { return logprob < -9999.0F ? -9999.0F : logprob; }

std::string string_of(troupe_bytes* bytes) {
  if (bytes == nullptr) return {};
  std::string text(static_cast<const char*>(bytes->data), bytes->size);
  troupe_bytes_free(bytes);
  return text;
}

}  // namespace

const std::string& TokenNames::of(int32_t token) {
  const auto it = names_.find(token);
  if (it != names_.end()) return it->second;
  std::string name = "token_id:" + std::to_string(token);
  if (!as_ids_) {
    troupe_bytes* bytes = nullptr;
    troupe_error* error = troupe_detokenize(engine_, &token, 1, 0, &bytes);
    if (error == nullptr) name = string_of(bytes);
    troupe_error_free(error);
  }
  return names_.emplace(token, std::move(name)).first->second;
}

json finish_name(int32_t finish_reason) {
  switch (finish_reason) {
    case TROUPE_FINISH_STOP: return "stop";
    case TROUPE_FINISH_LENGTH: return "length";
    case TROUPE_FINISH_CANCELLED: return "cancelled";
    case TROUPE_FINISH_ERROR: return "error";
    default: return nullptr;
  }
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
  if (!error_) error_ = from_code(troupe_error_code(error), troupe_error_message(error));
  close(requests_[request]);
}

void Answer::take(size_t i, const troupe_event& event) {
  PerRequest& request = requests_[i];
  if (event.prompt_logprobs != nullptr) request.prompt = scores_of(*event.prompt_logprobs);
  if (event.kind == TROUPE_EVENT_TOKENS) {
    Choice& choice = request.choices[static_cast<size_t>(event.index)];
    choice.text.append(event.text, event.text_size);
    choice.tokens.insert(choice.tokens.end(), event.tokens, event.tokens + event.n_tokens);
    if (event.logprobs != nullptr) {
      std::vector<TokenScore> rows(event.n_tokens);
      if (event.top_logprobs != nullptr) rows = scores_of(*event.top_logprobs);
      rows.resize(event.n_tokens);
      for (size_t t = 0; t < event.n_tokens; ++t) {
        rows[t].token = event.tokens[t];
        rows[t].logprob = event.logprobs[t];
        rows[t].scored = true;
        choice.scores.push_back(std::move(rows[t]));
      }
    }
    if (event.finish_reason != TROUPE_FINISH_NONE) {
      choice.finish_reason = event.finish_reason;
      choice.stop_token = event.stop_token;
      if (event.stop_text != nullptr) choice.stop_text.assign(event.stop_text, event.stop_text_size);
    }
    return;
  }
  if (!TROUPE_IS_TERMINAL(event.kind)) return;
  request.prompt_tokens = event.prompt_tokens;
  request.cached_tokens = event.cached_tokens;
  request.completion_tokens = event.completion_tokens;
  if (event.kind == TROUPE_EVENT_DONE) {
    Choice& first = request.choices[0];
    if (first.finish_reason == TROUPE_FINISH_NONE) first.finish_reason = event.finish_reason;
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

json Answer::completion_logprobs(size_t i, const Choice& choice) {
  std::vector<TokenScore> rows;
  if (call_.echo) {
    rows = requests_[i].prompt;
    // The first token of a prompt has no logprob, and so no row entry to name it.
    if (!rows.empty() && !rows[0].scored) {
      const auto ids = prompt_ids(i);
      if (!ids.empty()) rows[0].token = ids[0];
    }
  }
  rows.insert(rows.end(), choice.scores.begin(), choice.scores.end());
  json tokens = json::array(), logprobs = json::array(), tops = json::array(),
       offsets = json::array();
  size_t offset = call_.echo ? 0 : prompt_text(i).size();
  for (const TokenScore& row : rows) {
    const std::string& name = names_.of(row.token);
    tokens.push_back(name);
    offsets.push_back(offset);
    offset += name.size();
    if (!row.scored) {
      logprobs.push_back(nullptr);
      tops.push_back(nullptr);
      continue;
    }
    logprobs.push_back(finite(row.logprob));
    json top = json::object();
    int32_t listed = 0;
    for (const troupe_logprob& other : row.alternatives) {
      if (other.token != row.token && listed >= call_.logprobs) continue;
      top[names_.of(other.token)] = finite(other.logprob);
      ++listed;
    }
    tops.push_back(std::move(top));
  }
  return {{"tokens", tokens}, {"token_logprobs", logprobs}, {"top_logprobs", tops}, {"text_offset", offsets}};
}

json Answer::completion_choice(size_t i, size_t index) {
  const Choice& choice = requests_[i].choices[index];
  json out = {{"index", i * requests_[i].choices.size() + index},
              {"text", (call_.echo ? prompt_text(i) : std::string()) + choice.text},
              {"logprobs", nullptr},
              {"finish_reason", finish_name(choice.finish_reason)},
              {"stop_reason", nullptr}};
  if (!choice.stop_text.empty()) out["stop_reason"] = choice.stop_text;
  if (call_.logprobs >= 0) out["logprobs"] = completion_logprobs(i, choice);
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
              {"stop_reason", nullptr}};
  if (!choice.stop_text.empty()) out["stop_reason"] = choice.stop_text;
  if (call_.return_token_ids) out["token_ids"] = choice.tokens;
  if (call_.logprobs < 0) return out;
  const auto entry = [this](int32_t token, float logprob) {
    const std::string& name = names_.of(token);
    return json{{"token", name},
                {"logprob", finite(logprob)},
                {"bytes", std::vector<uint8_t>(name.begin(), name.end())}};
  };
  json content = json::array();
  for (const TokenScore& row : choice.scores) {
    json one = entry(row.token, row.logprob);
    one["top_logprobs"] = json::array();
    for (const troupe_logprob& other : row.alternatives) {
      if (std::cmp_less(one["top_logprobs"].size(), call_.logprobs)) {
        one["top_logprobs"].push_back(entry(other.token, other.logprob));
      }
    }
    content.push_back(std::move(one));
  }
  out["logprobs"] = {{"content", content}, {"refusal", nullptr}};
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
  if (chat && call_.return_token_ids) out["prompt_token_ids"] = prompt_ids(0);
  return out;
}

}  // namespace troupe::openai
