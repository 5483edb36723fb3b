// Who may do what, in a simulated world: keys that are taken away, names that come again, readers
// that stand where nothing is, and credit of any size.
#include <gtest/gtest.h>

#include "wire/test_world.hpp"
#include "wire/writer.hpp"

namespace troupe::wire {
namespace {

size_t count(const World::Side& side, Kind kind) {
  size_t found = 0;
  for (const World::Message& message : side.down) found += message.kind == kind ? 1 : 0;
  return found;
}

// The request that the client sent last, as it is on its way.
Id128 name_of_last(const World::Side& side) {
  return read_submit(side.up.back().body, Limits())->id;
}

TEST(WireRights, AKeyThatWasTakenOffTheListSaysHelloInVain) {
  World world(1);
  auto& client = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(client, prompt(1 << 30));
  world.rounds(3);
  world.allowed = [](std::string_view) { return false; };
  world.server->revoke([](const std::string&) { return false; });
  Hello hello;  // over the connection that it still has
  hello.speaks_this_version = true;
  hello.client[0] = 77;
  std::string body;
  write_hello(body, hello);
  client.held = true;
  world.knock(client, Kind::hello, body);
  EXPECT_EQ(world.server->clients(), 0U);
  EXPECT_EQ(count(client, Kind::welcome), 0U);
  EXPECT_EQ(count(client, Kind::refused), 2U);  // once told, once answered
  client.held = false;
  world.rounds(400);  // nor over a new one
  EXPECT_EQ(sink->ends, 1);
  EXPECT_EQ(client.core->verdict().code(), Code::unauthorised);
  EXPECT_EQ(world.server->clients(), 0U);
}

// A name of a peer that a client chose itself comes again: with its next process, or a stranger's.
TEST(WireRights, APeersNameOnAnotherConnectionIsNobodyYet) {
  World world(2);
  auto& client = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(client, prompt(1 << 30));
  const Id128 name = name_of_last(client);
  world.rounds(3);
  const int other = 0;
  std::string cancel;
  write_id(cancel, name);
  client.held = true;
  client.down.clear();
  const uint64_t dropped = world.server->counters().dropped;
  world.knock(client, Kind::cancel, cancel, {}, &other);
  world.rounds(3);
  EXPECT_EQ(world.engine->cancels, 0U);
  EXPECT_EQ(world.server->counters().dropped, dropped + 1);
  EXPECT_EQ(world.server->peers(), 0U) << "the first connection is over";
  EXPECT_TRUE(client.down.empty()) << "and nothing of its client goes to the second";
  Hello hello;
  hello.speaks_this_version = true;
  hello.client[0] = 78;
  std::string body;
  write_hello(body, hello);
  world.knock(client, Kind::hello, body, {}, &other);
  world.rounds(1);
  EXPECT_EQ(count(client, Kind::welcome), 1U);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireRights, ATicketIsGoodUntilTheNextOneHasArrived) {
  World world(6);
  auto& client = world.add_client();
  world.rounds(3);
  const auto sink = world.submit(client, prompt(200));
  world.rounds(3);
  for (int lost = 0; lost < 5; ++lost) {
    world.cut(client, true);
    while (client.up.empty()) world.round();
    ASSERT_EQ(client.up.front().kind, Kind::hello);
    world.knock(client, Kind::hello, client.up.front().body);  // the WELCOME is lost
  }
  world.cut(client, true);
  world.rounds(500);
  EXPECT_EQ(sink->ends, 1);
  EXPECT_EQ(sink->tokens[0].size(), 200U) << sink->last.status.message();
}

TEST(WireRights, AReaderWhoStandsWhereNothingIsIsToldOnceAndForGood) {
  World world(3);
  auto& client = world.add_client();
  world.rounds(3);
  world.submit(client, prompt(1 << 30));
  const Id128 name = name_of_last(client);
  world.rounds(10);
  client.held = true;
  client.down.clear();
  const Position beyond[] = {{1'000'000, 0}};
  std::string body;
  write_resume(body, name, beyond, 8);
  world.knock(client, Kind::resume, body);
  world.rounds(20);
  ASSERT_EQ(client.down.size(), 1U) << "no delta and no second end behind the FAILED";
  EXPECT_EQ(client.down.front().kind, Kind::failed);
  EXPECT_EQ(world.engine->cancels, 1U);
  EXPECT_EQ(world.engine->running(), 0U);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireRights, AnEndedRequestResumedWhereNothingIsIsForgotten) {
  World world(4);
  auto& client = world.add_client();
  world.rounds(3);
  world.submit(client, prompt(5));
  const Id128 name = name_of_last(client);
  client.core->tick(world.now_ns);
  world.round();
  client.held = true;
  world.rounds(10);  // it ended, and nobody released it
  client.down.clear();
  const Position beyond[] = {{6, 0}};
  std::string body;
  write_resume(body, name, beyond, 8);
  world.knock(client, Kind::resume, body);
  world.rounds(3);
  ASSERT_EQ(client.down.size(), 1U);
  EXPECT_EQ(client.down.front().kind, Kind::failed);
  EXPECT_EQ(world.server->check_integrity(), "");
}

TEST(WireRights, AStopBringsTheEndEvenToWhoGaveNoCredit) {
  World world(7);
  auto& client = world.add_client();
  world.rounds(3);
  client.held = true;
  client.down.clear();
  world.knock(client, Kind::submit, pack_submit(Id128{1}, 0, prompt(1 << 30), Limits()).body);
  world.rounds(10);
  EXPECT_EQ(count(client, Kind::delta), 0U);
  world.server->drain(0);
  world.server->cancel_all({Code::closed, "the server stopped", true});
  world.rounds(3);
  EXPECT_EQ(count(client, Kind::delta), 1U) << "what was said so far";
  EXPECT_EQ(count(client, Kind::cancelled), 1U);
  EXPECT_EQ(world.server->awaited(), 0U);
}

std::string credit_body(const Id128& id, int64_t n) {
  std::string body;
  Writer writer(body);
  Writer::Map map(writer);
  map.key(key::id).id(id);
  map.key(key::credit::n).integer(n);
  return body;
}

TEST(WireRights, CreditMayBeOfAnySizeButNotNegative) {
  for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{1} << 20, int64_t{1} << 31,
                          int64_t{1} << 32, int64_t{1} << 62, int64_t{-1}}) {
    World world(5);
    ClientConfig config;
    config.credit = 2;
    auto& client = world.add_client(config);
    world.rounds(3);
    const auto sink = world.submit(client, prompt(40));
    const Id128 name = name_of_last(client);
    world.round();
    client.held = true;
    world.rounds(10);
    client.down.clear();
    const uint64_t dropped = world.server->counters().dropped;
    for (int i = 0; i < 2; ++i)  // the sum is bounded as well
      world.knock(client, Kind::credit, credit_body(name, n));
    world.rounds(20);
    EXPECT_EQ(world.server->counters().dropped - dropped, n < 0 ? 2U : 0U);
    const size_t deltas = count(client, Kind::delta);
    if (n > 1) {
      EXPECT_GT(deltas, 10U) << n;
    } else {
      EXPECT_EQ(deltas, n == 1 ? 2U : 0U) << n;
    }
    EXPECT_EQ(world.server->peers(), 1U);
    EXPECT_EQ(world.server->check_integrity(), "");
  }
}

}  // namespace
}  // namespace troupe::wire
