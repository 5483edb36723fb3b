// Rope configs against what transformers makes of them (testdata/rope.py), and refusals.
#include "models/rope.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "models/config.hpp"

namespace troupe::models {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

Status problem(const std::string& text) {
  auto fields = Fields::parse(text, "config.json");
  EXPECT_TRUE(fields.ok()) << fields.status().message();
  read_rope(*fields, {.head_dim = 64, .context_length = 4096});
  return fields->status();
}

TEST(Rope, FrequenciesEqualTheReference) {
  std::ifstream file("models/testdata/rope.json");
  const json data = json::parse(file);
  ASSERT_GE(data["cases"].size(), 10U);
  for (const json& c : data["cases"]) {
    SCOPED_TRACE(c["name"].get<std::string>());
    auto fields = Fields::parse(c["config"].dump(), "config.json");
    ASSERT_TRUE(fields.ok());
    const int32_t head_dim = c["config"].value("head_dim", 64);
    const RopeConfig config = read_rope(*fields, {.head_dim = head_dim, .context_length = 4096});
    ASSERT_TRUE(fields->status().ok()) << fields->status().message();
    const RopeTables made = make_rope(config);
    EXPECT_NEAR(made.spec.attention_scale, c["attention_scale"].get<float>(), 1e-6);
    ASSERT_EQ(made.tables, static_cast<int32_t>(c["tables"].size()));
    std::vector<float> wanted;
    for (const json& table : c["tables"]) {
      for (const json& f : table) wanted.push_back(f);
    }
    ASSERT_EQ(made.frequencies.size(), wanted.size());
    EXPECT_EQ(made.spec.rotary_dim / 2 * made.tables, static_cast<int32_t>(wanted.size()));
    for (size_t i = 0; i < wanted.size(); ++i) {
      EXPECT_NEAR(made.frequencies[i], wanted[i], 2e-6F * std::abs(wanted[i])) << i;
    }
  }
}

TEST(Rope, DynamicLeavesTheLengthToTheOp) {
  auto fields = Fields::parse(
      R"({"rope_theta": 10000, "rope_scaling": {"type": "dynamic", "factor": 3}})", "config.json");
  const RopeTables made = make_rope(read_rope(*fields, {.head_dim = 64, .context_length = 2048}));
  EXPECT_EQ(made.spec.dynamic_length, 2048);
  EXPECT_FLOAT_EQ(made.spec.dynamic_base, 10000.0F);
  EXPECT_FLOAT_EQ(made.spec.dynamic_factor, 3.0F);
}

TEST(Rope, NestedParametersPickTheLayerType) {
  auto fields = Fields::parse(R"({"rope_parameters": {
      "full_attention": {"rope_type": "default", "rope_theta": 1000000},
      "sliding_attention": {"rope_type": "default", "rope_theta": 20000}}})",
                              "config.json");
  const RopeDefaults defaults{.head_dim = 64, .context_length = 4096};
  EXPECT_DOUBLE_EQ(read_rope(*fields, defaults, "full_attention").theta, 1e6);
  EXPECT_DOUBLE_EQ(read_rope(*fields, defaults, "sliding_attention").theta, 2e4);
}

TEST(Rope, RefusesWhatMakesNoSense) {
  EXPECT_THAT(problem(R"({"rope_scaling": {"type": "spiral", "factor": 2}})").message(),
              HasSubstr("config.json: rope_scaling.type is \"spiral\"; known are default"));
  EXPECT_THAT(problem(R"({"rope_scaling": {"type": "linear"}})").message(),
              HasSubstr("rope_scaling.factor is missing"));
  EXPECT_THAT(problem(R"({"rope_scaling": {"type": "linear", "factor": -1}})").message(),
              HasSubstr("rope_scaling.factor must be from"));
  EXPECT_THAT(problem(R"({"rope_theta": 0})").message(), HasSubstr("rope_theta must be from"));
  EXPECT_THAT(
      problem(R"({"rope_scaling": {"type": "longrope", "short_factor": [1, 2]}})").message(),
      HasSubstr("rope_scaling.short_factor must hold 32 numbers, holds 2"));
  EXPECT_THAT(problem(R"({"partial_rotary_factor": 0.05})").message(), HasSubstr("must be even"));
  EXPECT_THAT(problem(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8,
                          "low_freq_factor": 4, "high_freq_factor": 4}})")
                  .message(),
              HasSubstr("high_freq_factor must be above low_freq_factor"));
  EXPECT_THAT(problem(R"({"rope_scaling": "linear"})").message(),
              HasSubstr("rope_scaling must be an object, is \"linear\""));
}

}  // namespace
}  // namespace troupe::models
