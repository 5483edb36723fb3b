// The balancer alone: one behaviour per test, then seeded worlds in which pictures are slow, broken
// or wanted by many, users leave, devices die, and everything that was promised still holds.
#include "engine/vision_balancer.hpp"

#include <gtest/gtest.h>

#include <random>

namespace troupe::engine {
namespace {

PictureWork picture(uint64_t content, int32_t tiles = 1, double cost = 100.0, int64_t bytes = 10) {
  PictureWork work;
  work.content = {content, content * 7};
  work.tiles.assign(static_cast<size_t>(tiles), {cost, 16});
  work.embedding_bytes = bytes;
  work.work_bytes = 20;
  return work;
}

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

// Two encoders of one chip: the second would wait for its turn, and takes what comes meanwhile.
TEST(VisionBalancer, WhoWaitsForItsTurnWaitsForCompany) {
  VisionConfig c = config();
  c.devices = 2;
  c.calls_max = 1;
  c.turns = true;
  VisionBalancer balancer(c);
  std::vector<PictureId> ids;
  for (UserId user = 1; user <= 4; ++user) {
    PictureWork work = picture(user);
    work.joins = false;
    ids.push_back(want(balancer, user, work));
  }
  EXPECT_EQ(act(balancer).prepare.size(), 4U);
  prepare(balancer, ids[0], 1);
  const VisionOrders first = act(balancer);
  ASSERT_EQ(first.calls.size(), 1U);
  prepare(balancer, ids[1], 1);
  EXPECT_TRUE(act(balancer).calls.empty());  // two are still to come
  prepare(balancer, ids[2], 1);
  balancer.undecoded(ids[3], invalid("broken"));
  const VisionOrders second = act(balancer);
  ASSERT_EQ(second.calls.size(), 1U);
  EXPECT_NE(second.calls[0].device, first.calls[0].device);
  EXPECT_EQ(second.calls[0].tiles.size(), 2U);
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

// ---- worlds ----

class World {
 public:
  explicit World(uint64_t seed) : random_(seed), config_(make_config()), balancer_(config_) {
    deaths_left_ = pick(3) == 0 ? pick(6) : 0;
  }
  void run() {
    for (int turn = 0; turn < 3000 && ok_; ++turn) {
      if (arrivals_left_ > 0 && pick(100) < 20) arrive();
      move();
      obey();
      if (arrivals_left_ == 0 && users_.empty() && tasks_.empty() && calls_.empty()) break;
    }
    for (int turn = 0; turn < 20000 && !users_.empty() && ok_; ++turn) {
      patient_ = true;
      move();
      obey();
    }
    EXPECT_TRUE(users_.empty()) << "somebody waits for ever";
    while (!tasks_.empty() || !calls_.empty()) {
      move();
      obey();
    }
    const VisionStats s = balancer_.stats();
    EXPECT_EQ(s.work_bytes, 0);
    // All that is left is kept rows, which give way.
    EXPECT_LE(s.embedding_bytes, config_.embedding_bytes);
    encoded += static_cast<int64_t>(s.encoded);
    reused += static_cast<int64_t>(s.reused);
    retried += static_cast<int64_t>(s.retried);
    evicted += static_cast<int64_t>(s.evicted);
  }
  int64_t encoded = 0, reused = 0, retried = 0, evicted = 0, cancelled = 0, failures = 0;

 private:
  struct Task {
    PictureId picture;
    int32_t tiles;  // still to be cut; -1: not decoded yet
    int32_t next = 0;
  };
  struct UserState {
    std::set<PictureId> waits;
    int64_t stays = 0;  // turns after everything was ready
  };
  struct Kept {
    int32_t tiles = 0;
    std::set<int32_t> done;
    bool joined = false;
  };

  uint64_t pick(uint64_t below) { return random_() % below; }
  VisionConfig make_config() {
    VisionConfig c;
    c.devices = static_cast<int32_t>(1 + pick(4));
    c.embedding_bytes = static_cast<int64_t>(40 + pick(200));
    c.work_bytes = static_cast<int64_t>(10 + pick(200));
    c.batch_patches = static_cast<int64_t>(1 + pick(60));
    c.calls_max = static_cast<int32_t>(1 + pick(3));
    c.ns_per_cost = 1.0;
    c.turns = pick(3) == 0;
    for (int32_t d = 0; d < c.devices; ++d) alive_.push_back(true);
    return c;
  }
  void fail(const std::string& what) {
    ok_ = false;
    ADD_FAILURE() << what;
  }

  void arrive() {
    --arrivals_left_;
    std::vector<PictureWork> works;
    for (uint64_t n = 1 + pick(4); n > 0; --n) {
      const uint64_t content = pick(12);
      PictureWork w = picture(content, static_cast<int32_t>(1 + content % 5), static_cast<double>(10 + content),
                              static_cast<int64_t>(5 + content * 2));
      w.work_bytes = static_cast<int64_t>(5 + 9 * (content % 7));
      w.joins = content % 5 != 0 || content == 0;  // those of one tile: some
      works.push_back(w);
    }
    const UserId user = next_user_++;
    std::vector<PictureId> ids;
    const Status status = balancer_.want(user, works, ids);
    if (!status.ok()) {
      EXPECT_EQ(status.code(), Code::limit) << status.message();
      return;
    }
    UserState& state = users_[user];
    for (size_t i = 0; i < ids.size(); ++i) {
      state.waits.insert(ids[i]);
      tiles_of_[ids[i]] = static_cast<int32_t>(works[i].tiles.size());
      joins_[ids[i]] = works[i].joins;
      broken_[ids[i]] = works[i].content.high == 11;  // never decodes
    }
    state.stays = static_cast<int64_t>(pick(30));
  }

  void move() {
    if (!tasks_.empty() && pick(2) == 0) {
      const size_t i = pick(tasks_.size());
      Task& t = tasks_[i];
      bool gone = false;
      if (t.tiles < 0) {
        t.tiles = tiles_of_[t.picture];
        gone = broken_[t.picture] || !balancer_.wanted(t.picture);
        if (gone) balancer_.undecoded(t.picture, invalid("broken"));
      } else {
        balancer_.prepared(t.picture, t.next++, {});
        gone = t.next == t.tiles;
      }
      if (gone) tasks_.erase(tasks_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (!calls_.empty() && pick(2) == 0) answer(pick(calls_.size()));
    if (deaths_left_ > 0 && pick(40) == 0) {
      --deaths_left_;
      const auto d = static_cast<int32_t>(pick(alive_.size()));
      if (alive_[static_cast<size_t>(d)]) {
        alive_[static_cast<size_t>(d)] = false;
        std::erase_if(calls_, [&](const DeviceCall& c) { return c.device == d; });
        balancer_.device_lost(d, {Code::device_failed, "died"}, true);
      }
    }
    const size_t d = pick(alive_.size());
    if (!alive_[d] && pick(5) == 0) {
      alive_[d] = true;
      balancer_.device_gained(static_cast<int32_t>(d));
    }
    if (!users_.empty() && !patient_ && pick(60) == 0) {
      auto it = std::next(users_.begin(), static_cast<std::ptrdiff_t>(pick(users_.size())));
      balancer_.leave(it->first);
      users_.erase(it);
      ++cancelled;
    }
    std::vector<UserId> done;
    for (auto& [id, user] : users_) {
      if (user.waits.empty() && --user.stays < 0) done.push_back(id);
    }
    for (const UserId id : done) {
      balancer_.leave(id);
      users_.erase(id);
    }
  }

  void answer(size_t i) {
    const DeviceCall call = calls_[i];
    calls_.erase(calls_.begin() + static_cast<std::ptrdiff_t>(i));
    if (pick(50) == 0) return balancer_.call_failed(call.id, internal_error("odd tile"));
    for (const TileRef& ref : call.tiles) {
      const auto at = kept_.find(ref.picture);
      if (at == kept_.end()) continue;  // forgotten meanwhile
      Kept& kept = at->second;
      if (ref.tile == kJoin) {
        if (static_cast<int32_t>(kept.done.size()) != kept.tiles || kept.joined) fail("joined too early, or twice");
        kept.joined = true;
      } else if (!kept.done.insert(ref.tile).second) {
        fail("INV-VISION-4: a tile was encoded twice");
      }
    }
    balancer_.called(call.id, static_cast<int64_t>(1 + pick(100)));
  }

  void obey() {
    VisionOrders orders;
    balancer_.act(orders);
    const Status sound = balancer_.check_integrity();
    if (!sound.ok()) fail(sound.message());
    for (const PictureId id : orders.forget) kept_.erase(id);
    for (const PictureId id : orders.prepare) {
      tasks_.push_back({id, -1});
      if (!kept_.emplace(id, Kept{tiles_of_[id], {}, false}).second) fail("prepared twice");
    }
    for (const DeviceCall& call : orders.calls) {
      if (!alive_[static_cast<size_t>(call.device)]) fail("a call to a dead device");
      calls_.push_back(call);
    }
    for (const auto& r : orders.ready) {
      const auto user = users_.find(r.user);
      if (user == users_.end() || user->second.waits.erase(r.picture) != 1) {
        fail("INV-VISION-1: told twice, or told somebody who has left");
      }
      const auto kept = kept_.find(r.picture);
      if (kept == kept_.end() || kept->second.joined != joins_[r.picture] ||
          static_cast<int32_t>(kept->second.done.size()) != kept->second.tiles) {
        fail("ready without rows");
      }
    }
    for (const auto& f : orders.failed) {
      if (users_.erase(f.user) != 1) fail("INV-VISION-1: a failure for nobody");
      ++failures;
    }
  }

  std::mt19937_64 random_;
  std::vector<bool> alive_;
  VisionConfig config_;
  VisionBalancer balancer_;
  std::vector<Task> tasks_;
  std::vector<DeviceCall> calls_;
  std::map<UserId, UserState> users_;
  std::map<PictureId, int32_t> tiles_of_;
  std::map<PictureId, bool> broken_, joins_;
  std::map<PictureId, Kept> kept_;
  UserId next_user_ = 1;
  int arrivals_left_ = 40;
  uint64_t deaths_left_ = 0;
  bool ok_ = true, patient_ = false;
};

TEST(VisionBalancer, KeepsItsPromisesInEveryWorld) {
  int64_t encoded = 0, reused = 0, retried = 0, evicted = 0, cancelled = 0, failures = 0;
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    World world(seed);
    world.run();
    if (testing::Test::HasFailure()) FAIL() << "seed " << seed;
    encoded += world.encoded;
    reused += world.reused;
    retried += world.retried;
    evicted += world.evicted;
    cancelled += world.cancelled;
    failures += world.failures;
  }
  EXPECT_GT(encoded, 20000);
  EXPECT_GT(reused, 20000);
  EXPECT_GT(retried, 200);
  EXPECT_GT(evicted, 5000);
  EXPECT_GT(cancelled, 2000);
  EXPECT_GT(failures, 2000);
}

}  // namespace
}  // namespace troupe::engine
