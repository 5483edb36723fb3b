// Where tokens stand in a text.

#include "openai/text_places.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace troupe::openai {
namespace {

using testing::ElementsAre;

std::vector<size_t> places(std::string_view text, const std::vector<std::string_view>& tokens) {
  TextPlaces in(text);
  std::vector<size_t> out;
  for (const std::string_view token : tokens) out.push_back(in.next(token));
  return out;
}

TEST(TextPlaces, TokensThatAreNotInTheTextTakeNoRoom) {
  EXPECT_THAT(places("One plus", {"<|begin|>", "One", " plus", "<|end|>"}),
              ElementsAre(0, 0, 3, 8));
}

TEST(TextPlaces, CountCharactersNotBytes) {
  EXPECT_THAT(places("h\u00E9llo \U0001F600!", {"h\u00E9", "llo", " \U0001F600", "!"}),
              ElementsAre(0, 2, 5, 7));
}

TEST(TextPlaces, PartsOfACharacterStandWhereItDoes) {
  const std::string_view part = "\uFFFD";
  EXPECT_THAT(places("a\u20AC\u20ACb c", {"a", part, part, part, part, part, part, "b", " c"}),
              ElementsAre(0, 1, 1, 1, 1, 1, 1, 3, 4));
}

TEST(TextPlaces, ATokenAloneMayHaveDroppedItsSpace) {
  EXPECT_THAT(places("One plus two", {"One", "plus", "two"}), ElementsAre(0, 4, 9));
}

TEST(TextPlaces, DoNotRunAwayFromATextThatSaysSomethingElse) {
  EXPECT_THAT(places("one two one", {"zzz", "two", "one"}), ElementsAre(0, 0, 0));
}

}  // namespace
}  // namespace troupe::openai
