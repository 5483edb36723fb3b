// Who gets the engine's places, in a simulated world: what one client sends beyond them waits in
// the server, and whoever comes later is let in (INV-WIRE-7).
#include <gtest/gtest.h>

#include <algorithm>

#include "wire/test_world.hpp"

namespace troupe::wire {
namespace {

constexpr int64_t kMs = 1'000'000;

// A world whose engine has so many places and lets so many wait, and whose server knows it.
struct Places : World {
  explicit Places(uint64_t seed, int32_t sequences, int32_t waiting = 2048)
      : World(seed, {}, sequences) {
    engine->waiting_most = waiting;
    rounds(60);  // a second: what is known of the engine is asked again
  }
  struct Asked {
    std::shared_ptr<CheckingSink> sink;
    std::shared_ptr<Status> outcome;
  };
  std::vector<Asked> burst(Side& side, int n, int32_t max_tokens) {
    std::vector<Asked> all;
    for (int i = 0; i < n; ++i) {
      Request request = prompt(max_tokens);
      request.sampling.seed = static_cast<uint64_t>(i);
      auto outcome = std::make_shared<Status>(internal_error("unanswered"));
      all.push_back({submit(side, std::move(request), outcome), outcome});
    }
    return all;
  }
};

size_t ended(const std::vector<Places::Asked>& all) {
  return static_cast<size_t>(
      std::count_if(all.begin(), all.end(), [](const auto& one) { return one.sink->ended(); }));
}

size_t accepted(const std::vector<Places::Asked>& all) {
  return static_cast<size_t>(
      std::count_if(all.begin(), all.end(), [](const auto& one) { return one.outcome->ok(); }));
}

TEST(WirePlaces, ANewcomerGoesPastABurstThatCameBeforeIt) {
  for (const bool alive : {true, false}) {
    Places world(1, 256);
    auto& greedy = world.add_client();
    world.rounds(3);
    const auto burst = world.burst(greedy, 700, 1900);
    world.rounds(20);
    EXPECT_EQ(accepted(burst), 700U) << "those that wait are told so";
    EXPECT_GE(world.engine->running(), 256U);
    EXPECT_LE(world.engine->running(), 512U) << "the rest waits in the server";
    if (!alive) {
      greedy.held = true;
      world.cut(greedy, false);
      world.rounds(5);
    }
    auto& modest = world.add_client();
    world.rounds(3);
    const auto small = world.burst(modest, 3, 7);
    world.rounds(12);
    EXPECT_EQ(ended(small), 3U) << alive;
    EXPECT_EQ(ended(burst), 0U);
    EXPECT_EQ(world.server->check_integrity(), "");
  }
}

TEST(WirePlaces, ALoneClientKeepsEveryPlaceBusyAndItsRequestsKeepTheirOrder) {
  Places world(2, 4);
  auto& client = world.add_client();
  world.rounds(3);
  const auto all = world.burst(client, 40, 3);
  int took = 0;
  for (; ended(all) < 40 && took < 200; ++took) {
    world.round();
    EXPECT_LE(world.engine->running(), 8U);
    if (took > 2 && took < 36) {
      EXPECT_GE(world.engine->running(), 4U) << took;
    }
  }
  EXPECT_LE(took, 43) << "40 requests of 4 steps in 4 places, and the way there and back";
  ASSERT_EQ(world.engine->requests.size(), 40U);
  for (uint64_t i = 0; i < 40; ++i) {
    EXPECT_EQ(world.engine->requests[i].sampling.seed, i);
    EXPECT_EQ(world.engine->requests[i].priority, 0) << "nobody stands behind a lone client";
  }
}

TEST(WirePlaces, TheQueueBehindIsServedInTurn) {
  Places world(3, 4);
  auto& greedy = world.add_client();
  world.rounds(3);
  const auto burst = world.burst(greedy, 400, 3);
  world.rounds(5);
  auto& second = world.add_client();
  auto& third = world.add_client();
  world.rounds(3);
  const auto of_second = world.burst(second, 20, 3);
  const auto of_third = world.burst(third, 20, 3);
  const size_t before = ended(burst);
  int took = 0;
  for (; ended(of_second) + ended(of_third) < 40 && took < 1000; ++took) world.round();
  EXPECT_LE(took, 20 * 3 + 20) << "as if each had a third of the places";
  EXPECT_GE(ended(burst) - before, 10U) << "and the first one goes on meanwhile";
  for (; ended(burst) < 400 && took < 1000; ++took) world.round();
  EXPECT_EQ(ended(burst), 400U);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WirePlaces, RequestsOfManySequencesCountAsMany) {
  Places world(4, 8);
  auto& client = world.add_client();
  world.rounds(3);
  for (int i = 0; i < 10; ++i) {
    Request request = prompt(1 << 30);
    request.sampling.n = 8;
    world.submit(client, std::move(request));
  }
  world.rounds(5);
  EXPECT_EQ(world.engine->running(), 2U);
}

TEST(WirePlaces, ACancelledOneEndsWhereItWaits) {
  Places world(5, 2);
  auto& client = world.add_client();
  world.rounds(3);
  const auto all = world.burst(client, 10, 1 << 30);
  world.rounds(3);
  EXPECT_EQ(accepted(all), 10U);
  EXPECT_EQ(world.engine->running(), 4U);
  client.core->cancel(10);
  world.rounds(3);
  ASSERT_EQ(all[9].sink->ends, 1);
  EXPECT_EQ(all[9].sink->last.kind, EventKind::cancelled);
  EXPECT_EQ(world.engine->cancels, 0U) << "the engine never heard of it";
  client.core->cancel(1);  // and the place of one that runs goes to the next
  world.rounds(3);
  EXPECT_EQ(ended(all), 2U);
  EXPECT_EQ(world.engine->running(), 4U);
  EXPECT_EQ(world.engine->requests.size(), 5U);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WirePlaces, ADeadlinePassesWhereTheRequestWaits) {
  Places world(6, 2);
  auto& client = world.add_client();
  world.rounds(3);
  world.burst(client, 4, 1 << 30);
  Request hurried = prompt(5);
  hurried.deadline_ns = 500 * kMs;
  auto outcome = std::make_shared<Status>(internal_error("unanswered"));
  const auto sink = world.submit(client, std::move(hurried), outcome);
  world.rounds(20);
  EXPECT_TRUE(outcome->ok()) << outcome->message();
  EXPECT_FALSE(sink->ended());
  world.rounds(15);
  ASSERT_EQ(sink->ends, 1);
  EXPECT_EQ(sink->last.status.code(), Code::deadline) << sink->last.status.message();
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WirePlaces, WhatWaitsOutlivesItsConnectionAndNotItsClient) {
  Places world(7, 2);
  auto& client = world.add_client();
  world.rounds(3);
  const auto all = world.burst(client, 12, 40);
  world.rounds(5);
  world.cut(client, true);
  world.rounds(400);
  EXPECT_EQ(ended(all), 12U);
  for (const auto& one : all) {
    EXPECT_EQ(one.sink->ends, 1);
    EXPECT_EQ(one.sink->last.kind, EventKind::done) << one.sink->last.status.message();
    EXPECT_EQ(one.sink->tokens[0].size(), 40U);
    EXPECT_TRUE(one.sink->broken.empty());
  }
  world.burst(client, 12, 1 << 30);
  world.rounds(3);
  const size_t before = world.engine->requests.size();
  world.knock(client, Kind::bye, "\x80");
  client.held = true;
  world.rounds(5);
  EXPECT_EQ(world.engine->running(), 0U);
  EXPECT_EQ(world.engine->requests.size(), before);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WirePlaces, ALoneClientMayFillTheWaitingRoomAndANewcomerIsStillTaken) {
  Places world(8, 4, 16);
  world.engine_runs = false;
  auto& greedy = world.add_client();
  world.rounds(3);
  const auto burst = world.burst(greedy, 40, 5);
  world.rounds(3);
  EXPECT_EQ(accepted(burst), 20U);
  EXPECT_EQ(burst.back().outcome->code(), Code::overloaded) << burst.back().outcome->message();
  auto& modest = world.add_client();
  world.rounds(3);
  const auto small = world.burst(modest, 3, 5);
  world.rounds(3);
  EXPECT_EQ(accepted(small), 3U) << small[0].outcome->message();
  world.engine_runs = true;
  world.rounds(12);
  EXPECT_EQ(ended(small), 3U);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WirePlaces, ASmallWaitingRoomHasRoomForANewcomerToo) {
  Places world(11, 16, 4);
  auto& greedy = world.add_client();
  world.rounds(3);
  const auto burst = world.burst(greedy, 20, 1900);
  world.rounds(3);
  EXPECT_EQ(accepted(burst), 20U);
  auto& modest = world.add_client();
  world.rounds(3);
  const auto small = world.burst(modest, 2, 5);
  world.rounds(12);
  EXPECT_EQ(ended(small), 2U);
}

// What its client asks of a session next must find the request there.
TEST(WirePlaces, ARequestOfASessionGoesToTheEngineAtOnce) {
  Places world(9, 2);
  auto& client = world.add_client();
  world.rounds(3);
  uint64_t session = 0;
  client.core->ask(
      Kind::session_new, [](auto& body, auto call, auto&) { write_plain(body, call); },
      [&](const Result<Answer>& answer) { session = answer.ok() ? *answer->session : 0; },
      world.now_ns);
  world.rounds(3);
  ASSERT_NE(session, 0U);
  world.burst(client, 10, 1 << 30);
  Request request = prompt(5);
  request.session = session;
  world.submit(client, std::move(request));
  world.rounds(3);
  EXPECT_NE(world.engine->requests.back().session, 0U);
  EXPECT_EQ(world.engine->requests.size(), 5U);
}

TEST(WirePlaces, AStopEndsWhatWaits) {
  Places world(10, 2);
  auto& client = world.add_client();
  world.rounds(3);
  const auto all = world.burst(client, 10, 1 << 30);
  world.rounds(3);
  world.server->drain(0);
  world.server->cancel_all({Code::closed, "the server stopped", true});
  world.rounds(3);
  EXPECT_EQ(ended(all), 10U);
  for (const auto& one : all) EXPECT_EQ(one.sink->last.status.code(), Code::closed);
  EXPECT_EQ(world.engine->requests.size(), 4U);
  EXPECT_EQ(world.server->awaited(), 0U);
}

}  // namespace
}  // namespace troupe::wire
