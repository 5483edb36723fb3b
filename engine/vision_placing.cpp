// VisionBalancer's devices: where a tile waits, when a call goes out and with what, what it teaches
// about its device, and where everything goes when one dies.
#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "engine/vision_balancer.hpp"

namespace troupe::engine {
namespace {

constexpr int64_t kPartsOfCall = 4;  // whoever could begin waits for one of them
constexpr double kLearning = 0.25;  // weight of the newest observation

}  // namespace

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

}  // namespace troupe::engine
