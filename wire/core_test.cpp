// The two cores against one another in a simulated world: what the protocol promises when links
// break, readers lag, servers restart and strangers knock.
#include <gtest/gtest.h>

#include <algorithm>

#include "wire/test_world.hpp"

namespace troupe::wire {
namespace {

SharedBytes bytes_of(size_t size) {
  auto data = std::make_shared<std::vector<std::byte>>(size);
  for (size_t i = 0; i < size; ++i) (*data)[i] = static_cast<std::byte>(i * 7 + i / 251);
  const std::byte* const at = data->data();
  return {std::move(data), at, size};
}

void expect_whole(const CheckingSink& sink, size_t tokens, int32_t choices = 1) {
  EXPECT_EQ(sink.ends, 1) << "INV-WIRE-5";
  EXPECT_TRUE(sink.broken.empty()) << "INV-WIRE-6: " << sink.broken.front();
  for (int32_t c = 0; c < choices; ++c) {
    ASSERT_TRUE(sink.tokens.contains(c));
    EXPECT_EQ(sink.tokens.at(c).size(), tokens);
    std::string text;
    for (size_t k = 0; k < tokens; ++k) text += std::to_string(k) + " ";
    EXPECT_EQ(sink.text.at(c), text);
  }
}

TEST(WireCore, AnAnswerComesWholeInOrderAndEndsOnce) {
  World world(1);
  auto& client = world.add_client();
  world.rounds(3);
  ASSERT_EQ(client.core->state(), ClientCore::State::up);
  EXPECT_EQ(client.core->welcome().info.model, "counting");
  Request request = prompt(20);
  request.sampling.n = 3;
  const auto sink = world.submit(client, std::move(request));
  world.rounds(40);
  expect_whole(*sink, 20, 3);
  EXPECT_EQ(sink->last.kind, EventKind::done);
  EXPECT_EQ(world.server->check_integrity(), "");
  EXPECT_EQ(client.core->in_flight(), 0U);
}

TEST(WireCore, WithoutCreditTheServerMergesAndLosesNothing) {
  World world(2);
  ClientConfig config;
  config.credit = 2;
  auto& client = world.add_client(config);
  world.rounds(3);
  const auto sink = world.submit(client, prompt(500));
  world.rounds(2);
  world.hold(client, true);  // the reader stops
  for (int i = 0; i < 20; ++i) world.engine->step();
  world.rounds(20);
  EXPECT_LE(client.down.size(), 4U);  // two deltas, and what has no credit
  world.hold(client, false);
  world.rounds(600);
  expect_whole(*sink, 500);
}

TEST(WireCore, AFullPeerIsLeftAloneUntilItTakesMessagesAgain) {
  World world(3);
  auto& client = world.add_client();
  world.rounds(3);
  std::vector<std::shared_ptr<CheckingSink>> sinks;
  for (int i = 0; i < 50; ++i) sinks.push_back(world.submit(client, prompt(30)));
  world.rounds(1);
  client.full_at = 2;
  world.hold(client, true);
  world.rounds(20);
  EXPECT_TRUE(world.server->choked());
  EXPECT_LE(client.down.size(), 2U);
  client.full_at = static_cast<size_t>(-1);
  world.hold(client, false);
  world.rounds(60);
  for (const auto& sink : sinks) expect_whole(*sink, 30);
  EXPECT_FALSE(world.server->choked());
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireCore, ABrokenLinkIsResumedWithoutGapOrRepetition) {
  World world(4);
  auto& client = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(client, prompt(100));
  world.rounds(20);
  world.cut(client, true);
  world.rounds(100);
  expect_whole(*sink, 100);
  EXPECT_GE(world.server->counters().resumed, 1U);
}

TEST(WireCore, AnEndThatWasLostOnTheWayIsReadAgain) {
  World world(5);
  auto& client = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(client, prompt(5));
  world.rounds(2);
  world.hold(client, true);
  world.rounds(10);  // it ends while its reader hears nothing
  world.hold(client, false);
  world.cut(client, true);
  world.rounds(30);
  expect_whole(*sink, 5);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireCore, ARestartedServerCostsTheRequestsAtOnce) {
  World world(6);
  auto& client = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(client, prompt(1000));
  world.rounds(10);
  world.restart_server();
  const int64_t begun = world.now_ns;
  while (!sink->ended() && world.now_ns - begun < int64_t{60} * 1'000'000'000) world.round();
  ASSERT_EQ(sink->ends, 1);
  EXPECT_EQ(sink->last.status.code(), Code::connection_lost);
  EXPECT_TRUE(sink->last.status.retryable());
  EXPECT_LE(world.now_ns - begun, 3 * ServerConfig().heartbeat_ms * 1'000'000);
  const auto again = world.submit(client, prompt(5));
  world.rounds(20);
  expect_whole(*again, 5);
}

TEST(WireCore, ASilentServerIsLostAfterThreeHeartbeatsAndTheWindowEndsTheRequest) {
  ServerConfig config;
  config.resume_ms = 10'000;
  World world(7, config);
  auto& client = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(client, prompt(1000));
  world.rounds(5);
  world.hold(client, true);
  const int64_t begun = world.now_ns;
  while (client.core->state() == ClientCore::State::up) world.round();
  EXPECT_NEAR(static_cast<double>(world.now_ns - begun) / 1e9, 6.0, 0.3);
  while (!sink->ended() && world.now_ns - begun < int64_t{60} * 1'000'000'000) world.round();
  ASSERT_EQ(sink->ends, 1);
  EXPECT_EQ(sink->last.status.code(), Code::connection_lost);
  EXPECT_NEAR(static_cast<double>(world.now_ns - begun) / 1e9, 16.0, 0.5);
}

TEST(WireCore, TheWorkOfAVanishedClientIsCancelledAfterTheWindow) {
  ServerConfig config;
  config.resume_ms = 5'000;
  World world(8, config);
  auto& client = world.add_client();
  world.rounds(3);
  world.submit(client, prompt(1 << 30));
  std::optional<uint64_t> session;
  client.core->ask(
      Kind::session_new, [](auto& body, auto call, auto&) { write_session_new(body, call, {}); },
      [&](Result<Answer> answer) { session = answer->session; }, world.now_ns);
  world.rounds(5);
  ASSERT_TRUE(session.has_value());
  world.hold(client, true);  // its process is gone: nobody says goodbye
  world.rounds(5 + (6'000 / 20));
  EXPECT_EQ(world.engine->running(), 1U);
  world.rounds(5'500 / 20);
  EXPECT_EQ(world.engine->cancels, 1U) << "INV-WIRE-4";
  EXPECT_EQ(world.engine->freed_sessions, 1U);
  EXPECT_EQ(world.server->clients(), 0U);
}

TEST(WireCore, ARepeatedSubmitJoinsTheRunningRequest) {
  World world(9);
  auto& client = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(client, prompt(50));
  const World::Message first = client.up.back();
  ASSERT_EQ(first.kind, Kind::submit);
  world.rounds(5);
  const size_t before = sink->tokens[0].size();
  world.cut(client, true);
  while (client.core->state() != ClientCore::State::up) world.round();
  client.up.push_back(first);
  world.rounds(1);
  EXPECT_EQ(world.engine->requests.size(), 1U);  // not a second one
  EXPECT_EQ(client.core->in_flight(), 1U);
  EXPECT_GE(before, 1U);
}

TEST(WireCore, LargeImagesComeInChunksAndSmallRequestsAreNotStuckBehindThem) {
  World world(10);
  auto& client = world.add_client();
  world.rounds(3);
  Request large = prompt(3);
  large.images.push_back({ImageKind::encoded, bytes_of(5'000'001)});
  large.images.push_back({ImageKind::encoded, bytes_of(1000)});
  large.prompt.push_back({PromptPart::Kind::image, "", {}, 0});
  large.prompt.push_back({PromptPart::Kind::image, "", {}, 1});
  const auto sink = world.submit(client, std::move(large));
  size_t most = 0;
  for (int i = 0; i < 3; ++i) {
    world.round();
    size_t waiting = 0;
    for (const auto& message : client.up) {
      for (const SharedBytes& blob : message.blobs) waiting += blob.size;
    }
    most = std::max(most, waiting);
  }
  EXPECT_LE(most, 4 * kChunkBytes);
  const auto small = world.submit(client, prompt(3));
  world.rounds(8);
  EXPECT_TRUE(small->ended());
  world.rounds(60);
  expect_whole(*sink, 3);
  ASSERT_EQ(world.engine->requests.size(), 2U);
  const Request& got = world.engine->requests[1];
  ASSERT_EQ(got.images.size(), 2U);
  const SharedBytes expected = bytes_of(5'000'001);
  ASSERT_EQ(got.images[0].bytes.size, expected.size);
  EXPECT_TRUE(std::equal(expected.data, expected.data + expected.size, got.images[0].bytes.data));
  EXPECT_EQ(got.images[1].bytes.size, 1000U);
}

TEST(WireCore, AnUploadThatBrokeOffBeginsAnew) {
  World world(11);
  auto& client = world.add_client();
  world.rounds(3);
  Request large = prompt(3);
  large.images.push_back({ImageKind::encoded, bytes_of(3'000'000)});
  large.prompt.push_back({PromptPart::Kind::image, "", {}, 0});
  const auto sink = world.submit(client, std::move(large));
  world.rounds(2);
  world.cut(client, true);
  world.rounds(60);
  expect_whole(*sink, 3);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireCore, EmbeddingsComeInPiecesAndWhole) {
  World world(12);
  auto& client = world.add_client();
  world.rounds(3);
  Request request = prompt();
  request.task = Task::embed;
  const auto sink = world.submit(client, std::move(request));
  world.rounds(20);
  ASSERT_EQ(sink->ends, 1);
  EXPECT_EQ(sink->last.data_shape[0], 300);
  ASSERT_EQ(sink->last.data.size(), 300'000U);
  EXPECT_EQ(sink->last.data.back(), 7.0F);
}

TEST(WireCore, LimitsAreEnforcedByNameAndTheConnectionIsKept) {
  ServerConfig config;
  config.limits.requests = 2;
  config.limits.image_bytes = 1000;
  config.limits.sessions = 1;
  World world(13, config);
  auto& client = world.add_client();
  world.rounds(3);
  const auto tell = [&](Request request) {
    auto outcome = std::make_shared<Status>(internal_error("unanswered"));
    world.submit(client, std::move(request), outcome);
    world.rounds(2);
    return *outcome;
  };
  Request image = prompt();
  image.images.push_back({ImageKind::encoded, bytes_of(1001)});
  EXPECT_EQ(tell(image).code(), Code::limit);
  Request session = prompt();
  session.session = 4711;
  EXPECT_EQ(tell(session).code(), Code::not_found);
  Request adapter = prompt();
  adapter.adapter = "none";
  EXPECT_EQ(tell(adapter).code(), Code::not_found);
  EXPECT_TRUE(tell(prompt(1000)).ok());
  EXPECT_TRUE(tell(prompt(1000)).ok());
  const Status third = tell(prompt());
  EXPECT_EQ(third.code(), Code::overloaded) << "it may come when one has ended";
  EXPECT_NE(third.message().find("2"), std::string::npos);
  EXPECT_EQ(client.core->state(), ClientCore::State::up);
  EXPECT_EQ(world.server->check_integrity(), "");
}

// What will fit when something has ended is OVERLOADED, what never will is LIMIT.
TEST(WireCore, ImagesInFlightAreALimitOnlyWhereWaitingDoesNotHelp) {
  ServerConfig config;
  config.limits.upload_bytes = 1000;
  World world(22, config);
  auto& client = world.add_client();
  world.rounds(3);
  const auto tell = [&](size_t bytes) {
    auto outcome = std::make_shared<Status>(internal_error("unanswered"));
    Request request = prompt(1 << 30);
    request.images.push_back({ImageKind::encoded, bytes_of(bytes)});
    request.prompt.push_back({PromptPart::Kind::image, "", {}, 0});
    world.submit(client, std::move(request), outcome);
    world.rounds(2);
    return *outcome;
  };
  EXPECT_EQ(tell(1001).code(), Code::limit);
  EXPECT_TRUE(tell(600).ok());
  const Status second = tell(600);
  EXPECT_EQ(second.code(), Code::overloaded) << second.message();
  EXPECT_TRUE(second.retryable());
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireCore, ClientsCannotTouchOneAnother) {
  World world(14);
  auto& alice = world.add_client();
  auto& mallory = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(alice, prompt(60));
  const World::Message submit = alice.up.back();
  world.rounds(5);
  const auto read = read_submit(submit.body, Limits());
  ASSERT_TRUE(read.ok());
  std::string cancel, resume;
  write_id(cancel, read->id);
  write_resume(resume, read->id, {}, 8);
  mallory.send(Kind::cancel, cancel, {});
  mallory.send(Kind::resume, resume, {});
  world.rounds(80);
  expect_whole(*sink, 60);
  EXPECT_EQ(world.engine->cancels, 0U);
}

// A HELLO that was overheard, played from another connection and on the same one.
TEST(WireCore, AReplayedHelloGetsNothing) {
  World world(15);
  auto& client = world.add_client();
  const World::Message hello = client.up.front();
  ASSERT_EQ(hello.kind, Kind::hello);
  world.rounds(3);
  const auto sink = world.submit(client, prompt(60));
  world.rounds(5);
  auto& thief = world.add_client();
  thief.up.clear();
  thief.up.push_back(hello);
  const uint64_t dropped = world.server->counters().dropped;
  client.up.push_back(hello);
  world.round();
  EXPECT_EQ(world.server->counters().dropped, dropped + 1);
  EXPECT_NE(thief.core->state(), ClientCore::State::up);  // REFUSED
  world.rounds(80);
  expect_whole(*sink, 60);
}

TEST(WireCore, NothingBeforeHelloIsReadOrKept) {
  World world(16);
  const auto knock = [&](std::string head, std::string body) {
    Incoming message;
    message.peer = "stranger";
    message.head = head;
    message.body = body;
    return world.server->receive(std::move(message), world.now_ns);
  };
  EXPECT_FALSE(knock("GET ", "/ HTTP/1.1"));
  EXPECT_FALSE(knock({"TR\x02\x01", 4}, ""));
  for (int kind = 0; kind < 256; ++kind) {
    const auto head = head_of(static_cast<Kind>(kind));
    EXPECT_FALSE(knock({head.data(), 4}, "\xc1garbage"));
  }
  EXPECT_EQ(world.server->clients(), 0U) << "INV-WIRE-3";
  EXPECT_EQ(world.server->peers(), 0U) << "INV-WIRE-3";
}

TEST(WireCore, QuestionsAreAnsweredAndFailWithTheLink) {
  World world(17);
  auto& client = world.add_client();
  world.rounds(3);
  std::vector<Result<Answer>> answers;
  const auto take = [&](Result<Answer> answer) { answers.push_back(std::move(answer)); };
  client.core->ask(
      Kind::tokenize, [](auto& body, auto call, auto&) { write_tokenize(body, call, "ab", 0); },
      take, world.now_ns);
  client.core->ask(
      Kind::stats, [](auto& body, auto call, auto&) { write_plain(body, call); }, take,
      world.now_ns);
  client.core->ask(
      Kind::session_info, [](auto& body, auto call, auto&) { write_session(body, call, 5); }, take,
      world.now_ns);
  world.rounds(3);
  ASSERT_EQ(answers.size(), 3U);
  EXPECT_EQ(answers[0]->tokens, (std::vector<int32_t>{'a', 'b'}));
  EXPECT_TRUE(answers[1]->stats.has_value());
  EXPECT_EQ(answers[2].status().code(), Code::not_found);
  client.core->ask(
      Kind::metrics, [](auto& body, auto call, auto&) { write_plain(body, call); }, take,
      world.now_ns);
  world.cut(client, true);
  ASSERT_EQ(answers.size(), 4U);
  EXPECT_EQ(answers[3].status().code(), Code::connection_lost);
}

TEST(WireCore, DrainingTakesNothingNewAndLetsTheRestEnd) {
  World world(18);
  auto& client = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(client, prompt(30));
  world.rounds(3);
  world.server->drain(1'000'000'000);
  auto outcome = std::make_shared<Status>();
  world.submit(client, prompt(), outcome);
  world.rounds(40);
  EXPECT_EQ(outcome->code(), Code::closed);
  expect_whole(*sink, 30);
  EXPECT_EQ(world.server->awaited(), 0U);
  world.server->stop({Code::closed, "the server was stopped"});
  world.rounds(1);
  EXPECT_EQ(client.core->state(), ClientCore::State::down);
}

TEST(WireCore, WhenTheDrainEndsTheClientIsToldThatTheServerStopped) {
  World world(23);
  auto& client = world.add_client();
  world.rounds(3);
  const auto stopped = world.submit(client, prompt(1 << 30));
  const auto cancelled = world.submit(client, prompt(1 << 30));
  world.rounds(3);
  client.core->cancel(2);
  world.rounds(3);
  world.server->drain(0);
  world.server->cancel_all({Code::closed, "the server stopped", true});
  world.rounds(3);
  ASSERT_EQ(cancelled->ends, 1);
  EXPECT_NE(cancelled->last.status.code(), Code::closed);
  ASSERT_EQ(stopped->ends, 1);
  EXPECT_EQ(stopped->last.kind, EventKind::cancelled);
  EXPECT_EQ(stopped->last.status.code(), Code::closed) << stopped->last.status.message();
  EXPECT_NE(stopped->last.status.message().find("server"), std::string::npos);
  EXPECT_TRUE(stopped->last.status.retryable());
}

// A thousand rounds in which links break, with and without the client hearing of it, and the server
// restarts now and then: every request ends exactly once, and what came is without gap.
void break_a_thousand_times(int32_t sequences) {
  ServerConfig config;
  config.resume_ms = 4'000;
  config.heartbeat_ms = 200;
  World world(19, config, sequences);
  for (int i = 0; i < 8; ++i) world.add_client();
  std::vector<std::shared_ptr<CheckingSink>> sinks;
  std::vector<std::shared_ptr<Status>> outcomes;
  const auto chance = [&](uint64_t of) { return world.random() % of == 0; };
  for (int kill = 0; kill < 1000; ++kill) {
    for (auto& side : world.sides) {
      if (side->core->state() != ClientCore::State::up || side->core->in_flight() > 6) continue;
      Request request = prompt(static_cast<int32_t>(world.random() % 60));
      request.sampling.n = static_cast<int32_t>(1 + world.random() % 2);
      if (chance(10)) request.images.push_back({ImageKind::encoded, bytes_of(2'000'000)});
      outcomes.push_back(std::make_shared<Status>(internal_error("unanswered")));
      sinks.push_back(world.submit(*side, std::move(request), outcomes.back()));
      if (chance(8)) side->core->cancel(side->next_id - 1);
    }
    world.rounds(static_cast<int>(1 + world.random() % 8));
    auto& victim = *world.sides[world.random() % world.sides.size()];
    if (chance(100)) {
      world.restart_server();
    } else if (chance(3)) {
      world.hold(victim, !victim.held);
    } else {
      world.cut(victim, chance(2));
    }
    ASSERT_EQ(world.server->check_integrity(), "") << "round " << kill;
  }
  for (auto& side : world.sides) world.hold(*side, false);
  world.rounds(1500);
  size_t whole = 0, refused = 0;
  for (size_t i = 0; i < sinks.size(); ++i) {
    const CheckingSink& sink = *sinks[i];
    ASSERT_TRUE(sink.broken.empty()) << "INV-WIRE-6: " << sink.broken.front();
    if (outcomes[i]->ok()) {
      ASSERT_EQ(sink.ends, 1) << "INV-WIRE-5: request " << i;
      whole += sink.last.kind == EventKind::done ? 1 : 0;
    } else {
      ASSERT_EQ(sink.ends, 0) << outcomes[i]->message();
      ASSERT_NE(outcomes[i]->message(), "unanswered") << "request " << i;
      ++refused;
    }
  }
  EXPECT_GT(sinks.size(), 1000U);
  EXPECT_GT(whole, sinks.size() / 4);
  EXPECT_EQ(world.engine->running(), 0U);
  EXPECT_EQ(world.server->check_integrity(), "");
  std::printf("%zu requests, %zu whole, %zu refused\n", sinks.size(), whole, refused);
}

TEST(WireCore, AThousandRandomBreaksEndEveryRequestOnce) {
  break_a_thousand_times(0);
}

TEST(WireCore, AThousandRandomBreaksEndEveryRequestThatWaitsForAPlaceOnce) {
  break_a_thousand_times(12);
}

}  // namespace
}  // namespace troupe::wire
