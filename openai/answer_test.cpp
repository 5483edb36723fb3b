// Answers of a real model, as OpenAI's clients read them.

#include "openai/answer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

namespace troupe::openai {
namespace {

using nlohmann::json;

// 3.6 million parameters; its tokenizer begins every text with <|begin|>.
constexpr char kModel[] = "examples/model/abacus";
constexpr int64_t kPatience = 20'000'000'000;  // ns
constexpr char kPrompt[] = "One plus two";

class Answers : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    troupe_error* error = troupe_engine_open(kModel, nullptr, &engine_);
    ASSERT_EQ(error, nullptr) << troupe_error_message(error);
    ASSERT_EQ(troupe_queue_new(&queue_), nullptr);
  }
  static void TearDownTestSuite() {
    troupe_engine_free(engine_);
    troupe_queue_free(queue_);
  }

  static Call call_of(Endpoint endpoint, const json& body) {
    auto parsed = parse_call(endpoint, body);
    if (auto* error = std::get_if<ApiError>(&parsed)) {
      ADD_FAILURE() << error->message;
      return {};
    }
    return std::get<Call>(std::move(parsed));
  }

  static void run(const Call& call, Answer& answer) {
    for (size_t i = 0; i < call.requests(); ++i) {
      troupe_request* request = nullptr;
      troupe_error* error = troupe_request_new(&request);
      if (error == nullptr) error = call.fill(i, request);
      if (error == nullptr) error = troupe_submit(engine_, request, queue_, i, nullptr);
      if (error != nullptr) answer.refuse(i, error);
      troupe_error_free(error);
      troupe_request_free(request);
    }
    while (!answer.finished()) {
      troupe_events* events = nullptr;
      ASSERT_EQ(troupe_queue_wait(queue_, kPatience, 0, &events), nullptr);
      ASSERT_GT(TROUPE_COUNT(events), 0U) << "no event for long";
      for (uint32_t e = 0; e < TROUPE_COUNT(events); ++e) {
        answer.take(TROUPE_EVENT(events, e)->user_data, *TROUPE_EVENT(events, e));
      }
      troupe_events_free(events);
    }
  }

  static json answer_to(Endpoint endpoint, const json& body) {
    const Call call = call_of(endpoint, body);
    Answer answer(call, engine_, "id", "abacus", 0);
    run(call, answer);
    if (answer.error()) {
      ADD_FAILURE() << answer.error()->message;
      return {};
    }
    return answer.body();
  }
  static json completion(json body) {
    body.emplace("prompt", kPrompt);
    return answer_to(Endpoint::completions, body)["choices"][0];
  }
  static json chat(json body) {
    body["messages"] = {{{"role", "user"}, {"content", "What is one plus two?"}}};
    return answer_to(Endpoint::chat, body);
  }
  static ApiError refusal(const json& body) {
    const Call call = call_of(Endpoint::completions, body);
    Answer answer(call, engine_, "id", "abacus", 0);
    run(call, answer);
    EXPECT_TRUE(answer.error()) << body;
    return answer.error().value_or(ApiError{});
  }

  static inline troupe_engine* engine_ = nullptr;
  static inline troupe_queue* queue_ = nullptr;
};

double best_of(const json& top) {
  double best = -1e9;
  for (const auto& [name, logprob] : top.items()) best = std::max(best, logprob.get<double>());
  return best;
}

// What evaluators take for the greedy token must not depend on how many alternatives are asked for.
TEST_F(Answers, TopLogprobsHoldTheLikeliestAndTheTokenItself) {
  const json ask = {{"echo", true}, {"max_tokens", 0}};
  json wide_ask = ask, narrow_ask = ask;
  wide_ask["logprobs"] = 20;
  for (const int k : {0, 1, 3}) {
    narrow_ask["logprobs"] = k;
    const json wide = completion(wide_ask)["logprobs"], narrow = completion(narrow_ask)["logprobs"];
    ASSERT_GT(narrow["tokens"].size(), 3U);
    EXPECT_TRUE(narrow["top_logprobs"][0].is_null());
    for (size_t t = 1; t < narrow["tokens"].size(); ++t) {
      const json& top = narrow["top_logprobs"][t];
      const std::string own = narrow["tokens"][t];
      ASSERT_TRUE(top.contains(own)) << "k " << k << " token " << t;
      EXPECT_FLOAT_EQ(top[own].get<float>(), narrow["token_logprobs"][t].get<float>());
      if (k > 0) {
        EXPECT_DOUBLE_EQ(best_of(top), best_of(wide["top_logprobs"][t])) << "token " << t;
      }
      EXPECT_GE(top.size(), static_cast<size_t>(k));
      EXPECT_LE(top.size(), static_cast<size_t>(k) + 1);
    }
  }
}

TEST_F(Answers, ADrawnTokenIsInItsTopLogprobs) {
  const json table = completion({{"temperature", 5},
                                 {"seed", 3},
                                 {"max_tokens", 24},
                                 {"logprobs", 1},
                                 {"ignore_eos", true}})["logprobs"];
  ASSERT_EQ(table["tokens"].size(), 24U);
  size_t besides = 0;
  for (size_t t = 0; t < 24; ++t) {
    const json& top = table["top_logprobs"][t];
    EXPECT_TRUE(top.contains(table["tokens"][t].get<std::string>())) << t << ' ' << top;
    besides += top.size() == 2 ? 1 : 0;
  }
  EXPECT_GT(besides, 12U) << "so hot, most tokens are not the likeliest";
}

