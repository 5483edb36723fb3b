// Refusals of the engine, read as refusals of the request.

#include "openai/refusal.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "openai/answer.hpp"

namespace troupe::openai {
namespace {

using nlohmann::json;

// As `troupe batch` meets it: the request is filled, and what troupe.h says goes to the answer.
ApiError refused(const json& body) {
  auto parsed = parse_call(Endpoint::completions, body);
  if (auto* early = std::get_if<ApiError>(&parsed)) return *early;
  const Call call = std::get<Call>(std::move(parsed));
  troupe_request* request = nullptr;
  EXPECT_EQ(troupe_request_new(&request), nullptr);
  troupe_error* error = call.fill(0, request);
  troupe_request_free(request);
  Answer answer(call, nullptr, "id", "model", 0);
  if (error == nullptr) {
    ADD_FAILURE() << "accepted: " << body;
    return {};
  }
  answer.refuse(0, error);
  troupe_error_free(error);
  return *answer.error();
}

struct Wrong {
  const char* field;
  json value;
  const char* said;
};
class EngineRefusal : public testing::TestWithParam<Wrong> {};

TEST_P(EngineRefusal, NamesTheFieldOfTheRequest) {
  const Wrong& wrong = GetParam();
  const ApiError error = refused({{"prompt", "x"}, {wrong.field, wrong.value}});
  EXPECT_EQ(error.param, wrong.field);
  EXPECT_EQ(error.status, 400);
  EXPECT_EQ(error.message.find("troupe_"), std::string::npos) << error.message;
  EXPECT_EQ(error.message, wrong.said);
}

INSTANTIATE_TEST_SUITE_P(
    Bodies, EngineRefusal,
    testing::Values(Wrong{"top_p", 0, "'top_p' is 0: it must be above 0, at most 1"},
                    Wrong{"repetition_penalty", 5000,
                          "'repetition_penalty' is 5000: it must be 0.001 to 1000"},
                    Wrong{"min_tokens", 17, "'min_tokens' is 17: more than max_tokens, 16"},
                    Wrong{"stop", json{"a", ""}, "'stop[1]' is empty"},
                    Wrong{"bad_words", json{""}, "'bad_words[0]' is empty"},
                    Wrong{"stop", json(std::vector<std::string>(65, "a")),
                          "the length of 'stop' is 65: at most 64"},
                    Wrong{"stop_token_ids", json(std::vector<int>(257, 1)),
                          "the length of 'stop_token_ids' is 257: at most 256"}));

}  // namespace
}  // namespace troupe::openai
