// Tokenizers against the answers of the reference (tests/golden/text.py), and what bad input gets.
#include "text/tokenizer.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/limits.hpp"
#include "text/detokenizer.hpp"
#include "text/test_folder.hpp"

namespace troupe::text {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

std::unique_ptr<Tokenizer> load(const std::string& folder) {
  auto tokenizer = Tokenizer::load(folder);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer.ok() ? std::move(tokenizer).value() : nullptr;
}

std::string stream(const Tokenizer& tokenizer, const Ids& ids, bool skip) {
  Detokenizer detokenizer(tokenizer, {.skip_special_tokens = skip, .whole_runs = true});
  std::string text;
  for (const int32_t id : ids) detokenizer.push(id, text);
  detokenizer.finish(text);
  return text;
}

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string folder = kGolden + "/tokenizers/" + GetParam();
    tokenizer_ = load(folder);
    ASSERT_NE(tokenizer_, nullptr);
    cases_ = json::parse(slurp(folder + "/cases.json"));
  }
  std::unique_ptr<Tokenizer> tokenizer_;
  json cases_;
};

TEST_P(Golden, EncodesAsTheReference) {
  for (const json& entry : cases_["encode"]) {
    const std::string text = entry["text"];
    EXPECT_EQ(tokenizer_->encode(text, false).value(), entry["ids"].get<Ids>()) << json(text);
    EXPECT_EQ(tokenizer_->encode(text, true).value(), entry["with_special"].get<Ids>()) << json(text);
    if (entry.contains("literal")) {
      EXPECT_EQ(tokenizer_->encode(text, false, false).value(), entry["literal"].get<Ids>()) << json(text);
    }
  }
}

