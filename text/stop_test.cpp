// Stop strings: where they match, what is held back, and that chunking changes nothing.
#include "text/stop.hpp"

#include <gtest/gtest.h>

#include <random>

#include "base/limits.hpp"

namespace troupe::text {
namespace {

StopMatcher matcher(std::vector<std::string> stops, bool include = false, int64_t min_tokens = 0) {
  return std::move(StopMatcher::create({std::move(stops), include, min_tokens})).value();
}

TEST(StopMatcher, ShowsTextThatCannotBeginAStopString) {
  auto stop = matcher({"END"});
  std::string out;
  EXPECT_EQ(stop.push("hello E", 1, out), nullptr);
  EXPECT_EQ(out, "hello ");
  EXPECT_EQ(stop.push("N", 2, out), nullptr);
  EXPECT_EQ(out, "hello ");
  EXPECT_EQ(stop.push("T", 3, out), nullptr);
  EXPECT_EQ(out, "hello ENT");
  EXPECT_EQ(stop.push("EN", 4, out), nullptr);
  stop.finish(out);
  EXPECT_EQ(out, "hello ENTEN");
  EXPECT_EQ(stop.text_bytes(), 11);
}

TEST(StopMatcher, CutsAtTheMatchAndNamesTheToken) {
  auto stop = matcher({"zzz", "\n\n"});
  std::string out;
  EXPECT_EQ(stop.push("one\n", 5, out), nullptr);
  const StopMatch* match = stop.push("\ntwo", 6, out);
  ASSERT_NE(match, nullptr);
  EXPECT_EQ(match->stop, 1);
  EXPECT_EQ(match->tokens, 6);
  EXPECT_EQ(match->text_bytes, 3);
  EXPECT_EQ(out, "one");
  EXPECT_EQ(stop.push("more", 7, out), match);
  stop.finish(out);
  EXPECT_EQ(out, "one");
}

TEST(StopMatcher, KeepsTheStopStringWhenAsked) {
  auto stop = matcher({"</s>"}, true);
  std::string out;
  ASSERT_NE(stop.push("ab</s>cd", 1, out), nullptr);
  EXPECT_EQ(out, "ab</s>");
  EXPECT_EQ(stop.match()->text_bytes, 6);
}

TEST(StopMatcher, TakesTheFirstToBeCompleteAndOfThoseTheLongest) {
  auto stop = matcher({"cd", "bcd", "abcde"});
  std::string out;
  ASSERT_NE(stop.push("abcdef", 1, out), nullptr);
  EXPECT_EQ(stop.match()->stop, 1);
  EXPECT_EQ(out, "a");
}

TEST(StopMatcher, FindsOverlappingBeginnings) {
  auto stop = matcher({"aab"});
  std::string out;
  ASSERT_NE(stop.push("aaaab", 1, out), nullptr);
  EXPECT_EQ(out, "aa");
}

TEST(StopMatcher, DoesNotStopBeforeTheMinimum) {
  auto stop = matcher({"x"}, false, 2);
  std::string out;
  EXPECT_EQ(stop.push("x", 1, out), nullptr);
  EXPECT_EQ(stop.push("x", 2, out), nullptr);
  EXPECT_EQ(out, "xx");
  EXPECT_NE(stop.push("x", 3, out), nullptr);
  EXPECT_EQ(out, "xx");
}

TEST(StopMatcher, IsTheSameForEveryChunking) {
  std::mt19937 random(5);
  for (int round = 0; round < 2000; ++round) {
    std::string text(std::uniform_int_distribution<size_t>(0, 40)(random), 'a');
    for (char& c : text) c = "ab"[random() % 2];
    std::vector<std::string> stops(1 + random() % 3);
    for (std::string& stop : stops) {
      stop.assign(1 + random() % 4, 'a');
      for (char& c : stop) c = static_cast<char>('a' + random() % 2);
    }
    auto whole = matcher(stops), chunked = matcher(stops);
    std::string expected, out;
    whole.push(text, 1, expected);
    whole.finish(expected);
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % 5;
      chunked.push(std::string_view(text).substr(at, size), 1, out);
      at += size;
    }
    chunked.finish(out);
    ASSERT_EQ(out, expected) << text;
    ASSERT_EQ(whole.match().has_value(), chunked.match().has_value());
    // Against the definition: the least end of any occurrence, the longest of those.
    size_t end = std::string::npos;
    for (const std::string& stop : stops) {
      if (const size_t at = text.find(stop); at != std::string::npos) end = std::min(end, at + stop.size());
    }
    ASSERT_EQ(whole.match().has_value(), end != std::string::npos) << text;
    if (whole.match()) {
      size_t longest = 0;
      for (const std::string& stop : stops) {
        if (end >= stop.size() && text.compare(end - stop.size(), stop.size(), stop) == 0) {
          longest = std::max(longest, stop.size());
        }
      }
      ASSERT_EQ(expected, text.substr(0, end - longest));
    }
  }
}

TEST(StopMatcher, RefusesWhatItCannotUse) {
  EXPECT_EQ(StopMatcher::create({{""}}).status().code(), Code::invalid);
  EXPECT_EQ(StopMatcher::create({{"ok", "\xFF"}}).status().code(), Code::invalid);
  EXPECT_NE(StopMatcher::create({{"ok", "\xFF"}}).status().message().find("stop[1]"), std::string::npos);
  EXPECT_EQ(StopMatcher::create({std::vector<std::string>(limits::stop_strings + 1, "x")}).status().code(),
            Code::limit);
  EXPECT_EQ(StopMatcher::create({{std::string(limits::stop_string_bytes + 1, 'x')}}).status().code(),
            Code::limit);
}

}  // namespace
}  // namespace troupe::text