TEST_F(Answers, AChatListsExactlySoManyOfTheLikeliest) {
  const json content = chat({{"temperature", 5},
                             {"seed", 3},
                             {"max_tokens", 8},
                             {"logprobs", true},
                             {"top_logprobs", 3},
                             {"ignore_eos", true}})["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 8U);
  for (const json& token : content) {
    ASSERT_EQ(token["top_logprobs"].size(), 3U);
    const json& top = token["top_logprobs"];
    EXPECT_GE(top[0]["logprob"], top[1]["logprob"]);
    EXPECT_GE(top[0]["logprob"], token["logprob"]);
  }
}

TEST_F(Answers, TextOffsetsPointIntoTheText) {
  for (const bool echo : {true, false}) {
    const json choice =
        completion({{"echo", echo}, {"logprobs", 0}, {"max_tokens", 6}, {"temperature", 0}});
    const std::string text = choice["text"];  // ASCII: a byte is a character
    const json& table = choice["logprobs"];
    ASSERT_EQ(table["text_offset"].size(), table["tokens"].size());
    size_t inside = 0;
    for (size_t t = 0; t < table["tokens"].size(); ++t) {
      const std::string token = table["tokens"][t];
      const size_t offset = table["text_offset"][t];
      ASSERT_LE(offset, text.size());
      if (token.starts_with("<|")) continue;  // not in the text
      EXPECT_EQ(text.substr(offset, token.size()), token) << "echo " << echo << " token " << t;
      ++inside;
    }
    EXPECT_GE(inside, 3U);
    EXPECT_EQ(table["text_offset"][0], 0) << table["tokens"][0];
  }
}

TEST_F(Answers, TextOffsetsCountCharacters) {
  const json choice = completion(
      {{"prompt", "\u00E9\u00E9 plus two"}, {"echo", true}, {"logprobs", 0}, {"max_tokens", 0}});
  const json& table = choice["logprobs"];
  const auto plus = std::find(table["tokens"].begin(), table["tokens"].end(), " plus");
  ASSERT_NE(plus, table["tokens"].end()) << table["tokens"];
  EXPECT_EQ(table["text_offset"][static_cast<size_t>(plus - table["tokens"].begin())], 2);
}

TEST_F(Answers, APromptOfOneTokenIsEchoedInTheTable) {
  const json table = completion({{"prompt", json::array({40})},
                                 {"echo", true},
                                 {"logprobs", 1},
                                 {"max_tokens", 0}})["logprobs"];
  EXPECT_EQ(table["tokens"].size(), 1U);
  EXPECT_EQ(table["token_logprobs"], json::array({nullptr}));
}

TEST_F(Answers, PromptLogprobsComeByTokenId) {
  const json plain =
      completion({{"prompt_logprobs", 2}, {"max_tokens", 1}, {"return_token_ids", true}});
  const json& ids = plain["prompt_token_ids"];
  const json& table = plain["prompt_logprobs"];
  ASSERT_EQ(table.size(), ids.size());
  EXPECT_TRUE(table[0].is_null());
  for (size_t t = 1; t < ids.size(); ++t) {
    const std::string id = std::to_string(ids[t].get<int>());
    ASSERT_TRUE(table[t].contains(id)) << t;
    EXPECT_GE(table[t][id]["rank"], 1);
    EXPECT_TRUE(table[t][id]["decoded_token"].is_string());
    EXPECT_GE(table[t].size(), 2U);
    EXPECT_LE(table[t].size(), 3U);
  }
  EXPECT_FALSE(completion({{"max_tokens", 1}}).contains("prompt_logprobs")) << "nobody asked";
  const json talk = chat({{"prompt_logprobs", 0}, {"max_tokens", 1}, {"return_token_ids", true}});
  EXPECT_EQ(talk["prompt_logprobs"].size(), talk["prompt_token_ids"].size());
}

TEST_F(Answers, StopReasonSaysWhatWasAskedToStop) {
  const json free = completion(
      {{"max_tokens", 4}, {"temperature", 0}, {"return_token_ids", true}, {"ignore_eos", true}});
  EXPECT_TRUE(free["stop_reason"].is_null());
  const int32_t second = free["token_ids"][1];
  const json cut = completion(
      {{"max_tokens", 4}, {"temperature", 0}, {"stop_token_ids", {second}}, {"ignore_eos", true}});
  EXPECT_EQ(cut["finish_reason"], "stop");
  EXPECT_EQ(cut["stop_reason"], second);
  const json whole = chat({{"max_tokens", 64}, {"temperature", 0}})["choices"][0];
  EXPECT_EQ(whole["finish_reason"], "stop");
  EXPECT_TRUE(whole["stop_reason"].is_null()) << "the model's own end";
  const std::string word = whole["message"]["content"].get<std::string>().substr(1, 1);
  EXPECT_EQ(
      chat({{"max_tokens", 64}, {"temperature", 0}, {"stop", word}})["choices"][0]["stop_reason"],
      word);
}

TEST_F(Answers, RefusalsNameTheField) {
  const json long_prompt = std::vector<int32_t>(4096, 40);
  EXPECT_EQ(refusal({{"prompt", long_prompt}}).param, "prompt");
  const json bad_ids = std::vector<int32_t>{1, 1 << 30};
  EXPECT_EQ(refusal({{"prompt", bad_ids}}).param, "prompt");
  EXPECT_EQ(refusal({{"prompt", "x"}, {"stop_token_ids", {1 << 30}}}).param, "stop_token_ids");
  const ApiError bias = refusal({{"prompt", "x"}, {"logit_bias", {{std::to_string(1 << 30), 1}}}});
  EXPECT_EQ(bias.param, "logit_bias");
  EXPECT_EQ(bias.message.find("troupe_"), std::string::npos) << bias.message;
}

}  // namespace
}  // namespace troupe::openai
