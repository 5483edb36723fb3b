#include "engine/vision_balancer.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace troupe::engine {
namespace {

std::pair<uint64_t, uint64_t> content_of(const PictureWork& work) {
  return {work.content.high, work.content.low};
}

std::string mebibytes(int64_t bytes) {
  return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB";
}

}  // namespace

void VisionOrders::clear() {
  forget.clear();
  prepare.clear();
  calls.clear();
  ready.clear();
  failed.clear();
}
bool VisionOrders::empty() const {
  return forget.empty() && prepare.empty() && calls.empty() && ready.empty() && failed.empty();
}

VisionBalancer::VisionBalancer(VisionConfig config)
    : config_(config), devices_(static_cast<size_t>(config.devices)) {
  TR_ASSERT(config.devices > 0 && config.calls_max > 0 && config.embedding_bytes > 0);
  for (Device& d : devices_) d.ns_per_cost = config.ns_per_cost;
}

VisionBalancer::Tile& VisionBalancer::tile(const TileRef& ref) {
  Picture& picture = pictures_.at(ref.picture);
  return ref.tile == kJoin ? picture.tiles.back() : picture.tiles[static_cast<size_t>(ref.tile)];
}

PictureId VisionBalancer::find_or_add(const PictureWork& work, bool& known) {
  const auto [at, fresh] = by_content_.try_emplace(content_of(work), next_picture_);
  known = !fresh;
  if (known) return at->second;
  Picture& picture = pictures_[next_picture_];
  picture.work = work;
  for (const TileWork& t : work.tiles) picture.tiles.push_back({t, 0, -1, 0, false});
  picture.tiles.push_back({{0.0, 0}, 0, -1, 0, false});
  picture.to_encode = static_cast<int32_t>(work.tiles.size());
  return next_picture_++;
}

Status VisionBalancer::want(UserId user, std::span<const PictureWork> pictures,
                            std::vector<PictureId>& ids) {
  TR_ASSERT(!users_.contains(user) && !pictures.empty());
  if (dead_) return *dead_;
  std::map<std::pair<uint64_t, uint64_t>, int64_t> distinct;
  for (const PictureWork& p : pictures) distinct[content_of(p)] = p.embedding_bytes;
  int64_t bytes = 0;
  for (const auto& [content, size] : distinct) bytes += size;
  const int64_t most = config_.user_bytes > 0 ? config_.user_bytes : config_.embedding_bytes;
  if (bytes > most) {
    return limit_exceeded("images: the rows of this request's pictures take " + mebibytes(bytes) +
                          ", and one request may take " + mebibytes(most) +
                          "; send fewer or smaller ones");
  }
  User& added = users_[user];
  bool roomless = false;
  for (const PictureWork& p : pictures) {
    bool known = false;
    const PictureId id = find_or_add(p, known);
    ids.push_back(id);
    if (std::find(added.pictures.begin(), added.pictures.end(), id) != added.pictures.end()) continue;
    added.pictures.push_back(id);
    Picture& picture = pictures_.at(id);
    picture.users.push_back(user);
    picture.used = ++uses_;
    stats_.reused += known ? 1 : 0;
    roomless |= picture.stage == Stage::roomless;
    if (picture.stage == Stage::ready) pending_.ready.push_back({user, id});
  }
  if (roomless) roomless_.push_back(user);
  return ok_status();
}

void VisionBalancer::leave(UserId user) {
  const auto at = users_.find(user);
  if (at == users_.end()) {  // it failed, and may not have been told yet
    std::erase_if(pending_.failed, [&](const auto& f) { return f.user == user; });
    return;
  }
  const User gone = std::move(at->second);
  users_.erase(at);
  std::erase(roomless_, user);
  std::erase_if(pending_.ready, [&](const auto& r) { return r.user == user; });
  for (const PictureId id : gone.pictures) {
    const auto found = pictures_.find(id);
    if (found == pictures_.end()) continue;
    Picture& picture = found->second;
    std::erase(picture.users, user);
    if (picture.users.empty() && picture.stage != Stage::ready) abandon(id, picture);
  }
}

// ---- room, then work ----

bool VisionBalancer::make_room(int64_t bytes, VisionOrders& orders) {
  while (stats_.embedding_bytes + bytes > config_.embedding_bytes) {
    auto victim = pictures_.end();
    for (auto it = pictures_.begin(); it != pictures_.end(); ++it) {
      const Picture& p = it->second;
      if (p.stage != Stage::ready || !p.users.empty()) continue;
      if (victim == pictures_.end() || p.used < victim->second.used) victim = it;
    }
    if (victim == pictures_.end()) return false;
    stats_.embedding_bytes -= victim->second.work.embedding_bytes;
    ++stats_.evicted;
    by_content_.erase(content_of(victim->second.work));
    orders.forget.push_back(victim->first);
    pictures_.erase(victim);
  }
  return true;
}

