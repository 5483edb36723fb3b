// How long who asks waits for a server that says nothing, and what becomes of what was asked: it
// must not run on as an orphan, and its submitter alone is told.
#include <gtest/gtest.h>

#include "wire/test_world.hpp"

namespace troupe::wire {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000 * kMs;

class WirePatience : public ::testing::Test {
 protected:
  WirePatience() : client(world.add_client()) { world.rounds(3); }

  void submit(Request request) {
    begun_ns = world.now_ns;
    sink = world.submit(client, std::move(request), outcome);
  }
  [[nodiscard]] bool pending() const { return outcome->code() == Code::internal; }
  double seconds_until_told(int64_t most_ns = 100 * kSecond) {
    while (pending() && world.now_ns - begun_ns < most_ns) world.round();
    return static_cast<double>(world.now_ns - begun_ns) / 1e9;
  }
  // The SUBMIT goes to the server, and nothing comes back any more.
  void submit_and_lose_the_answer() {
    submit(prompt(1 << 30));
    const World::Message message = client.up.back();
    ASSERT_EQ(message.kind, Kind::submit);
    client.up.clear();
    world.knock(client, message.kind, message.body, message.blobs);
    world.hold(client, true);
    world.round();
    ASSERT_EQ(world.engine->running(), 1U);
  }
  // Its submitter was told, so nobody else may be, and nothing of it may be left.
  void expect_nothing_left() {
    EXPECT_EQ(sink->ends, 0);
    EXPECT_TRUE(sink->tokens.empty());
    EXPECT_EQ(world.engine->running(), 0U);
    EXPECT_EQ(client.core->in_flight(), 0U);
    EXPECT_EQ(world.server->check_integrity(), "");
  }

  World world{21};
  World::Side& client;
  std::shared_ptr<Status> outcome = std::make_shared<Status>(internal_error("unanswered"));
  std::shared_ptr<CheckingSink> sink;
  int64_t begun_ns = 0;
};

TEST_F(WirePatience, ASilentServerIsNotWaitedForAndWhatItWakesUpToIsCancelled) {
  world.hold(client, true);
  submit(prompt(1 << 30));
  EXPECT_LE(seconds_until_told(), 2.1);
  EXPECT_EQ(outcome->code(), Code::connection_lost) << outcome->message();
  EXPECT_TRUE(outcome->retryable());
  EXPECT_NE(outcome->message().find("said nothing"), std::string::npos) << outcome->message();
  EXPECT_EQ(client.core->in_flight(), 0U);
  world.hold(client, false);  // SUBMIT, and the CANCEL behind it
  world.rounds(20);
  EXPECT_EQ(world.engine->requests.size(), 1U);
  expect_nothing_left();
}

TEST_F(WirePatience, WhatTheServerAcceptedUnheardIsCancelledWhenTheConnectionReturns) {
  submit_and_lose_the_answer();
  EXPECT_LE(seconds_until_told(), 2.2);
  EXPECT_EQ(outcome->code(), Code::connection_lost);
  while (client.core->state() == ClientCore::State::up) world.round();  // and its CANCEL is lost
  EXPECT_EQ(world.engine->running(), 1U);
  world.hold(client, false);
  while (client.core->state() != ClientCore::State::up) world.round();
  world.rounds(20);
  EXPECT_EQ(world.engine->cancels, 1U);
  expect_nothing_left();
}

TEST_F(WirePatience, WhatNeverCameToTheServerIsForgottenWhenTheConnectionReturns) {
  world.hold(client, true);
  submit(prompt(1 << 30));
  seconds_until_told();
  world.cut(client, true);
  world.hold(client, false);
  world.rounds(50);
  ASSERT_EQ(client.core->state(), ClientCore::State::up);
  EXPECT_TRUE(world.engine->requests.empty());
  expect_nothing_left();
}

TEST_F(WirePatience, TheRequestsOwnTimeIsNotOutlasted) {
  world.hold(client, true);
  Request request = prompt(1 << 30);
  request.deadline_ns = 300 * kMs;
  submit(std::move(request));
  EXPECT_LE(seconds_until_told(), 0.35);
  EXPECT_EQ(outcome->code(), Code::deadline) << outcome->message();
  EXPECT_NE(outcome->message().find("300 ms"), std::string::npos) << outcome->message();
  world.hold(client, false);
  world.rounds(20);
  expect_nothing_left();
}

TEST_F(WirePatience, WhereNobodyListensAnyMoreTheWaitEndsAtOnce) {
  submit_and_lose_the_answer();
  world.cut(client, false);
  client.core->link_down({Code::connection_lost, "refused"}, true, world.now_ns);
  client.core->tick(world.now_ns);
  EXPECT_EQ(outcome->code(), Code::connection_lost) << outcome->message();
  EXPECT_EQ(sink->ends, 0);
}

// Its PONGs say that it lives: it may have reasons of its own to let a request wait.
TEST_F(WirePatience, AServerThatIsHeardIsWaitedForAsLongAsACallMayTake) {
  submit(prompt(1 << 30));
  client.up.clear();
  EXPECT_NEAR(seconds_until_told(), 30.0, 0.2);
  EXPECT_EQ(outcome->code(), Code::deadline) << outcome->message();
  EXPECT_EQ(client.core->state(), ClientCore::State::up);
}

TEST_F(WirePatience, QuestionsDoNotWaitForASilentServerEither) {
  world.hold(client, true);
  client.core->ask(
      Kind::stats, [](auto& body, auto call, auto&) { write_plain(body, call); },
      [this](const Result<Answer>& answer) { *outcome = answer.status(); }, world.now_ns);
  begun_ns = world.now_ns;
  EXPECT_LE(seconds_until_told(), 2.1);
  EXPECT_EQ(outcome->code(), Code::connection_lost) << outcome->message();
  EXPECT_EQ(client.core->state(), ClientCore::State::up);
}

// What is large takes its time on a slow line, and nothing is heard meanwhile.
TEST_F(WirePatience, ALargeRequestHasTheTimeThatItsBytesTake) {
  world.hold(client, true);
  Request large = prompt(3);
  large.prompt[0].text.assign(size_t{512} << 10, 'x');
  submit(std::move(large));
  EXPECT_NEAR(seconds_until_told(), 6.0, 0.2);
  EXPECT_EQ(outcome->code(), Code::connection_lost) << outcome->message();
}

TEST_F(WirePatience, WhoStopsWaitingByItselfLeavesNothingRunning) {
  submit(prompt(1 << 30));
  world.rounds(5);
  ASSERT_TRUE(outcome->ok());
  const size_t before = sink->tokens[0].size();
  client.core->disown(client.next_id - 1);
  world.rounds(20);
  EXPECT_EQ(sink->tokens[0].size(), before);
  sink->tokens.clear();
  expect_nothing_left();
}

}  // namespace
}  // namespace troupe::wire
