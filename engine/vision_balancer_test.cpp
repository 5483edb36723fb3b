// The balancer alone: one behaviour per test.
#include <gtest/gtest.h>

#include "engine/test_pictures.hpp"

namespace troupe::engine {
namespace {

VisionConfig config(int32_t devices = 1) {
  VisionConfig c;
  c.devices = devices;
  c.embedding_bytes = 100;
  c.work_bytes = 100;
  c.batch_patches = 64;
  c.ns_per_cost = 1.0;
  return c;
}

PictureId want(VisionBalancer& balancer, UserId user, const PictureWork& work) {
  std::vector<PictureId> ids;
  EXPECT_TRUE(balancer.want(user, std::span(&work, 1), ids).ok());
  return ids.at(0);
}

VisionOrders act(VisionBalancer& balancer) {
  VisionOrders orders;
  balancer.act(orders);
  const Status sound = balancer.check_integrity();
  EXPECT_TRUE(sound.ok()) << sound.message();
  return orders;
}

void prepare(VisionBalancer& balancer, PictureId id, int32_t tiles) {
  for (int32_t t = 0; t < tiles; ++t) balancer.prepared(id, t, {});
}

// Answers calls until a picture is ready, and gives what came.
VisionOrders run(VisionBalancer& balancer) {
  VisionOrders all;
  for (int i = 0; i < 1000; ++i) {
    const VisionOrders orders = act(balancer);
    if (orders.empty()) break;
    for (const PictureId id : orders.prepare) prepare(balancer, id, 1);
    for (const DeviceCall& call : orders.calls) balancer.called(call.id, 100);
    all.ready.insert(all.ready.end(), orders.ready.begin(), orders.ready.end());
    all.failed.insert(all.failed.end(), orders.failed.begin(), orders.failed.end());
    all.forget.insert(all.forget.end(), orders.forget.begin(), orders.forget.end());
  }
  return all;
}

TEST(VisionBalancer, APictureGoesFromRoomToRows) {
  VisionBalancer balancer(config());
  const PictureId id = want(balancer, 1, picture(5, 3));
  VisionOrders orders = act(balancer);
  ASSERT_EQ(orders.prepare, std::vector<PictureId>{id});
  prepare(balancer, id, 3);
  orders = act(balancer);
  ASSERT_EQ(orders.calls.size(), 1U);
  EXPECT_EQ(orders.calls[0].tiles.size(), 3U);  // packed into one call
  balancer.called(orders.calls[0].id, 50);
  orders = act(balancer);
  ASSERT_EQ(orders.calls.size(), 1U);
  EXPECT_EQ(orders.calls[0].tiles.at(0).tile, kJoin);
  EXPECT_FALSE(balancer.ready(id));
  balancer.called(orders.calls[0].id, 1);
  orders = act(balancer);
  ASSERT_EQ(orders.ready.size(), 1U);
  EXPECT_EQ(orders.ready[0].user, 1U);
  EXPECT_TRUE(balancer.ready(id));
  EXPECT_EQ(balancer.stats().encoded, 1U);
  EXPECT_EQ(balancer.stats().work_bytes, 0);
}

TEST(VisionBalancer, TheRowsOfAnOnlyTileAreThePictures) {
  VisionBalancer balancer(config());
  PictureWork work = picture(5);
  work.joins = false;
  const PictureId id = want(balancer, 1, work);
  prepare(balancer, act(balancer).prepare.at(0), 1);
  balancer.called(act(balancer).calls.at(0).id, 50);
  const VisionOrders orders = act(balancer);
  EXPECT_TRUE(orders.calls.empty());
  EXPECT_EQ(orders.ready.size(), 1U);
  EXPECT_TRUE(balancer.ready(id));
}

VisionConfig two_in_turns() {
  VisionConfig c = config();
  c.devices = 2;
  c.calls_max = 1;
  c.turns = true;
  return c;
}

std::vector<PictureId> want_four(VisionBalancer& balancer, int64_t work_bytes) {
  std::vector<PictureId> ids;
  for (UserId user = 1; user <= 4; ++user) {
    PictureWork work = picture(user);
    work.joins = false;
    work.work_bytes = work_bytes;
    ids.push_back(want(balancer, user, work));
  }
  EXPECT_EQ(act(balancer).prepare.size(), 4U);
  return ids;
}

// Two encoders of one chip: the second would wait for its turn, and takes what comes meanwhile.
TEST(VisionBalancer, WhoWaitsForItsTurnWaitsForCompany) {
  VisionConfig c = two_in_turns();
  c.soon_bytes = 10;
  VisionBalancer balancer(c);
  const std::vector<PictureId> ids = want_four(balancer, 20);
  prepare(balancer, ids[0], 1);
  const VisionOrders first = act(balancer);
  ASSERT_EQ(first.calls.size(), 1U);  // none of the others comes soon
  prepare(balancer, ids[1], 1);
  EXPECT_TRUE(act(balancer).calls.empty());  // two are still to come
  prepare(balancer, ids[2], 1);
  balancer.undecoded(ids[3], invalid("broken"));
  const VisionOrders second = act(balancer);
  ASSERT_EQ(second.calls.size(), 1U);
  EXPECT_NE(second.calls[0].device, first.calls[0].device);
  EXPECT_EQ(second.calls[0].tiles.size(), 2U);
}

// Nobody computes: a quarter of a call is enough, and only what comes soon is waited for.
TEST(VisionBalancer, WhoCouldBeginWaitsForAQuarterThatComesSoon) {
  VisionConfig c = two_in_turns();
  c.batch_patches = 128;
  c.soon_bytes = 20;
  VisionBalancer balancer(c);
  const std::vector<PictureId> ids = want_four(balancer, 20);
  prepare(balancer, ids[2], 1);
  EXPECT_TRUE(act(balancer).calls.empty());  // 16 of 128 patches
  prepare(balancer, ids[0], 1);
  const VisionOrders quarter = act(balancer);
  ASSERT_EQ(quarter.calls.size(), 1U);
  EXPECT_EQ(quarter.calls[0].tiles.size(), 2U);
  balancer.called(quarter.calls[0].id, 100);
  prepare(balancer, ids[1], 1);
  EXPECT_TRUE(act(balancer).calls.empty());
  balancer.leave(4);  // wanted by nobody, and still being prepared
  EXPECT_TRUE(act(balancer).calls.empty());
  balancer.prepared(ids[3], 0, invalid("broken"));
  const VisionOrders rest = act(balancer);
  ASSERT_EQ(rest.calls.size(), 1U);
  EXPECT_EQ(rest.calls[0].tiles.size(), 1U);
}

TEST(VisionBalancer, OnePictureForManyIsEncodedOnce) {
  VisionBalancer balancer(config());
  const PictureId id = want(balancer, 1, picture(5));
  EXPECT_EQ(want(balancer, 2, picture(5)), id);
  VisionOrders orders = run(balancer);
  EXPECT_EQ(orders.ready.size(), 2U);
  EXPECT_EQ(want(balancer, 3, picture(5)), id);
  orders = run(balancer);
  EXPECT_EQ(orders.ready.size(), 1U);
  EXPECT_EQ(balancer.stats().encoded, 1U);
  EXPECT_EQ(balancer.stats().reused, 2U);
}

TEST(VisionBalancer, TheSamePictureTwiceInOneRequestIsOnePicture) {
  VisionBalancer balancer(config());
  const std::vector<PictureWork> works = {picture(5), picture(6), picture(5)};
  std::vector<PictureId> ids;
  ASSERT_TRUE(balancer.want(1, works, ids).ok());
  ASSERT_EQ(ids.size(), 3U);
  EXPECT_EQ(ids[0], ids[2]);
  EXPECT_EQ(run(balancer).ready.size(), 2U);
}

TEST(VisionBalancer, RowsThatNobodyUsesGiveWayOldestFirst) {
  VisionBalancer balancer(config());
  for (uint64_t user = 1; user <= 10; ++user) want(balancer, user, picture(user));
  EXPECT_EQ(run(balancer).ready.size(), 10U);
  const PictureId first = want(balancer, 11, picture(1));  // used again: now the newest
  for (uint64_t user = 1; user <= 11; ++user) balancer.leave(user);
  const PictureId fresh = want(balancer, 12, picture(99));
  const VisionOrders orders = run(balancer);
  ASSERT_EQ(orders.forget.size(), 1U);
  EXPECT_TRUE(balancer.ready(first));
  EXPECT_TRUE(balancer.ready(fresh));
  EXPECT_NE(orders.forget[0], first);
}

TEST(VisionBalancer, WhoWaitsForRoomIsNotPassedBy) {
  VisionBalancer balancer(config());
  for (uint64_t user = 1; user <= 6; ++user) want(balancer, user, picture(user));
  run(balancer);
  std::vector<PictureId> ids;
  const std::vector<PictureWork> large = {picture(50, 1, 100.0, 50)};
  ASSERT_TRUE(balancer.want(7, large, ids).ok());  // 60 of 100 are used
  want(balancer, 8, picture(51));                  // would fit
  EXPECT_TRUE(run(balancer).ready.empty());
  balancer.leave(1);
  const VisionOrders orders = run(balancer);
  ASSERT_EQ(orders.ready.size(), 1U);
  EXPECT_EQ(orders.ready[0].user, 7U);
}

TEST(VisionBalancer, MoreThanTheRoomIsRefusedWithBothNumbers) {
  VisionConfig c = config();
  c.embedding_bytes = int64_t{8} << 20;
  VisionBalancer balancer(c);
  std::vector<PictureId> ids;
  const std::vector<PictureWork> works = {picture(1, 1, 1.0, int64_t{5} << 20),
                                          picture(2, 1, 1.0, int64_t{6} << 20)};
  const Status status = balancer.want(1, works, ids);
  EXPECT_EQ(status.code(), Code::limit);
  EXPECT_NE(status.message().find("11 MiB"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("8 MiB"), std::string::npos) << status.message();
  EXPECT_TRUE(act(balancer).empty());
}

TEST(VisionBalancer, WorkingMemoryIsHandedOutInTurn) {
  VisionConfig c = config();
  c.work_bytes = 50;  // two pictures at once
  VisionBalancer balancer(c);
  std::vector<PictureId> ids;
  for (uint64_t user = 1; user <= 3; ++user) ids.push_back(want(balancer, user, picture(user)));
  EXPECT_EQ(act(balancer).prepare.size(), 2U);
  balancer.undecoded(ids[0], invalid("broken"));
  const VisionOrders orders = act(balancer);
  ASSERT_EQ(orders.failed.size(), 1U);
  EXPECT_EQ(orders.failed[0].user, 1U);
  EXPECT_EQ(act(balancer).prepare.size() + orders.prepare.size(), 1U);
}

TEST(VisionBalancer, JobsGoWhereTheyAreDoneFirst) {
  VisionBalancer balancer(config(2));
  // Device 1 shows itself four times as quick.
  std::vector<int32_t> counts(2, 0);
  for (uint64_t user = 1; user <= 60; ++user) {
    balancer.leave(user - 1);
    const PictureId id = want(balancer, user, picture(user));
    act(balancer);
    prepare(balancer, id, 1);
    VisionOrders orders = act(balancer);
    while (orders.ready.empty()) {
      for (const DeviceCall& call : orders.calls) {
        if (call.tiles[0].tile != kJoin) ++counts[static_cast<size_t>(call.device)];
        balancer.called(call.id, call.device == 0 ? 400 : 100);
      }
      orders = act(balancer);
    }
  }
  EXPECT_NEAR(balancer.ns_per_cost(0), 4.0, 0.01);
  EXPECT_EQ(counts[0], 1);  // tried once, then never the first to be done
  balancer.leave(60);
  // A burst: shares as the speeds are, one to four.
  counts = {0, 0};
  const PictureId burst = want(balancer, 100, picture(1000, 50));
  act(balancer);
  prepare(balancer, burst, 50);
  for (int i = 0; i < 100; ++i) {
    const VisionOrders orders = act(balancer);
    for (const DeviceCall& call : orders.calls) {
      if (call.tiles[0].tile == kJoin) continue;
      counts[static_cast<size_t>(call.device)] += static_cast<int32_t>(call.tiles.size());
      balancer.called(call.id, (call.device == 0 ? 400 : 100) * static_cast<int64_t>(call.tiles.size()));
    }
  }
  EXPECT_NEAR(counts[0], 10, 1);
  EXPECT_NEAR(counts[1], 40, 1);
}

TEST(VisionBalancer, ADeadDevicesTilesGoElsewhereAndPoisonGoesAlone) {
  VisionConfig c = config(2);
  c.attempts_max = 2;
  VisionBalancer balancer(c);
  const PictureId id = want(balancer, 1, picture(5, 8));
  act(balancer);
  prepare(balancer, id, 8);
  for (int death = 0; death < 20; ++death) {
    const VisionOrders orders = act(balancer);
    if (!orders.failed.empty()) {
      EXPECT_EQ(orders.failed[0].status.code(), Code::device_failed);
      EXPECT_GE(death, 3);
      return;
    }
    ASSERT_FALSE(orders.calls.empty());
    if (death > 0) {
      EXPECT_EQ(orders.calls[0].tiles.size(), 1U);
    }
    for (int32_t d = 0; d < 2; ++d) {
      balancer.device_lost(d, {Code::device_failed, "died"}, true);
      balancer.device_gained(d);
    }
  }
  FAIL() << "never gave up";
}

TEST(VisionBalancer, WithoutAnyDeviceLeftEverybodyIsTold) {
  VisionBalancer balancer(config(2));
  want(balancer, 1, picture(5));
  act(balancer);
  balancer.device_lost(0, {Code::device_failed, "first"}, false);
  EXPECT_TRUE(act(balancer).failed.empty());
  balancer.device_lost(1, {Code::device_failed, "second"}, false);
  EXPECT_EQ(act(balancer).failed.size(), 1U);
  std::vector<PictureId> ids;
  const PictureWork work = picture(6);
  EXPECT_EQ(balancer.want(2, std::span(&work, 1), ids).code(), Code::device_failed);
}

}  // namespace
}  // namespace troupe::engine