// Whoever came first gets room first: nobody is passed by, and nobody holds a part of its room
// while it waits for the rest.
void VisionBalancer::give_room(VisionOrders& orders) {
  while (!roomless_.empty()) {
    const User& user = users_.at(roomless_.front());
    int64_t bytes = 0;
    for (const PictureId id : user.pictures) {
      const Picture& p = pictures_.at(id);
      if (p.stage == Stage::roomless) bytes += p.work.embedding_bytes;
    }
    if (!make_room(bytes, orders)) return;
    stats_.embedding_bytes += bytes;
    for (const PictureId id : user.pictures) {
      Picture& p = pictures_.at(id);
      if (p.stage != Stage::roomless) continue;
      p.stage = Stage::queued;
      to_work_.push_back(id);
    }
    roomless_.pop_front();
  }
}

void VisionBalancer::count_preparing(const Picture& picture, int64_t tiles) {
  preparing_ += tiles;
  if (picture.work.work_bytes <= config_.soon_bytes) preparing_soon_ += tiles;
}

void VisionBalancer::start_work(VisionOrders& orders) {
  while (!to_work_.empty()) {
    Picture& picture = pictures_.at(to_work_.front());
    const int64_t bytes = picture.work.work_bytes;
    if (stats_.work_bytes > 0 && stats_.work_bytes + bytes > config_.work_bytes) return;
    stats_.work_bytes += bytes;
    picture.stage = Stage::working;
    picture.to_prepare = static_cast<int32_t>(picture.work.tiles.size());
    count_preparing(picture, picture.to_prepare);
    orders.prepare.push_back(to_work_.front());
    to_work_.pop_front();
  }
}

void VisionBalancer::prepared(PictureId id, int32_t index, const Status& status) {
  const auto at = pictures_.find(id);
  if (at == pictures_.end()) return;
  --at->second.to_prepare;
  count_preparing(at->second, -1);
  if (at->second.stage == Stage::abandoned) return bury_if_idle(id);
  if (!status.ok()) return fail_picture(id, status);
  place({id, index}, false);
}

void VisionBalancer::undecoded(PictureId id, const Status& why) {
  const auto at = pictures_.find(id);
  if (at == pictures_.end()) return;
  count_preparing(at->second, -std::exchange(at->second.to_prepare, 0));
  if (at->second.stage == Stage::abandoned) return bury_if_idle(id);
  fail_picture(id, why);
}

// ---- ends ----

void VisionBalancer::fail_user(UserId user, const Status& why) {
  pending_.failed.push_back({user, why});
  leave(user);
}

void VisionBalancer::fail_picture(PictureId id, const Status& why) {
  const std::vector<UserId> users = pictures_.at(id).users;
  TR_ASSERT(!users.empty());  // else it was abandoned
  for (const UserId user : users) fail_user(user, why);
}

// Nobody wants it, and it is not encoded: what runs for it runs out, nothing new begins.
void VisionBalancer::abandon(PictureId id, Picture& picture) {
  by_content_.erase(content_of(picture.work));
  if (picture.stage == Stage::queued) std::erase(to_work_, id);
  const bool had_room = picture.stage != Stage::roomless;
  const bool worked = picture.stage == Stage::working;
  picture.stage = Stage::abandoned;
  if (had_room) stats_.embedding_bytes -= picture.work.embedding_bytes;
  if (!worked) picture.work.work_bytes = 0;
  const auto tiles = static_cast<int32_t>(picture.work.tiles.size());
  for (int32_t i = 0; i < tiles; ++i) unplace({id, i});
  unplace({id, kJoin});
  pending_.forget.push_back(id);
  bury_if_idle(id);
}

void VisionBalancer::bury_if_idle(PictureId id) {
  const Picture& picture = pictures_.at(id);
  TR_ASSERT(picture.stage == Stage::abandoned);
  const bool called = std::any_of(picture.tiles.begin(), picture.tiles.end(),
                                  [](const Tile& t) { return t.call != 0; });
  if (called || picture.to_prepare > 0) return;
  stats_.work_bytes -= picture.work.work_bytes;
  pictures_.erase(id);
}

void VisionBalancer::act(VisionOrders& orders) {
  give_room(orders);
  start_work(orders);
  for (int32_t d = 0; d < config_.devices; ++d) dispatch(d, orders);
  const auto move = [](auto& to, auto& from) {
    to.insert(to.end(), from.begin(), from.end());
    from.clear();
  };
  move(orders.forget, pending_.forget);
  move(orders.ready, pending_.ready);
  move(orders.failed, pending_.failed);
}

// ---- questions ----

bool VisionBalancer::ready(PictureId picture) const {
  const auto at = pictures_.find(picture);
  return at != pictures_.end() && at->second.stage == Stage::ready;
}
bool VisionBalancer::wanted(PictureId picture) const {
  const auto at = pictures_.find(picture);
  return at != pictures_.end() && at->second.stage != Stage::abandoned;
}
double VisionBalancer::ns_per_cost(int32_t device) const {
  return devices_[static_cast<size_t>(device)].ns_per_cost;
}
VisionStats VisionBalancer::stats() const {
  VisionStats s = stats_;
  s.pictures = static_cast<uint32_t>(by_content_.size());
  return s;
}

}  // namespace troupe::engine