// By far: never of a text that fits, and at once of one that does not.
TEST_P(Golden, TellsFromPiecesThatATextIsFarTooLong) {
  std::string all;
  for (const json& entry : cases_["encode"]) all += entry["text"].get<std::string>() + "\n";
  std::string much;
  while (much.size() < 200'000) much += all;
  for (const std::string& text : {all, much, std::string(100'000, ' '), std::string(100'000, 'a')}) {
    const size_t tokens = tokenizer_->encode(text, false).value().size();
    EXPECT_FALSE(tokenizer_->far_longer_than(tokens, text)) << json(text.substr(0, 40));
  }
  EXPECT_TRUE(tokenizer_->far_longer_than(256, much));
  EXPECT_FALSE(tokenizer_->far_longer_than(256, "short"));
  EXPECT_FALSE(tokenizer_->far_longer_than(256, std::string(100'000, '\xFF'))) << "ill-formed: encode says so";
}

TEST_P(Golden, DecodesAsTheReference) {
  for (const json& entry : cases_["decode"]) {
    const Ids ids = entry["ids"];
    EXPECT_EQ(tokenizer_->decode(ids, false).value(), entry["text"]) << entry["ids"];
    EXPECT_EQ(tokenizer_->decode(ids, true).value(), entry["skipped"]) << entry["ids"];
  }
}

TEST_P(Golden, StreamsWhatItDecodes) {
  for (const json& entry : cases_["decode"]) {
    const Ids ids = entry["ids"];
    EXPECT_EQ(stream(*tokenizer_, ids, false), entry["text"]) << entry["ids"];
    EXPECT_EQ(stream(*tokenizer_, ids, true), entry["skipped"]) << entry["ids"];
  }
}

TEST_P(Golden, KnowsItsTokens) {
  EXPECT_EQ(tokenizer_->vocab_size(), cases_["vocab_size"].get<int32_t>());
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    EXPECT_EQ(tokenizer_->id_of(tokenizer_->token_name(id)), id) << tokenizer_->token_name(id);
  }
  EXPECT_EQ(tokenizer_->token_bytes(-1), "");
  EXPECT_EQ(tokenizer_->token_bytes(tokenizer_->vocab_size()), "");
  EXPECT_EQ(tokenizer_->id_of("no such token"), -1);
}

INSTANTIATE_TEST_SUITE_P(Folders, Golden, testing::ValuesIn(folders_in(kGolden + "/tokenizers")),
                         [](const auto& param) { return param.param; });

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const auto tokenizer = load(kGolden + "/tokenizers/gpt2");
  for (const char* bad : {"ok \xFF", "\xE4\xBD", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80"}) {
    const auto ids = tokenizer->encode(bad, false);
    ASSERT_FALSE(ids.ok());
    EXPECT_EQ(ids.status().code(), Code::invalid);
    EXPECT_NE(ids.status().message().find("UTF-8 at byte"), std::string::npos);
  }
}

TEST(Tokenizer, RefusesTextBeyondTheLimit) {
  const auto tokenizer = load(kGolden + "/tokenizers/gpt2");
  const auto ids = tokenizer->encode(std::string(limits::prompt_bytes + 1, 'a'), false);
  ASSERT_FALSE(ids.ok());
  EXPECT_EQ(ids.status().code(), Code::limit);
}

TEST(Tokenizer, NamesTheFolderWithoutATokenizer) {
  TestFolder folder;
  const auto tokenizer = Tokenizer::load(folder.path());
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.status().code(), Code::not_found);
  EXPECT_NE(tokenizer.status().message().find(folder.path()), std::string::npos);
}

TEST(Tokenizer, NamesTheFileThatIsBroken) {
  const std::pair<const char*, const char*> files[] = {
      {"tokenizer.json", "{\"model\": 1"},
      {"tokenizer.json", "{}"},
      {"tokenizer.json", ""},
      {"tokenizer.model", "not a model \x01\x02"},
      {"tokenizer.model", ""},
      {"tokenizer.model", "aGVsbG8= 1\n%%%% 2\n"},
      {"x.tiktoken", "aGVsbG8= 99999999999\n"},
      {"x.tiktoken", "aGVsbG8= 1\naGVsbG8= 2\n"},
  };
  for (const auto& [name, content] : files) {
    TestFolder folder;
    folder.write(name, content);
    const auto tokenizer = Tokenizer::load(folder.path());
    ASSERT_FALSE(tokenizer.ok()) << name << ": " << content;
    EXPECT_EQ(tokenizer.status().code(), Code::corrupt_model) << tokenizer.status().message();
    EXPECT_NE(tokenizer.status().message().find(name), std::string::npos) << tokenizer.status().message();
  }
}

TEST(Tokenizer, NamesTheConfigurationThatIsBroken) {
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  const std::pair<const char*, std::string> files[] = {
      {"tokenizer_config.json", "[]"},
      {"tokenizer_config.json", "{\"chat_template\": " + deep + "}"},
      {"tokenizer_config.json", "{\"chat_template\": 7}"},
      {"special_tokens_map.json", "{\"additional_special_tokens\": " + deep + "}"},
      {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"a\"}}}"},
      {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"3\": 4}}"},
      {"tokenizer_config.json", "{\"chat_template\": [1]}"},
  };
  for (const auto& [name, content] : files) {
    TestFolder folder;
    folder.copy(kGolden + "/tokenizers/gpt2").write(name, content);
    const auto tokenizer = Tokenizer::load(folder.path());
    ASSERT_FALSE(tokenizer.ok()) << content;
    EXPECT_EQ(tokenizer.status().code(), Code::corrupt_model);
    EXPECT_NE(tokenizer.status().message().find(name), std::string::npos) << tokenizer.status().message();
  }
}

TEST(Tokenizer, IsUsedByManyThreads) {
  const auto tokenizer = load(kGolden + "/tokenizers/llama3");
  const Ids expected = tokenizer->encode("<|eot_id|> hello world, 日本", true).value();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        wrong += tokenizer->encode("<|eot_id|> hello world, 日本", true).value() != expected;
        wrong += !tokenizer->encode("<|eot_id|>", false, t % 2 == 0).ok();
        wrong += tokenizer->decode(expected, true).value() != " hello world, 日本";
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

}  // namespace
}  // namespace troupe::text
