#include "base/json_value.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace troupe {
namespace {

std::string nested(int depth) {
  return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']');
}

TEST(JsonValue, TakesTheDepthItIsGivenAndNoMore) {
  for (const int depth : {1, 2, 32}) {
    EXPECT_TRUE(parse_json(nested(depth), depth).ok()) << depth;
    EXPECT_TRUE(parse_ordered_json(nested(depth), depth).ok()) << depth;
    EXPECT_EQ(parse_json(nested(depth + 1), depth).status().message(),
              "is nested deeper than " + std::to_string(depth) + " levels");
  }
  EXPECT_FALSE(parse_json(std::string(1000000, '['), 32).ok());
  EXPECT_FALSE(parse_json(R"({"a": {"b": [1]}})", 2).ok());
  EXPECT_TRUE(parse_json(R"({"a": {"b": [1]}, "c": {"d": [[[]]]}})", 5).ok());
}

TEST(JsonValue, SaysWhereItIsNoJson) {
  for (const char* text : {"", "{", "[1,]", "nonsense", "{\"a\": \"\xFF\"}", "[1] 2"}) {
    const Status status = parse_json(text).status();
    EXPECT_EQ(status.code(), Code::corrupt_model) << text;
    EXPECT_EQ(status.message().rfind("is not JSON: parse error at line 1", 0), 0U) << status.message();
  }
}

TEST(JsonValue, KeepsTheOrderWhereAskedTo) {
  EXPECT_EQ(parse_ordered_json(R"({"z":1,"a":2})", 8)->dump(), R"({"z":1,"a":2})");
}

TEST(JsonValue, ShowsValuesInFewWords) {
  EXPECT_EQ(shown(nlohmann::json::object()), "an object");
  EXPECT_EQ(shown(nlohmann::json::array({1, 2})), "a list of 2");
  EXPECT_EQ(shown(nlohmann::json("x\xFF")), "\"x\\ufffd\"");
  EXPECT_EQ(shown(nlohmann::json(std::string(1000, 'x'))).size(), 60U);
}

}  // namespace
}  // namespace troupe
