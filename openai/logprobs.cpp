#include "openai/logprobs.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "openai/text_places.hpp"

namespace troupe::openai {
namespace {

using nlohmann::json;

std::vector<troupe_logprob> row_of(const troupe_logprob_table& table, size_t row) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(table.entries);
  std::vector<troupe_logprob> entries;
  for (size_t e = table.row_starts[row]; e < table.row_starts[row + 1]; ++e) {
    entries.push_back(*reinterpret_cast<const troupe_logprob*>(bytes + e * table.entry_size));
  }
  return entries;
}

std::span<const troupe_logprob> best(const TokenScore& row, int32_t most) {
  const std::span all(row.likeliest);
  return all.first(std::min(all.size(), static_cast<size_t>(std::max(most, 0))));
}

// JSON cannot hold -inf; OpenAI's servers write a very small number instead.
float finite(float logprob) {
  return logprob < -9999.0F ? -9999.0F : logprob;
}

// Where two tokens are called the same, the likelier one speaks for both.
json top_of(const TokenScore& row, int32_t most, TokenNames& names) {
  json top = json::object();
  for (const troupe_logprob& other : best(row, most))
    top.emplace(names.of(other.token), finite(other.logprob));
  top.emplace(names.of(row.token), finite(row.logprob));
  return top;
}

json chat_entry(int32_t token, float logprob, TokenNames& names) {
  const std::string& name = names.of(token);
  return {{"token", name},
          {"logprob", finite(logprob)},
          {"bytes", std::vector<uint8_t>(name.begin(), name.end())}};
}

}  // namespace

const std::string& TokenNames::text_of(int32_t token) {
  const auto it = texts_.find(token);
  if (it != texts_.end()) return it->second;
  std::string text = "token_id:" + std::to_string(token);
  troupe_bytes* bytes = nullptr;
  troupe_error* error = troupe_detokenize(engine_, &token, 1, 0, &bytes);
  if (error == nullptr && bytes != nullptr)
    text.assign(static_cast<const char*>(bytes->data), bytes->size);
  troupe_bytes_free(bytes);
  troupe_error_free(error);
  return texts_.emplace(token, std::move(text)).first->second;
}

const std::string& TokenNames::of(int32_t token) {
  if (!as_ids_) return text_of(token);
  return ids_.try_emplace(token, "token_id:" + std::to_string(token)).first->second;
}

std::vector<TokenScore> prompt_scores(const troupe_logprob_table& table) {
  std::vector<TokenScore> rows(table.n_rows);
  for (size_t r = 0; r < table.n_rows; ++r) {
    rows[r].likeliest = row_of(table, r);
    rows[r].scored = !rows[r].likeliest.empty();
    if (!rows[r].scored) continue;
    // A row begins with the prompt's own token; it is there again if it is one of the likeliest.
    const troupe_logprob own = rows[r].likeliest.front();
    rows[r].likeliest.erase(rows[r].likeliest.begin());
    rows[r].token = own.token;
    rows[r].logprob = own.logprob;
    rows[r].rank = own.rank;
  }
  return rows;
}

std::vector<TokenScore> answer_scores(const troupe_event& event) {
  std::vector<TokenScore> rows(event.logprobs == nullptr ? 0 : event.n_tokens);
  for (size_t t = 0; t < rows.size(); ++t) {
    if (event.top_logprobs != nullptr && t < event.top_logprobs->n_rows) {
      rows[t].likeliest = row_of(*event.top_logprobs, t);
    }
    rows[t].token = event.tokens[t];
    rows[t].logprob = event.logprobs[t];
  }
  return rows;
}

json completion_table(std::span<const TokenScore> rows, int32_t most, std::string_view text,
                      TokenNames& names) {
  json tokens = json::array(), logprobs = json::array(), tops = json::array(),
       offsets = json::array();
  TextPlaces places(text);
  for (const TokenScore& row : rows) {
    tokens.push_back(names.of(row.token));
    offsets.push_back(places.next(names.text_of(row.token)));
    logprobs.push_back(row.scored ? json(finite(row.logprob)) : json(nullptr));
    tops.push_back(row.scored ? top_of(row, most, names) : json(nullptr));
  }
  return {{"tokens", tokens},
          {"token_logprobs", logprobs},
          {"top_logprobs", tops},
          {"text_offset", offsets}};
}

json chat_table(std::span<const TokenScore> rows, int32_t most, TokenNames& names) {
  json content = json::array();
  for (const TokenScore& row : rows) {
    json one = chat_entry(row.token, row.logprob, names);
    one["top_logprobs"] = json::array();
    for (const troupe_logprob& other : best(row, most)) {
      one["top_logprobs"].push_back(chat_entry(other.token, other.logprob, names));
    }
    content.push_back(std::move(one));
  }
  return {{"content", content}, {"refusal", nullptr}};
}

json prompt_table(std::span<const TokenScore> rows, int32_t most, TokenNames& names) {
  json table = json::array();
  for (const TokenScore& row : rows) {
    if (!row.scored) {
      table.push_back(nullptr);
      continue;
    }
    json entries = json::object();
    const auto put = [&](int32_t token, float logprob, int32_t rank) {
      entries.emplace(std::to_string(token), json{{"logprob", finite(logprob)},
                                                  {"rank", rank > 0 ? json(rank) : json(nullptr)},
                                                  {"decoded_token", names.of(token)}});
    };
    for (const troupe_logprob& other : best(row, most)) put(other.token, other.logprob, other.rank);
    put(row.token, row.logprob, row.rank);
    table.push_back(std::move(entries));
  }
  return table;
}

}  // namespace troupe::openai
