// Streaming against decoding as a whole: any ids, any chunking, any rewind.
#include "text/detokenizer.hpp"

#include <gtest/gtest.h>

#include <random>

#include "text/test_folder.hpp"
#include "text/tokenizer.hpp"
#include "text/utf8.hpp"

namespace troupe::text {
namespace {

using Ids = std::vector<int32_t>;

std::unique_ptr<Tokenizer> load(const std::string& name) {
  return std::move(Tokenizer::load(kGolden + "/tokenizers/" + name)).value();
}

class AnyFolder : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { tokenizer_ = load(GetParam()); }

  Ids random_ids(std::mt19937& random) const {
    std::uniform_int_distribution<int32_t> id(-2, tokenizer_->vocab_size() + 3);
    Ids ids(std::uniform_int_distribution<size_t>(0, 60)(random));
    for (int32_t& value : ids) value = id(random);
    return ids;
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(AnyFolder, StreamsTheDecodedTextInWholeCharacters) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    const Ids ids = random_ids(random);
    const bool skip = round % 2 == 0;
    Detokenizer detokenizer(*tokenizer_, {.skip_special_tokens = skip, .whole_runs = true});
    std::string text;
    for (const int32_t id : ids) {
      std::string piece;
      detokenizer.push(id, piece);
      EXPECT_EQ(find_invalid_utf8(piece), std::string::npos);
      text += piece;
      ASSERT_EQ(detokenizer.text_bytes(), static_cast<int64_t>(text.size()));
    }
    detokenizer.finish(text);
    ASSERT_EQ(text, tokenizer_->decode(ids, skip).value());
  }
}

TEST_P(AnyFolder, RewindsToAnyToken) {
  std::mt19937 random(12);
  for (int round = 0; round < 200; ++round) {
    const Ids ids = random_ids(random);
    Detokenizer detokenizer(*tokenizer_, {.skip_special_tokens = false});
    std::string text;
    std::vector<std::string> after{""};
    for (const int32_t id : ids) {
      detokenizer.push(id, text);
      after.push_back(text);
    }
    const auto back = std::uniform_int_distribution<size_t>(0, ids.size())(random);
    detokenizer.rewind(static_cast<int64_t>(back));
    ASSERT_EQ(detokenizer.tokens(), static_cast<int64_t>(back));
    ASSERT_EQ(detokenizer.text_bytes(), static_cast<int64_t>(after[back].size()));
    text.resize(static_cast<size_t>(detokenizer.text_bytes()));
    for (size_t at = back; at < ids.size(); ++at) {
      detokenizer.push(ids[at], text);
      ASSERT_EQ(text, after[at + 1]);
    }
  }
}

TEST_P(AnyFolder, ReturnsEncodedText) {
  for (const std::string text : {"hello world", "def f(x):\n  return x + 1", "numbers 12 345"}) {
    const Ids ids = tokenizer_->encode(text, false).value();
    if (GetParam() == "wordpiece_json" || GetParam() == "unigram_json" || GetParam() == "spm_unigram") continue;
    EXPECT_EQ(tokenizer_->decode(ids, true).value(), text);
  }
}

INSTANTIATE_TEST_SUITE_P(Folders, AnyFolder, testing::ValuesIn(folders_in(kGolden + "/tokenizers")),
                         [](const auto& param) { return param.param; });

std::vector<std::string> pieces_of(const Tokenizer& tokenizer, const Ids& ids, DetokenizerOptions options = {}) {
  Detokenizer detokenizer(tokenizer, options);
  std::vector<std::string> pieces;
  for (const int32_t id : ids) detokenizer.push(id, pieces.emplace_back());
  detokenizer.finish(pieces.emplace_back());
  return pieces;
}

Ids byte_ids(const Tokenizer& tokenizer, std::string_view bytes) {
  Ids ids;
  for (const char c : bytes) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(static_cast<uint8_t>(c)));
    ids.push_back(tokenizer.id_of(name));
  }
  return ids;
}

TEST(Detokenizer, HoldsACharacterUntilItIsWhole) {
  const auto tokenizer = load("gpt2");
  const Ids ids = tokenizer->encode("😀", false).value();
  ASSERT_EQ(ids.size(), 4U);
  EXPECT_EQ(pieces_of(*tokenizer, ids), (std::vector<std::string>{"", "", "", "😀", ""}));
  EXPECT_EQ(pieces_of(*tokenizer, {ids[0], ids[1]}), (std::vector<std::string>{"", "", "\uFFFD"}));
}

TEST(Detokenizer, LetsALongRunOfBytesFlow) {
  const auto tokenizer = load("spm");
  std::string text;
  for (int i = 0; i < 20; ++i) text += "ಠ";
  const Ids ids = byte_ids(*tokenizer, text);
  const auto pieces = pieces_of(*tokenizer, ids);
  std::string flowed;
  size_t waited = 0;
  for (size_t at = 0; at < pieces.size(); ++at) {
    if (flowed.empty() && pieces[at].empty()) waited = at + 1;
    flowed += pieces[at];
    EXPECT_LE(std::min(at + 1, ids.size()) - flowed.size(), 17U);
  }
  EXPECT_EQ(flowed, text);
  EXPECT_LE(waited, 17U);
}

TEST(Detokenizer, TurnsABrokenRunOfBytesIntoOneMarkPerByte) {
  const auto tokenizer = load("spm");
  EXPECT_EQ(tokenizer->decode(byte_ids(*tokenizer, "ab\xFF" "c"), false).value(),
            "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(tokenizer->decode(byte_ids(*tokenizer, "\xE4\xBD"), false).value(), "\uFFFD\uFFFD");
}

TEST(Detokenizer, KeepsTheSpaceOfATextThatGoesOn) {
  const auto tokenizer = load("spm");
  const Ids ids = tokenizer->encode("world", false).value();
  const auto joined = [](const std::vector<std::string>& pieces) {
    std::string text;
    for (const std::string& piece : pieces) text += piece;
    return text;
  };
  EXPECT_EQ(joined(pieces_of(*tokenizer, ids)), "world");
  EXPECT_EQ(joined(pieces_of(*tokenizer, ids, {.continues_text = true})), " world");
}

TEST(Detokenizer, TokenBytesJoinToTheText) {
  const auto tokenizer = load("qwen");
  std::string bytes;
  const Ids ids = tokenizer->encode("日本 the 😀", false).value();
  for (const int32_t id : ids) bytes += tokenizer->token_bytes(id);
  EXPECT_EQ(bytes, "日本 the 😀");
}

TEST(Utf8, FindsTheFirstBrokenByte) {
  EXPECT_EQ(find_invalid_utf8(""), std::string::npos);
  EXPECT_EQ(find_invalid_utf8("aé日😀"), std::string::npos);
  EXPECT_EQ(find_invalid_utf8("a\x80"), 1U);
  EXPECT_EQ(find_invalid_utf8("\xE0\x9F\xBF"), 0U);      // overlong
  EXPECT_EQ(find_invalid_utf8("ab\xED\xA0\x80"), 2U);    // surrogate
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80"), 0U);  // beyond U+10FFFF
  EXPECT_EQ(find_invalid_utf8("x\xF0\x9F\x98"), 1U);     // cut off
}

}  // namespace
}  // namespace troupe::text
