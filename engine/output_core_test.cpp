// From outputs to events: text, stop strings, tables, the one terminal event.
#include "engine/output_core.hpp"

#include <gtest/gtest.h>

#include "engine/echo.hpp"

namespace troupe::engine {
namespace {

class Keeper final : public EventSink {
 public:
  void push(Event&& event) override { events.push_back(std::move(event)); }
  std::vector<Event> events;
};

struct Desk {
  Desk() : core(text) {}
  void open(OutputSpec spec) {
    spec.id = 1;
    spec.user_data = 99;
    core.open(std::move(spec), sink);
  }
  void say(std::string_view words, int32_t choice = 0) {
    for (const char c : words) {
      out.tokens.push_back({1, choice, next[choice]++, static_cast<uint8_t>(c), -0.5F, 1, 0, 0});
    }
  }
  void finish(FinishReason reason, int32_t stop_token = -1, int32_t choice = 0) {
    out.choices.push_back({1, choice, reason, stop_token});
  }
  void end(EventKind kind = EventKind::done, Status status = {}) {
    RequestEnd e;
    e.request = 1;
    e.kind = kind;
    e.status = std::move(status);
    e.usage.completion_tokens = 1000;  // the scheduler may not know of a stop string yet
    out.requests.push_back(std::move(e));
  }
  void take() {
    core.take(out, cuts);
    out.clear();
  }
  [[nodiscard]] std::string said(int32_t choice = 0) const {
    std::string all;
    for (const Event& e : events) {
      if (e.kind == EventKind::tokens && e.index == choice) all += e.text;
    }
    return all;
  }

  EchoText text;
  OutputCore core;
  Outputs out;
  std::shared_ptr<Keeper> sink = std::make_shared<Keeper>();
  std::vector<Event>& events = sink->events;
  std::vector<Cut> cuts;
  int32_t next[2] = {0, 0};
};

TEST(OutputCore, TextTokensAndOneEnd) {
  Desk d;
  d.open({});
  d.say("hel");
  d.take();
  d.say("lo");
  d.finish(FinishReason::length);
  d.end();
  d.take();
  ASSERT_EQ(d.events.size(), 3U);
  EXPECT_EQ(d.said(), "hello");
  EXPECT_EQ(d.events[1].from, 3);
  EXPECT_EQ(d.events[1].finish, FinishReason::length) << "INV-EVENT-3";
  EXPECT_EQ(d.events[2].kind, EventKind::done);
  EXPECT_EQ(d.events[2].finish, FinishReason::length);
  EXPECT_EQ(d.events[2].user_data, 99U);
  EXPECT_EQ(d.events[2].usage.completion_tokens, 5);
  EXPECT_EQ(d.core.live(), 0U);
}

TEST(OutputCore, CharactersAreNeverCut) {
  Desk d;
  d.open({});
  d.say("\xE4\xB8");
  d.take();
  EXPECT_EQ(d.said(), "");
  EXPECT_EQ(d.events[0].tokens.size(), 2U) << "raw ids are always given";
  d.say("\x96!");
  d.take();
  EXPECT_EQ(d.said(), "世!");
  d.say("\xE4");
  d.finish(FinishReason::length);
  d.end();
  d.take();
  EXPECT_EQ(d.said(), "世!\xEF\xBF\xBD");
}

TEST(OutputCore, AStopStringCutsAndSilences) {
  for (const bool include : {false, true}) {
    Desk d;
    OutputSpec spec;
    spec.stop = {"END"};
    spec.include_stop = include;
    d.open(spec);
    d.say("abE");
    d.take();
    EXPECT_EQ(d.said(), "ab") << "held back: it may be the beginning of a stop string";
    d.say("NDxyz");
    d.take();
    EXPECT_EQ(d.said(), include ? "abEND" : "ab");
    ASSERT_EQ(d.cuts.size(), 1U);
    EXPECT_EQ(d.cuts[0].keep, 5);
    EXPECT_EQ(d.events.back().finish, FinishReason::stop);
    EXPECT_EQ(d.events.back().stop_text, "END");
    const size_t before = d.events.size();
    d.say("more");
    d.take();
    EXPECT_EQ(d.events.size(), before);
    d.finish(FinishReason::stop);
    d.end();
    d.take();
    EXPECT_EQ(d.events.size(), before + 1);
    EXPECT_EQ(d.events.back().stop_text, "END");
    EXPECT_EQ(d.events.back().usage.completion_tokens, 5);
  }
}

TEST(OutputCore, WhatOnlyLookedLikeAStopStringComesOut) {
  Desk d;
  OutputSpec spec;
  spec.stop = {"END"};
  d.open(spec);
  d.say("abEN");
  d.finish(FinishReason::length);
  d.end();
  d.take();
  EXPECT_EQ(d.said(), "abEN");
  EXPECT_TRUE(d.cuts.empty());
}

TEST(OutputCore, AStopTokenIsGivenAndNotShown) {
  for (const bool include : {false, true}) {
    Desk d;
    OutputSpec spec;
    spec.include_stop = include;
    d.open(spec);
    d.say("hey.");
    d.finish(FinishReason::stop, '.');
    d.end();
    d.take();
    EXPECT_EQ(d.said(), include ? "hey." : "hey");
    EXPECT_EQ(d.events[0].tokens.size(), 4U);
    EXPECT_EQ(d.events.back().stop_token, '.');
  }
}

TEST(OutputCore, TablesHaveARowPerToken) {
  Desk d;
  OutputSpec spec;
  spec.logprobs = spec.prompt_logprobs = true;
  d.open(spec);
  d.out.scores = {{1, 1, 'b', -1.5F, 7, 0, 2}};
  d.out.tops = {{'x', -0.1F}, {'y', -0.2F}, {'z', -0.3F}};
  d.take();
  EXPECT_TRUE(d.events.empty());
  d.out.tops = {{'x', -0.1F}};
  d.out.tokens = {{1, 0, 0, 'c', -0.5F, 2, 0, 1}};
  d.take();
  ASSERT_EQ(d.events.size(), 1U);
  const Event& e = d.events[0];
  ASSERT_EQ(e.prompt_logprobs.size(), 2U);
  EXPECT_TRUE(e.prompt_logprobs[0].empty());
  ASSERT_EQ(e.prompt_logprobs[1].size(), 3U);
  EXPECT_EQ(e.prompt_logprobs[1][0].token, 'b');
  EXPECT_EQ(e.prompt_logprobs[1][0].rank, 7);
  EXPECT_EQ(e.prompt_logprobs[1][1].token, 'x');
  EXPECT_EQ(e.logprobs, std::vector<float>{-0.5F});
  ASSERT_EQ(e.top_logprobs.size(), 1U);
  EXPECT_EQ(e.top_logprobs[0][0].token, 'x');
}

TEST(OutputCore, CancelledAndFailedSayWhatTheyStillHold) {
  Desk d;
  OutputSpec spec;
  spec.stop = {"END"};
  spec.choices = 2;
  d.open(spec);
  d.say("abE", 0);
  d.say("yes", 1);
  d.take();
  d.finish(FinishReason::length, -1, 1);
  d.end(EventKind::cancelled, Status(Code::cancelled, "by the caller"));
  d.take();
  EXPECT_EQ(d.said(0), "abE");
  EXPECT_EQ(d.said(1), "yes");
  EXPECT_EQ(d.events.back().kind, EventKind::cancelled);
  EXPECT_EQ(d.events.back().finish, FinishReason::cancelled);
  EXPECT_EQ(d.events.back().status.message(), "by the caller");
}

}  // namespace
}  // namespace troupe::engine
