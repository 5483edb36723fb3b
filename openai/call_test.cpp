// What bodies are understood, what is refused and by which name.

#include "openai/call.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "openai/batch_line.hpp"
#include "openai/data_url.hpp"

namespace troupe::openai {
namespace {

using nlohmann::json;

Call call_of(Endpoint endpoint, const json& body) {
  auto parsed = parse_call(endpoint, body);
  if (auto* error = std::get_if<ApiError>(&parsed)) {
    ADD_FAILURE() << error->message;
    return {};
  }
  return std::get<Call>(std::move(parsed));
}

ApiError error_of(Endpoint endpoint, const json& body) {
  auto parsed = parse_call(endpoint, body);
  const auto* error = std::get_if<ApiError>(&parsed);
  if (error == nullptr) {
    ADD_FAILURE() << "accepted: " << body.dump();
    return {};
  }
  return *error;
}

TEST(Completions, TakesEveryFormOfPrompt) {
  EXPECT_EQ(call_of(Endpoint::completions, {{"prompt", "hi"}}).prompts.size(), 1U);
  EXPECT_EQ(call_of(Endpoint::completions, {{"prompt", {"a", "b"}}}).prompts[1].text, "b");
  const Call ids = call_of(Endpoint::completions, {{"prompt", {1, 2, 3}}});
  ASSERT_EQ(ids.prompts.size(), 1U);
  EXPECT_EQ(ids.prompts[0].tokens, (std::vector<int32_t>{1, 2, 3}));
  const Call lists = call_of(Endpoint::completions, {{"prompt", {{1, 2}, {3}}}});
  ASSERT_EQ(lists.prompts.size(), 2U);
  EXPECT_EQ(lists.prompts[1].tokens, (std::vector<int32_t>{3}));
}

TEST(Completions, KnowsTheFieldsOfOpenAiAndOfVllm) {
  const Call call = call_of(
      Endpoint::completions,
      {{"prompt", "x"}, {"max_tokens", 5}, {"temperature", 0.5}, {"top_p", 0.9}, {"n", 2},
       {"stop", "end"}, {"logprobs", 3}, {"echo", true}, {"seed", 7}, {"ignore_eos", true},
       {"min_tokens", 2}, {"top_k", -1}, {"min_p", 0.1}, {"repetition_penalty", 1.1},
       {"add_special_tokens", false}, {"skip_special_tokens", false}, {"return_token_ids", true},
       {"return_tokens_as_token_ids", true}, {"logit_bias", {{"5", -100}}}, {"user", "me"}});
  EXPECT_EQ(call.sampling.raw.max_tokens, 5);
  EXPECT_FLOAT_EQ(call.sampling.raw.temperature, 0.5F);
  EXPECT_EQ(call.sampling.raw.top_k, 0);
  EXPECT_EQ(call.sampling.raw.seed, 7);
  EXPECT_EQ(call.sampling.raw.ignore_eos, 1);
  EXPECT_EQ(call.sampling.raw.skip_special_tokens, 0);
  EXPECT_EQ(call.sampling.raw.logprobs, 3);
  EXPECT_EQ(call.sampling.raw.prompt_logprobs, 3) << "echo with logprobs scores the prompt";
  EXPECT_EQ(call.sampling.stop, (std::vector<std::string>{"end"}));
  EXPECT_EQ(call.sampling.bias_tokens, (std::vector<int32_t>{5}));
  EXPECT_TRUE(call.echo);
  EXPECT_FALSE(call.add_special_tokens);
  EXPECT_TRUE(call.tokens_as_ids);
}

TEST(Completions, AskForTheLargerTableWhenEchoAndPromptLogprobsAreBothThere) {
  const Call call = call_of(Endpoint::completions,
                            {{"prompt", "x"}, {"echo", true}, {"logprobs", 1}, {"prompt_logprobs", 5}});
  EXPECT_EQ(call.sampling.raw.prompt_logprobs, 5);
  EXPECT_EQ(call.prompt_logprobs, 5);
  EXPECT_EQ(call.logprobs, 1);
}

TEST(Completions, DefaultsAreOpenAis) {
  const Call call = call_of(Endpoint::completions, {{"prompt", "x"}});
  EXPECT_EQ(call.sampling.raw.max_tokens, 16);
  EXPECT_TRUE(std::isnan(call.sampling.raw.temperature)) << "the model's own default decides";
  EXPECT_EQ(call.sampling.raw.logprobs, -1);
}

TEST(Completions, NullCountsAsAbsent) {
  EXPECT_EQ(call_of(Endpoint::completions, {{"prompt", "x"}, {"logprobs", nullptr}}).logprobs, -1);
}

struct Refusal {
  json body;
  const char* param;
};
class Refused : public testing::TestWithParam<Refusal> {};

TEST_P(Refused, NamesTheField) {
  const ApiError error = error_of(Endpoint::completions, GetParam().body);
  EXPECT_EQ(error.param, GetParam().param);
  EXPECT_EQ(error.status, 400);
  EXPECT_NE(error.message.find(GetParam().param), std::string::npos) << error.message;
}

INSTANTIATE_TEST_SUITE_P(
    Bodies, Refused,
    testing::Values(Refusal{json::object(), "prompt"}, Refusal{{{"prompt", 5}}, "prompt"},
                    Refusal{{{"prompt", {1, -2}}}, "prompt"},
                    Refusal{{{"prompt", "x"}, {"temperature", -1}}, "temperature"},
                    Refusal{{{"prompt", "x"}, {"temperature", "hot"}}, "temperature"},
                    Refusal{{{"prompt", "x"}, {"max_tokens", 1.5}}, "max_tokens"},
                    Refusal{{{"prompt", "x"}, {"max_tokens", 18446744073709551615ULL}}, "max_tokens"},
                    Refusal{{{"prompt", "x"}, {"n", 0}}, "n"},
                    Refusal{{{"prompt", "x"}, {"stop", {1}}}, "stop"},
                    Refusal{{{"prompt", "x"}, {"stop", std::string("One\0abc", 7)}}, "stop"},
                    Refusal{{{"prompt", "x"}, {"stop", {"a", std::string("\0", 1)}}}, "stop"},
                    Refusal{{{"prompt", "x"}, {"bad_words", {std::string("One\0abc", 7)}}}, "bad_words"},
                    Refusal{{{"prompt", "x"}, {"logit_bias", {{"five", 1}}}}, "logit_bias"},
                    Refusal{{{"prompt", "x"}, {"logit_bias", {{"5", 1000}}}}, "logit_bias"},
                    Refusal{{{"prompt", "x"}, {"best_of", 3}}, "best_of"},
                    Refusal{{{"prompt", "x"}, {"echo", "yes"}}, "echo"},
                    Refusal{{{"prompt", "x"}, {"temprature", 1}}, "temprature"}));

TEST(Chat, KeepsMessagesAndCountsLogprobs) {
  const Call call = call_of(Endpoint::chat, {{"messages", {{{"role", "user"}, {"content", "hi"}}}},
                                             {"logprobs", true},
                                             {"top_logprobs", 2},
                                             {"max_completion_tokens", 9}});
  EXPECT_EQ(json::parse(call.messages)[0]["content"], "hi");
  EXPECT_EQ(call.logprobs, 2);
  EXPECT_EQ(call.sampling.raw.max_tokens, 9);
  EXPECT_EQ(call.requests(), 1U);
}

TEST(Chat, TurnsDataUrlsIntoImagesByIndex) {
  const json part = {{"type", "image_url"}, {"image_url", {{"url", "data:image/png;base64,aGk="}}}};
  const Call call = call_of(Endpoint::chat, {{"messages", {{{"role", "user"}, {"content", {part, part}}}}}});
  ASSERT_EQ(call.images.size(), 2U);
  EXPECT_EQ(std::string(call.images[0].begin(), call.images[0].end()), "hi");
  EXPECT_EQ(json::parse(call.messages)[0]["content"][1], (json{{"type", "image"}, {"index", 1}}));
}

TEST(Call, RefusesAFormatThatIsNoObject) {
  for (const json& bad : {json(7), json("text"), json::array({"type"}), json{{"type", "json_object"}}, json::object()}) {
    EXPECT_EQ(error_of(Endpoint::completions, {{"prompt", "x"}, {"response_format", bad}}).param, "response_format") << bad;
  }
}

TEST(Chat, NeverFetchesAUrl) {
  const json part = {{"type", "image_url"}, {"image_url", {{"url", "http://127.0.0.1/x.png"}}}};
  EXPECT_EQ(error_of(Endpoint::chat, {{"messages", {{{"role", "user"}, {"content", {part}}}}}}).param, "messages");
}

TEST(Chat, RefusesEmptyMessagesAndForcedTools) {
  EXPECT_EQ(error_of(Endpoint::chat, {{"messages", json::array()}}).param, "messages");
  EXPECT_EQ(error_of(Endpoint::chat, {{"messages", {{{"role", "user"}, {"content", "x"}}}},
                                      {"tool_choice", "required"}}).param, "tool_choice");
}

TEST(DataUrl, DecodesAndRefusesDamage) {
  const auto bytes = [](const char* url) { return bytes_of_data_url(url); };
  ASSERT_TRUE(bytes("data:;base64,AAEC"));
  EXPECT_EQ(*bytes("data:;base64,AAEC"), (std::vector<unsigned char>{0, 1, 2}));
  EXPECT_EQ(bytes("data:;base64,TQ==")->size(), 1U);
  for (const char* bad : {"", "http://x", "data:image/png,raw", "data:;base64,", "data:;base64,A",
                          "data:;base64,A*BC"}) {
    EXPECT_FALSE(bytes(bad)) << bad;
  }
}

TEST(BatchLine, SaysWhatIsWrong) {
  const auto error = [](const char* line) {
    const BatchLine parsed = parse_batch_line(line);
    const auto* e = std::get_if<ApiError>(&parsed.call);
    return e == nullptr ? std::string("accepted") : e->param;
  };
  EXPECT_EQ(error("not json"), "line");
  EXPECT_EQ(error("[1]"), "line");
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  EXPECT_EQ(error(deep.c_str()), "line");
  EXPECT_EQ(error((R"({"custom_id": "a", "url": "/v1/completions", "body": {"prompt": )" + deep + "}}").c_str()), "line");
  EXPECT_EQ(error(R"({"url": "/v1/completions", "body": {"prompt": "x"}})"), "custom_id");
  EXPECT_EQ(error(R"({"custom_id": "a", "url": "/v1/images", "body": {}})"), "url");
  EXPECT_EQ(error(R"({"custom_id": "a", "url": "/v1/completions"})"), "body");
  EXPECT_EQ(error(R"({"custom_id": "a", "method": "GET", "url": "/v1/completions", "body": {}})"), "method");
  EXPECT_EQ(error(R"({"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "x"}})"), "accepted");
}

TEST(BatchLine, AnswersKeepTheCustomId) {
  const json good = answer_line("a", "r1", {{"choices", json::array()}});
  EXPECT_EQ(good["custom_id"], "a");
  EXPECT_EQ(good["response"]["status_code"], 200);
  EXPECT_TRUE(good["error"].is_null());
  const json bad = error_line("a", "r2", bad_field("n", "'n' is wrong"));
  EXPECT_EQ(bad["response"]["status_code"], 400);
  EXPECT_EQ(bad["response"]["body"]["error"]["param"], "n");
  EXPECT_EQ(bad["error"]["message"], "'n' is wrong");
}

}  // namespace
}  // namespace troupe::openai
