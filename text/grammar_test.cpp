// Output grammars: random walks along the mask give texts that keep to the grammar, and only those.
#include "text/grammar.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "text/test_folder.hpp"
#include "text/tokenizer.hpp"

namespace troupe::text {
namespace {

// (ab|[0-9]{2,5}-[xyz]+!), by hand: <regex> does not compile without warnings under the sanitizers.
bool fits(const std::string& text) {
  if (text == "ab") return true;
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (digits < 2 || digits > 5 || digits == text.size() || text[digits] != '-') return false;
  const size_t letters = text.find_first_not_of("xyz", digits + 1);
  return letters != std::string::npos && letters > digits + 1 && text.substr(letters) == "!";
}

class GrammarOf : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    tokenizer_ = std::move(Tokenizer::load(kGolden + "/tokenizers/" + GetParam())).value();
    eos_ = tokenizer_->eos_id();
    vocab_size_ = tokenizer_->vocab_size() + 37;  // models pad
    compiler_ = std::move(GrammarCompiler::create(*tokenizer_, vocab_size_, std::span(&eos_, 1))).value();
  }

  // The text of a random walk; empty when it was still going on after `steps`.
  std::string walk(GrammarKind kind, std::string_view text, std::mt19937& random, int steps = 400) {
    const auto grammar = std::move(compiler_->compile(kind, text)).value();
    std::vector<uint32_t> bits(static_cast<size_t>(vocab_size_ + 31) / 32);
    std::vector<int32_t> ids;
    for (int step = 0; step < steps; ++step) {
      EXPECT_TRUE(grammar->mask(bits).ok());
      std::vector<int32_t> allowed;
      for (int32_t id = 0; id < vocab_size_; ++id) {
        if ((bits[static_cast<size_t>(id) / 32] >> (id % 32) & 1U) != 0) allowed.push_back(id);
      }
      EXPECT_FALSE(allowed.empty());
      if (allowed.empty()) return {};
      const bool may_end = std::find(allowed.begin(), allowed.end(), eos_) != allowed.end();
      const int32_t id = may_end ? eos_ : allowed[random() % allowed.size()];
      EXPECT_LT(id, tokenizer_->vocab_size());
      const Status committed = grammar->commit(id);
      EXPECT_TRUE(committed.ok()) << committed.message();
      if (id == eos_) {
        EXPECT_TRUE(grammar->finished());
        std::string out;
        for (const int32_t token : ids) out += tokenizer_->token_bytes(token);
        return out;
      }
      ids.push_back(id);
    }
    return {};
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<GrammarCompiler> compiler_;
  int32_t eos_ = -1, vocab_size_ = 0;
};

TEST_P(GrammarOf, KeepsToARegularExpression) {
  std::mt19937 random(1);
  for (int i = 0; i < 30; ++i) {
    const std::string text = walk(GrammarKind::regex, "(ab|[0-9]{2,5}-[xyz]+!)", random);
    EXPECT_TRUE(fits(text)) << text;
  }
}

TEST_P(GrammarOf, KeepsToAJsonSchema) {
  std::mt19937 random(2);
  constexpr std::string_view kSchema =
      R"({"type": "object", "properties": {"kind": {"enum": ["a", "b"]}, "n": {"type": "integer",
          "minimum": 0, "maximum": 99}}, "required": ["kind", "n"], "additionalProperties": false})";
  int whole = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string text = walk(GrammarKind::json_schema, kSchema, random);
    if (text.empty()) continue;  // some walks go on with white space
    ++whole;
    const auto value = nlohmann::json::parse(text);
    EXPECT_TRUE(value["kind"] == "a" || value["kind"] == "b") << text;
    EXPECT_LE(value["n"].get<int>(), 99);
    EXPECT_EQ(value.size(), 2U);
  }
  EXPECT_GT(whole, 0);
}

TEST_P(GrammarOf, KeepsToAChoice) {
  std::mt19937 random(3);
  for (int i = 0; i < 20; ++i) {
    const std::string text = walk(GrammarKind::choice, R"(["yes", "no \"quoted\"", "日本"])", random);
    EXPECT_TRUE(text == "yes" || text == "no \"quoted\"" || text == "日本") << text;
  }
}

TEST_P(GrammarOf, GoesBack) {
  const auto grammar = std::move(compiler_->compile(GrammarKind::regex, "[ab]{3}")).value();
  std::vector<uint32_t> before(static_cast<size_t>(vocab_size_ + 31) / 32), after = before;
  ASSERT_TRUE(grammar->mask(before).ok());
  ASSERT_TRUE(grammar->commit(tokenizer_->id_of("a")).ok());
  ASSERT_TRUE(grammar->rollback(1).ok());
  ASSERT_TRUE(grammar->mask(after).ok());
  EXPECT_EQ(before, after);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(grammar->commit(tokenizer_->id_of("b")).ok());
  EXPECT_TRUE(grammar->finished());
  ASSERT_TRUE(grammar->commit(eos_).ok());
  ASSERT_TRUE(grammar->rollback(4).ok());
  EXPECT_FALSE(grammar->finished());
  ASSERT_TRUE(grammar->mask(after).ok());
  EXPECT_EQ(before, after);
  EXPECT_FALSE(grammar->commit(tokenizer_->id_of("c")).ok());
}

INSTANTIATE_TEST_SUITE_P(Folders, GrammarOf, testing::Values("llama3", "spm", "glm4"),
                         [](const auto& param) { return param.param; });

TEST(GrammarCompiler, RefusesWhatDoesNotCompile) {
  const auto tokenizer = std::move(Tokenizer::load(kGolden + "/tokenizers/llama3")).value();
  const int32_t eos = tokenizer->eos_id(), far = 1 << 20;
  EXPECT_EQ(GrammarCompiler::create(*tokenizer, 500, {}).status().code(), Code::invalid);
  EXPECT_EQ(GrammarCompiler::create(*tokenizer, 500, std::span(&far, 1)).status().code(), Code::invalid);
  const auto compiler =
      std::move(GrammarCompiler::create(*tokenizer, tokenizer->vocab_size(), std::span(&eos, 1))).value();
  const std::pair<GrammarKind, const char*> cases[] = {
      {GrammarKind::regex, "(unclosed"},  {GrammarKind::json_schema, "{\"type\":"},
      {GrammarKind::json_schema, "{\"type\": \"nonsense\"}"}, {GrammarKind::lark, "no grammar ::"},
      {GrammarKind::choice, "[]"},        {GrammarKind::choice, "\"a\""},
      {GrammarKind::choice, "[\"\"]"},    {GrammarKind::regex, "\xFF"},
  };
  for (const auto& [kind, text] : cases) {
    const auto grammar = compiler->compile(kind, text);
    ASSERT_FALSE(grammar.ok()) << text;
    EXPECT_EQ(grammar.status().code(), Code::invalid) << grammar.status().message();
  }
}

}  // namespace
}  // namespace troupe::text
