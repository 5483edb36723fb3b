// Seeded worlds of the balancer: pictures are slow, broken or wanted by many, users leave, devices die,
// and everything that was promised still holds.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "engine/test_pictures.hpp"

namespace troupe::engine {
namespace {

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
    c.soon_bytes = static_cast<int64_t>(pick(40));
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

TEST(VisionBalancerWorlds, KeepItsPromises) {
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
