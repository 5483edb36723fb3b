// Reading config.json: every field checked, errors that name file, field, limit and value.
#include "models/config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/families/families.hpp"
#include "models/model.hpp"
#include "models/test_folder.hpp"

namespace troupe::models {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TestFolder;
using testing::tiny_config;

std::string problem(const std::string& config) {
  const TestFolder folder;
  folder.write("config.json", config);
  LoadOptions options;
  options.format = LoadFormat::dummy;
  const auto opened = ModelFolder::open(folder.path(), options);
  return opened.ok() ? "" : opened.status().message();
}

TEST(Config, ATinyLlamaIsFine) {
  EXPECT_EQ(problem(tiny_config()), "");
}

TEST(Config, BadJsonSaysWhere) {
  EXPECT_THAT(problem("{\"vocab_size\": 12,, }"),
              HasSubstr("config.json: is not JSON: parse error at line 1"));
  EXPECT_THAT(problem(""), HasSubstr("config.json: is empty"));
  EXPECT_THAT(problem("[1, 2]"), HasSubstr("config.json: must hold a JSON object, is a list of 2"));
  EXPECT_THAT(problem("{\"a\": \"\xff\xfe\"}"), HasSubstr("config.json: is not JSON"));
  EXPECT_THAT(problem(std::string(3, '\0')), HasSubstr("config.json: is not JSON"));
  std::string deep = "{\"a\": ";
  for (int i = 0; i < 100000; ++i) deep += "[";
  EXPECT_THAT(problem(deep), HasSubstr("config.json: is nested deeper than 32 levels"));
  EXPECT_THAT(problem(std::string((16U << 20U) + 1, ' ')), HasSubstr("at most 16777216 are read"));
}

TEST(Config, EveryFieldIsChecked) {
  const auto with = [](const std::string& field, const std::string& value) {
    return problem(tiny_config("\"" + field + "\": " + value));  // a later key replaces the earlier
  };
  EXPECT_THAT(with("vocab_size", "0"),
              HasSubstr("config.json: vocab_size must be from 1 to 16777216, is 0"));
  EXPECT_THAT(with("vocab_size", "-5"), HasSubstr("vocab_size must be from 1"));
  EXPECT_THAT(with("vocab_size", "\"many\""),
              HasSubstr("vocab_size must be a whole number, is \"many\""));
  EXPECT_THAT(with("vocab_size", "1.5"), HasSubstr("vocab_size must be a whole number, is 1.5"));
  EXPECT_THAT(with("vocab_size", "1e300"), HasSubstr("vocab_size must be a whole number"));
  EXPECT_THAT(with("vocab_size", "99999999999999999999"),
              HasSubstr("vocab_size must be a whole number"));
  EXPECT_THAT(with("vocab_size", "null"), HasSubstr("vocab_size is missing"));
  EXPECT_THAT(with("hidden_size", "[16]"),
              HasSubstr("hidden_size must be a whole number, is a list of 1"));
  EXPECT_THAT(with("num_hidden_layers", "9999"),
              HasSubstr("num_hidden_layers must be from 1 to 1024"));
  EXPECT_THAT(with("num_attention_heads", "3"),
              HasSubstr("num_attention_heads is 3, which does not divide hidden_size 16"));
  EXPECT_THAT(with("num_key_value_heads", "5"),
              HasSubstr("num_key_value_heads is 5, which does not divide"));
  EXPECT_THAT(with("rms_norm_eps", "\"small\""), HasSubstr("rms_norm_eps must be a number"));
  EXPECT_THAT(with("hidden_act", "\"tanhish\""),
              HasSubstr("hidden_act is \"tanhish\"; known are silu"));
  EXPECT_THAT(with("attention_bias", "1"), HasSubstr("attention_bias must be true or false, is 1"));
  EXPECT_THAT(with("tie_word_embeddings", "\"yes\""),
              HasSubstr("tie_word_embeddings must be true or false"));
  EXPECT_THAT(with("torch_dtype", "\"int4\""), HasSubstr("config.json: dtype is \"int4\""));
  EXPECT_THAT(with("eos_token_id", "[1, \"x\"]"),
              HasSubstr("eos_token_id must hold whole numbers"));
  EXPECT_EQ(with("vocab_size", "40.0"), "");
}

TEST(Config, AnUnknownArchitectureNamesTheNearest) {
  const std::string text = problem(R"({"architectures": ["LlamaForCasualLM"]})");
  EXPECT_THAT(text,
              HasSubstr("config.json: architectures is \"LlamaForCasualLM\", which is not known"));
  EXPECT_THAT(text, HasSubstr("the nearest is LlamaForCausalLM"));
  EXPECT_THAT(text, HasSubstr("GPTNeoXForCausalLM"));
  EXPECT_THAT(problem(R"({"architectures": ["Zebra"]})"), ::testing::Not(HasSubstr("nearest")));
  EXPECT_THAT(problem("{}"), HasSubstr("config.json: has neither architectures nor model_type"));
  EXPECT_THAT(problem(R"({"architectures": "Llama"})"),
              HasSubstr("architectures must be a list of texts"));
}

TEST(Config, QuantisedWeightsAreRefusedByName) {
  EXPECT_THAT(
      problem(tiny_config(R"("quantization_config": {"quant_method": "awq", "bits": 4})")),
      HasSubstr("config.json: quantization_config: weights quantised by \"awq\" are not read"));
}

TEST(Config, AbsurdSizesDoNotOverflow) {
  EXPECT_THAT(problem(R"({"architectures": ["MixtralForCausalLM"], "vocab_size": 16777216,
      "hidden_size": 1048576, "intermediate_size": 4194304, "num_hidden_layers": 1024,
      "num_attention_heads": 4096, "max_position_embeddings": 4096, "num_local_experts": 1024,
      "num_experts_per_tok": 2})"),
              HasSubstr("1048576 experts, at most 131072 are built"));
}

