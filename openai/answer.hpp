// Gathers the events of one call's requests and shapes them into OpenAI's answer.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "capi/troupe.h"
#include "openai/call.hpp"

namespace troupe::openai {

// Text of single tokens, for logprob tables; asks the engine once per token.
class TokenNames {
 public:
  TokenNames(troupe_engine* engine, bool as_ids) : engine_(engine), as_ids_(as_ids) {}
  const std::string& of(int32_t token);

 private:
  troupe_engine* engine_;
  bool as_ids_;
  std::unordered_map<int32_t, std::string> names_;
};

struct TokenScore {
  int32_t token = 0;
  float logprob = 0.0F;
  bool scored = true;  // false: a prompt's first token
  std::vector<troupe_logprob> alternatives;
};

struct Choice {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<TokenScore> scores;
  int32_t finish_reason = TROUPE_FINISH_NONE;
  int32_t stop_token = -1;
  std::string stop_text;
};

// "stop", "length" …, null while it runs.
nlohmann::json finish_name(int32_t finish_reason);

class Answer {
 public:
  Answer(const Call& call, troupe_engine* engine, std::string id, std::string model, int64_t created);

  // An event of the call's i-th request.
  void take(size_t request, const troupe_event& event);
  // A request that was refused when it was submitted. Does not take ownership.
  void refuse(size_t request, const troupe_error* error);
  [[nodiscard]] bool finished() const { return open_ == 0; }
  [[nodiscard]] const std::optional<ApiError>& error() const { return error_; }
  // The whole answer; only when finished without an error.
  [[nodiscard]] nlohmann::json body();

 private:
  struct PerRequest {
    std::vector<Choice> choices;
    std::vector<TokenScore> prompt;
    int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
    bool done = false;
  };
  void close(PerRequest& request);
  std::vector<int32_t> prompt_ids(size_t request) const;
  std::string prompt_text(size_t request) const;
  nlohmann::json completion_choice(size_t request, size_t index);
  nlohmann::json completion_logprobs(size_t request, const Choice& choice);
  nlohmann::json chat_choice(size_t index);
  nlohmann::json usage() const;

  const Call& call_;
  troupe_engine* engine_;
  std::string id_, model_;
  int64_t created_;
  TokenNames names_;
  std::vector<PerRequest> requests_;
  size_t open_;
  std::optional<ApiError> error_;
};

}  // namespace troupe::openai
