#include "engine/vision_balancer.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace troupe::engine {
namespace {

constexpr int64_t kPartsOfCall = 4;  // whoever could begin waits for one of them
constexpr double kLearning = 0.25;  // weight of the newest observation

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

// ---- devices ----

void VisionBalancer::place(const TileRef& ref, bool first) {
  Tile& t = tile(ref);
  double soonest = std::numeric_limits<double>::infinity();
  int32_t best = -1;
  for (size_t d = 0; d < devices_.size(); ++d) {
    const Device& device = devices_[d];
    if (!device.alive) continue;
    if (config_.turns) {  // one queue for all
      best = static_cast<int32_t>(d);
      break;
    }
    const double finish =
        (device.queued_cost + device.called_cost + t.work.cost) * device.ns_per_cost;
    if (finish < soonest) {
      soonest = finish;
      best = static_cast<int32_t>(d);
    }
  }
  if (best < 0) {
    homeless_.push_back(ref);
    return;
  }
  Device& device = devices_[static_cast<size_t>(best)];
  t.device = best;
  device.queued_cost += t.work.cost;
  first ? device.queue.push_front(ref) : device.queue.push_back(ref);
}

void VisionBalancer::unplace(const TileRef& ref) {
  Tile& t = tile(ref);
  const auto same = [&](const TileRef& r) { return r.picture == ref.picture && r.tile == ref.tile; };
  std::erase_if(homeless_, same);
  if (t.device < 0) return;
  Device& device = devices_[static_cast<size_t>(t.device)];
  std::erase_if(device.queue, same);
  device.queued_cost = device.queue.empty() ? 0.0 : device.queued_cost - t.work.cost;
  t.device = -1;
}

// Its own queue, or that of another encoder of the chip.
VisionBalancer::Device* VisionBalancer::queue_for(int32_t index) {
  Device& own = devices_[static_cast<size_t>(index)];
  if (!own.queue.empty()) return &own;
  if (!config_.turns) return nullptr;
  for (Device& device : devices_) {
    if (!device.queue.empty()) return &device;
  }
  return nullptr;
}

bool VisionBalancer::waits_for_company(const Device& queue) {
  if (!config_.turns || preparing_ == 0) return false;
  const bool busy = std::any_of(devices_.begin(), devices_.end(),
                                [](const Device& d) { return d.alive && d.calls > 0; });
  if (!busy && preparing_soon_ == 0) return false;
  const int64_t enough = busy ? config_.batch_patches : config_.batch_patches / kPartsOfCall;
  int64_t patches = 0;
  for (const TileRef& ref : queue.queue) {
    const Tile& t = tile(ref);
    if (ref.tile == kJoin || t.attempts > 0) return false;
    if ((patches += t.work.patches) >= enough) return false;
  }
  return true;
}

// A tile that has taken a device with it goes alone, so that it does not take others' along again.
VisionBalancer::Call VisionBalancer::fill(Device& from, int32_t device) {
  Call call;
  call.call.id = next_call_++;
  call.call.device = device;
  int64_t patches = 0;
  while (!from.queue.empty()) {
    const TileRef ref = from.queue.front();
    Tile& t = tile(ref);
    const bool alone = ref.tile == kJoin || t.attempts > 0;
    const bool full = patches + t.work.patches > config_.batch_patches;
    if (!call.call.tiles.empty() && (alone || full)) break;
    from.queue.pop_front();
    t.device = -1;
    t.call = call.call.id;
    patches += t.work.patches;
    call.cost += t.work.cost;
    call.call.tiles.push_back(ref);
    if (alone) break;
  }
  from.queued_cost = from.queue.empty() ? 0.0 : from.queued_cost - call.cost;
  return call;
}

void VisionBalancer::dispatch(int32_t index, VisionOrders& orders) {
  Device& device = devices_[static_cast<size_t>(index)];
  while (device.alive && device.calls < config_.calls_max) {
    Device* const from = queue_for(index);
    if (from == nullptr || waits_for_company(*from)) return;
    Call call = fill(*from, index);
    device.called_cost += call.cost;
    ++device.calls;
    orders.calls.push_back(call.call);
    calls_.emplace(call.call.id, std::move(call));
  }
}

VisionBalancer::Call VisionBalancer::take_call(uint64_t id) {
  const auto at = calls_.find(id);
  if (at == calls_.end()) return {};
  Call call = std::move(at->second);
  calls_.erase(at);
  Device& device = devices_[static_cast<size_t>(call.call.device)];
  --device.calls;
  device.called_cost = device.calls == 0 ? 0.0 : device.called_cost - call.cost;
  for (const TileRef& ref : call.call.tiles) tile(ref).call = 0;
  return call;
}

void VisionBalancer::called(uint64_t id, int64_t ns) {
  const Call call = take_call(id);
  if (call.call.id == 0) return;  // of a device that has died
  stats_.encode_ns += ns;
  if (call.cost > 0.0) {
    Device& device = devices_[static_cast<size_t>(call.call.device)];
    const double seen = static_cast<double>(std::max<int64_t>(ns, 1)) / call.cost;
    device.ns_per_cost =
        device.learnt ? (1.0 - kLearning) * device.ns_per_cost + kLearning * seen : seen;
    device.learnt = true;
  }
  for (const TileRef& ref : call.call.tiles) tile_done(ref);
}

void VisionBalancer::tile_done(const TileRef& ref) {
  const auto at = pictures_.find(ref.picture);
  if (at == pictures_.end()) return;  // abandoned, and buried with another tile of the call
  Picture& picture = at->second;
  tile(ref).done = true;
  if (picture.stage == Stage::abandoned) return bury_if_idle(ref.picture);
  if (ref.tile == kJoin) return finish(ref.picture, picture);
  ++stats_.tiles;
  if (--picture.to_encode > 0) return;
  if (!picture.work.joins) return finish(ref.picture, picture);
  place({ref.picture, kJoin}, true);
}

void VisionBalancer::finish(PictureId id, Picture& picture) {
  picture.stage = Stage::ready;
  stats_.work_bytes -= picture.work.work_bytes;
  ++stats_.encoded;
  for (const UserId user : picture.users) pending_.ready.push_back({user, id});
}

void VisionBalancer::call_failed(uint64_t id, const Status& why) {
  const Call call = take_call(id);
  for (const TileRef& ref : call.call.tiles) {
    const auto at = pictures_.find(ref.picture);
    if (at == pictures_.end()) continue;
    if (at->second.stage == Stage::abandoned) {
      bury_if_idle(ref.picture);
    } else {
      fail_picture(ref.picture, why);
    }
  }
}

void VisionBalancer::device_lost(int32_t index, const Status& why, bool comes_back) {
  Device& device = devices_[static_cast<size_t>(index)];
  device.alive = false;
  device.comes_back = comes_back;
  std::vector<TileRef> moved(device.queue.begin(), device.queue.end());
  std::vector<uint64_t> lost;
  for (const auto& [id, call] : calls_) {
    if (call.call.device == index) lost.push_back(id);
  }
  std::vector<TileRef> again;
  for (const uint64_t id : lost) {
    const Call call = take_call(id);
    for (const TileRef& ref : call.call.tiles) {
      ++tile(ref).attempts;
      ++stats_.retried;
      again.push_back(ref);
    }
  }
  for (const TileRef& ref : moved) unplace(ref);
  again.insert(again.end(), moved.begin(), moved.end());
  const bool hope = std::any_of(devices_.begin(), devices_.end(),
                                [](const Device& d) { return d.alive || d.comes_back; });
  if (!hope) dead_ = Status(Code::device_failed, "images: no device is left that encodes: " + why.message());
  for (const TileRef& ref : again) {
    const auto at = pictures_.find(ref.picture);
    if (at == pictures_.end()) continue;  // failed a moment ago, with another tile
    if (at->second.stage == Stage::abandoned) {
      bury_if_idle(ref.picture);
    } else if (tile(ref).attempts > config_.attempts_max) {
      fail_picture(ref.picture, why);
    } else {
      place(ref, false);
    }
  }
  if (hope) return;
  while (!users_.empty()) fail_user(users_.begin()->first, *dead_);
}

void VisionBalancer::device_gained(int32_t index) {
  Device& device = devices_[static_cast<size_t>(index)];
  device.alive = true;
  for (const TileRef& ref : std::exchange(homeless_, {})) place(ref, ref.tile == kJoin);
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