TEST(Config, QwenExpertsAreCountedUnderEitherName) {
  // Published folders say num_experts; what transformers 5 saves says num_local_experts.
  for (const std::string name : {"num_experts", "num_local_experts"}) {
    for (const std::string family : {"qwen2_moe", "qwen3_moe"}) {
      EXPECT_EQ(problem(tiny_config(R"("architectures": null, "model_type": ")" + family +
                                    R"(", "moe_intermediate_size": 8, "num_experts_per_tok": 2,
                                       "shared_expert_intermediate_size": 8, ")" +
                                    name + R"(": 4)")),
                "")
          << name << ", " << family;
    }
  }
}

TEST(Config, GenerationConfigJoinsTheEndTokens) {
  const TestFolder folder;
  folder.write("config.json", tiny_config("\"eos_token_id\": 2, \"bos_token_id\": 1"));
  folder.write("generation_config.json",
               R"({"eos_token_id": [2, 7], "temperature": 0.6, "top_p": 0.9, "do_sample": false,
                   "top_k": 20})");
  LoadOptions options;
  options.format = LoadFormat::dummy;
  const auto opened = ModelFolder::open(folder.path(), options);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_THAT((*opened)->facts().eos_tokens, ElementsAre(2, 7));
  EXPECT_EQ((*opened)->facts().bos_token, 1);
  EXPECT_FLOAT_EQ((*opened)->defaults().temperature, 0.6F);
  EXPECT_EQ((*opened)->defaults().top_k, 20);
  EXPECT_TRUE((*opened)->defaults().greedy);
  folder.write("generation_config.json", R"({"repetition_penalty": 0})");
  EXPECT_THAT(ModelFolder::open(folder.path(), options).status().message(),
              HasSubstr("generation_config.json: repetition_penalty must be from"));
  folder.write("generation_config.json", R"({"top_p": 1.5})");
  EXPECT_THAT(ModelFolder::open(folder.path(), options).status().message(),
              HasSubstr("generation_config.json: top_p must be from 0.000001 to 1, is 1.5"));
  folder.write("generation_config.json", R"({"top_p": 0})");
  EXPECT_THAT(ModelFolder::open(folder.path(), options).status().message(),
              HasSubstr("generation_config.json: top_p must be from 0.000001 to 1, is 0"));
}

TEST(Config, OptionsAreChecked) {
  const TestFolder folder;
  folder.write("config.json", tiny_config());
  const auto with = [&](auto change) {
    LoadOptions options;
    options.format = LoadFormat::dummy;
    change(options);
    return ModelFolder::open(folder.path(), options).status().message();
  };
  EXPECT_THAT(with([](LoadOptions& o) { o.dtype = "f64"; }),
              HasSubstr("dtype is \"f64\", must be auto"));
  EXPECT_THAT(with([](LoadOptions& o) { o.kv_dtype = "int3"; }), HasSubstr("kv_dtype is \"int3\""));
  EXPECT_THAT(with([](LoadOptions& o) { o.ranks = 0; }), HasSubstr("ranks is 0"));
  EXPECT_THAT(with([](LoadOptions& o) { o.ranks = 3; }), HasSubstr("which 3 does not divide"));
  EXPECT_THAT(with([](LoadOptions& o) { o.context_length = 65; }),
              HasSubstr("context_length is 65, the model's own is 64"));
  EXPECT_THAT(ModelFolder::open("/nowhere/at/all", {}).status().message(),
              HasSubstr("is not a folder"));
}

}  // namespace
}  // namespace troupe::models
