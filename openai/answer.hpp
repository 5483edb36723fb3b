// Gathers the events of one call's requests and shapes them into OpenAI's answer.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "capi/troupe.h"
#include "openai/call.hpp"
#include "openai/logprobs.hpp"

namespace troupe::openai {

struct Choice {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<TokenScore> scores;
  int32_t finish_reason = TROUPE_FINISH_NONE;
  int32_t stop_token = -1;
  std::string stop_text;

  void end_as(const troupe_event& event);
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
  std::vector<TokenScore> prompt_rows(size_t request) const;
  // A stop string, or one of the request's stop_token_ids; null: the model's own end, or none.
  nlohmann::json stop_reason(const Choice& choice) const;
  nlohmann::json completion_choice(size_t request, size_t index);
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
