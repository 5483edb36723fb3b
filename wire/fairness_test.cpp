// What one client may take from the others, in a simulated world: its share of the reading, the
// server's memory, the engine's places (INV-WIRE-7).
#include <gtest/gtest.h>

#include <algorithm>

#include "base/limits.hpp"
#include "wire/test_world.hpp"

namespace troupe::wire {
namespace {

constexpr int64_t kMs = 1'000'000;

SharedBytes zeros(size_t size) {
  auto data = std::make_shared<std::vector<std::byte>>(size);
  const std::byte* const at = data->data();
  return {std::move(data), at, size};
}

TEST(WireFairness, AFloodIsReadAsItsShareAllowsOnceOthersHaveWorkHere) {
  World world(1);
  auto& busy = world.add_client();
  auto& flood = world.add_client();
  world.rounds(3);
  std::string ping;
  write_ping(ping, 1);
  for (int i = 0; i < 10'000; ++i)
    ASSERT_EQ(world.knock(flood, Kind::ping, ping), 0) << "it is alone: nobody waits for it";

  const auto sink = world.submit(busy, prompt(1 << 30));
  world.rounds(2);
  int64_t rested = 0;
  int free_of_charge = 0;
  for (int i = 0; i < 20'000; ++i) {
    const int64_t rest = world.knock(flood, Kind::ping, ping);
    free_of_charge += rest == 0 ? 1 : 0;
    rested += rest;
    world.now_ns += rest;
    if (i % 8 != 0) continue;
    ASSERT_EQ(world.knock(busy, Kind::ping, ping), 0) << "who stays within its share never rests";
    world.now_ns += kMs / 16;
  }
  // The burst, and what its share gave back meanwhile.
  EXPECT_NEAR(free_of_charge, 5'000 + 20'000 / 8 / 16 * 10, 200);
  EXPECT_NEAR(static_cast<double>(rested), 0.1e6 * (20'000 - free_of_charge), 1e6);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireFairness, StrangersRestAtOnce) {
  World world(2);
  auto& busy = world.add_client();
  world.rounds(3);
  World::Side stranger(world);
  stranger.peer = "stranger";
  EXPECT_EQ(world.knock(stranger, Kind::ping, ""), 0);
  world.submit(busy, prompt(1 << 30));
  world.rounds(2);
  EXPECT_GT(world.knock(stranger, Kind::ping, ""), 0);
  EXPECT_GT(world.knock(stranger, Kind::hello, "\xc1"), 0);
  Incoming nonsense;
  nonsense.peer = "stranger";
  EXPECT_FALSE(world.server->receive(std::move(nonsense), world.now_ns));
  EXPECT_GT(world.server->rest_ns(), 0);
}

TEST(WireFairness, ImagesComeNoFasterThanTheShareOnceOthersHaveWorkHere) {
  World world(3);
  world.round_ns = kMs;
  auto& busy = world.add_client();
  auto& sender = world.add_client();
  world.rounds(3);
  world.submit(busy, prompt(1 << 30));
  world.rounds(2);
  constexpr size_t kImage = size_t{32} << 20;
  std::vector<std::shared_ptr<CheckingSink>> sinks;
  const int64_t begun = world.now_ns;
  for (int i = 0; i < 4; ++i) {
    Request large = prompt(1);
    large.images.push_back({ImageKind::encoded, zeros(kImage)});
    large.prompt.push_back({PromptPart::Kind::image, "", {}, 0});
    sinks.push_back(world.submit(sender, std::move(large)));
  }
  const uint64_t rests = world.server->counters().rests;
  while (!sinks.back()->ended() && world.now_ns - begun < 20'000 * kMs) world.round();
  EXPECT_EQ(world.server->counters().rests, rests) << "who sends with leave makes nobody wait";
  const double seconds = static_cast<double>(world.now_ns - begun) / 1e9;
  const double expected = 4.0 * kImage / 64e6 + 4.0 * kImage / kChunkBytes * 0.1e-3 - 0.5;
  EXPECT_NEAR(seconds, expected, 0.15 * expected);
  for (const auto& sink : sinks) EXPECT_EQ(sink->last.kind, EventKind::done);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireFairness, APieceWithoutLeaveRefusesItsRequest) {
  World world(4);
  auto& client = world.add_client();
  world.rounds(3);
  auto outcome = std::make_shared<Status>();
  Request large = prompt();
  large.images.push_back({ImageKind::encoded, zeros(8 * kChunkBytes)});
  world.submit(client, std::move(large), outcome);
  const auto read = read_submit(client.up.back().body, Limits());
  ASSERT_TRUE(read.ok());
  client.up.pop_back();
  world.knock(client, Kind::submit,
              pack_submit(
                  read->id, 8,
                  [] {
                    Request same = prompt();
                    same.images.push_back({ImageKind::encoded, zeros(8 * kChunkBytes)});
                    return same;
                  }(),
                  Limits())
                  .body);
  world.server->send_answers(world.now_ns);  // leave for four pieces
  for (uint64_t piece = 0; piece < 5; ++piece) {
    std::string body;
    write_blob(body, read->id, 0, piece * kChunkBytes);
    EXPECT_EQ(world.server->counters().refused, 0U);
    world.knock(client, Kind::blob, body, {zeros(kChunkBytes)});
  }
  EXPECT_EQ(world.server->counters().refused, 1U);
  world.rounds(2);
  EXPECT_EQ(outcome->code(), Code::invalid) << outcome->message();
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireFairness, WhoAsksAndNeverReadsIsLostBeforeItsAnswersFillTheMemory) {
  World world(5);
  auto& client = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(client, prompt(400));
  world.rounds(2);
  client.full_at = 0;
  std::string resumes, credit;
  for (uint64_t i = 0; i < 1000; ++i) {
    Id128 unknown{};
    unknown[0] = static_cast<uint8_t>(i);
    write_resume(resumes, unknown, {}, 8);
  }
  int messages = 0;
  for (; messages < 10'000 && world.server->counters().overfull == 0; ++messages) {
    world.knock(client, Kind::resume, resumes);
    if (messages % 10 == 0) world.server->send_answers(world.now_ns);
  }
  EXPECT_LT(messages, 1000);  // 32 MiB of refusals
  EXPECT_EQ(world.server->peers(), 0U);
  EXPECT_EQ(world.server->clients(), 1U);  // it may come back
  client.full_at = static_cast<size_t>(-1);
  world.cut(client, true);
  world.rounds(500);
  ASSERT_EQ(sink->ends, 1);
  EXPECT_EQ(sink->tokens[0].size(), 400U);
  EXPECT_TRUE(sink->broken.empty());
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireFairness, AQuestionCountsUntilItsReplyHasGone) {
  ServerConfig config;
  config.limits.questions = 4;
  World world(6, config);
  auto& client = world.add_client();
  world.rounds(3);
  client.full_at = 0;
  int overloaded = 0, answered = 0;
  for (int i = 0; i < 10; ++i) {
    client.core->ask(
        Kind::stats, [](auto& body, auto call, auto&) { write_plain(body, call); },
        [&](const Result<Answer>& answer) {
          (answer.ok() ? answered : overloaded) += 1;
          if (!answer.ok()) {
            EXPECT_EQ(answer.status().code(), Code::overloaded);
          }
        },
        world.now_ns);
    world.rounds(3);
  }
  client.full_at = static_cast<size_t>(-1);
  world.rounds(5);
  EXPECT_EQ(answered, 4);
  EXPECT_EQ(overloaded, 6);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireFairness, OneClientLeavesPlacesAndStandsBehindWhoHasLittle) {
  World world(7);
  world.engine->sequences = 256;
  auto& greedy = world.add_client();
  auto& modest = world.add_client();
  world.rounds(3);
  world.engine_runs = false;
  std::vector<std::shared_ptr<Status>> outcomes;
  for (int i = 0; i < 3'000; ++i) {
    outcomes.push_back(std::make_shared<Status>(internal_error("unanswered")));
    world.submit(greedy, prompt(1), outcomes.back());
  }
  world.rounds(3);
  const auto accepted = static_cast<size_t>(
      std::count_if(outcomes.begin(), outcomes.end(), [](const auto& s) { return s->ok(); }));
  const auto places =
      static_cast<size_t>(limits::waiting_requests + world.engine->info()->max_sequences);
  EXPECT_NEAR(static_cast<double>(accepted), 0.75 * static_cast<double>(places), 2.0);
  EXPECT_EQ(outcomes.back()->code(), Code::overloaded) << outcomes.back()->message();
  EXPECT_TRUE(outcomes.back()->retryable());
  const auto above = [](const Request& a, const Request& b) { return a.priority < b.priority; };
  const auto& sent = world.engine->requests;
  const int32_t highest = std::max_element(sent.begin(), sent.end(), above)->priority;
  auto outcome = std::make_shared<Status>(internal_error("unanswered"));
  world.submit(modest, prompt(1), outcome);
  world.rounds(3);
  EXPECT_TRUE(outcome->ok()) << outcome->message();
  EXPECT_GT(world.engine->requests.back().priority, highest + 10);
}

// A flood of good requests waits in the server at the pace that its share allows; who asks for
// little goes past it.
TEST(WireFairness, RequestsBeyondTheShareWaitInTheServerAndNobodyWithThem) {
  World world(9);
  world.round_ns = 10 * kMs;
  auto& busy = world.add_client();
  auto& flood = world.add_client();
  world.rounds(3);
  world.submit(busy, prompt(1 << 30));
  world.rounds(2);
  std::vector<std::shared_ptr<CheckingSink>> sinks;
  std::vector<std::shared_ptr<Status>> outcomes;
  const auto flooded = [&] { return world.engine->requests.size() - 1; };
  for (int i = 0; i < 1'200; ++i) {
    outcomes.push_back(std::make_shared<Status>(internal_error("unanswered")));
    Request request = prompt(1);
    if (i == 1'199) request.deadline_ns = 100 * kMs;  // shorter than the wait
    sinks.push_back(world.submit(flood, std::move(request), outcomes.back()));
  }
  world.rounds(1);
  EXPECT_NEAR(static_cast<double>(flooded()), 500, 20) << "the burst";
  EXPECT_EQ(world.server->counters().rests, 0U) << "and nobody's messages wait";
  const auto small = world.submit(busy, prompt(1));
  flood.core->cancel(1'199);  // one that waits: it ends, and the engine never hears of it
  world.rounds(3);
  EXPECT_TRUE(small->ended());
  EXPECT_EQ(outcomes[1'198]->code(), Code::cancelled) << outcomes[1'198]->message();
  EXPECT_EQ(world.server->check_integrity(), "");
  const size_t before = flooded();
  world.rounds(30);
  EXPECT_NEAR(static_cast<double>(flooded() - before), 300, 30) << "1,000 a second";
  world.rounds(60);
  for (size_t i = 0; i < 1'198; ++i) {
    ASSERT_TRUE(outcomes[i]->ok()) << i << ": " << outcomes[i]->message();
    ASSERT_EQ(sinks[i]->ends, 1);
  }
  EXPECT_EQ(outcomes[1'199]->code(), Code::deadline) << outcomes[1'199]->message();
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireFairness, LongQuestionsTakeTheirClientsTurn) {
  World world(10);
  auto& greedy = world.add_client();
  auto& modest = world.add_client();
  world.rounds(3);
  const auto ask = [&](World::Side& side, int& answered) {
    side.core->ask(
        Kind::tokenize, [](auto& body, auto call, auto&) { write_tokenize(body, call, "x", 0); },
        [&](const Result<Answer>& answer) { answered += answer.ok() ? 1 : 0; }, world.now_ns);
  };
  int of_greedy = 0, of_modest = 0;
  for (int i = 0; i < 20; ++i) ask(greedy, of_greedy);
  ask(modest, of_modest);
  world.rounds(2);
  EXPECT_EQ(of_modest, 1);
  EXPECT_LE(of_greedy, 2) << "one at a time";
  world.rounds(25);
  EXPECT_EQ(of_greedy, 20);
}

TEST(WireFairness, PlacesAreThoseOfTheEngineAsItIsNow) {
  World world(11);
  auto& greedy = world.add_client();
  world.add_client();
  world.engine->waiting_most = 8;
  world.rounds(60);  // a second: the engine's options may have changed
  world.engine_runs = false;
  std::vector<std::shared_ptr<Status>> outcomes;
  for (int i = 0; i < 20; ++i) {
    outcomes.push_back(std::make_shared<Status>(internal_error("unanswered")));
    world.submit(greedy, prompt(1), outcomes.back());
  }
  world.rounds(3);
  EXPECT_EQ(std::count_if(outcomes.begin(), outcomes.end(), [](const auto& s) { return s->ok(); }),
            6);
  EXPECT_EQ(outcomes.back()->code(), Code::overloaded) << outcomes.back()->message();
}

TEST(WireFairness, NobodyListeningIsToldWithinThreeHeartbeats) {
  World world(8);
  auto& client = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(client, prompt(1 << 30));
  world.rounds(10);
  const int64_t begun = world.now_ns;
  client.held = true;  // no connection comes about any more
  world.cut(client, false);
  client.core->link_down({Code::connection_lost, "refused"}, true, world.now_ns);
  const int64_t most = 3 * ServerConfig().heartbeat_ms * kMs;
  while (!sink->ended() && world.now_ns - begun < 2 * most) {
    world.now_ns += 10 * kMs;
    client.core->tick(world.now_ns);
    if (client.core->state() == ClientCore::State::down &&
        world.now_ns >= client.core->try_again_ns())
      client.core->link_down({Code::connection_lost, "refused"}, true, world.now_ns);
  }
  ASSERT_EQ(sink->ends, 1);
  EXPECT_EQ(sink->last.status.code(), Code::connection_lost);
  EXPECT_TRUE(sink->last.status.retryable());
  EXPECT_LT(world.now_ns - begun, most - ServerConfig().heartbeat_ms * kMs / 2)
      << "with room to spare";
}

}  // namespace
}  // namespace troupe::wire
