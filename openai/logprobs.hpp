// Logprob tables: read from events, and written as OpenAI's answers and vLLM's prompt_logprobs have
// them.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "capi/troupe.h"

namespace troupe::openai {

// Texts of single tokens; asks the engine once per token.
class TokenNames {
 public:
  TokenNames(troupe_engine* engine, bool as_ids) : engine_(engine), as_ids_(as_ids) {}
  // What tables call it: its text, or "token_id:17".
  const std::string& of(int32_t token);
  const std::string& text_of(int32_t token);

 private:
  troupe_engine* engine_;
  bool as_ids_;
  std::unordered_map<int32_t, std::string> texts_, ids_;
};

struct TokenScore {
  int32_t token = 0;
  float logprob = 0.0F;
  int32_t rank = 0;  // 0: not known
  bool scored = true;  // false: a prompt's first token
  std::vector<troupe_logprob> likeliest;  // best first; the token itself need not be among them
};

// A row per token of the prompt; the first is not scored.
std::vector<TokenScore> prompt_scores(const troupe_logprob_table& table);
// A row per token that a TOKENS event with logprobs brings.
std::vector<TokenScore> answer_scores(const troupe_event& event);

// /v1/completions: of each token its `most` likeliest alternatives, and the token itself besides if
// it is not one of them. `text` is the choice's, in which text_offset finds the tokens.
nlohmann::json completion_table(std::span<const TokenScore> rows, int32_t most,
                                std::string_view text, TokenNames& names);
// /v1/chat/completions: of each token exactly its `most` likeliest alternatives.
nlohmann::json chat_table(std::span<const TokenScore> rows, int32_t most, TokenNames& names);
// vLLM's: of each token an object by id, null for the first.
nlohmann::json prompt_table(std::span<const TokenScore> rows, int32_t most, TokenNames& names);

}  // namespace troupe::openai
