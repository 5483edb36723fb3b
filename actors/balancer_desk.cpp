#include "actors/balancer_desk.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace troupe::actors {

using engine::kJoin;
using engine::PictureId;

BalancerDesk::BalancerDesk(const engine::VisionConfig& config, int32_t context_limit,
                           std::shared_ptr<const Clock> clock, std::shared_ptr<Board> board,
                           BalancerLinks links)
    : core_(config),
      context_limit_(context_limit),
      clock_(std::move(clock)),
      board_(std::move(board)),
      links_(std::move(links)) {}

// Before anything is decoded: 500 pictures that do not fit cost nobody anything.
Status BalancerDesk::refuse(const Order& order) const {
  if (order.sight->rows_wanted) return {};
  const int32_t tokens = order.job.prompt.length();
  if (tokens + (order.job.sampling.max_tokens == 0 ? 0 : 1) <= context_limit_) return {};
  int64_t rows = 0;
  for (const engine::PromptImage& i : order.job.prompt.images) rows += i.rows;
  return limit_exceeded("prompt: " + std::to_string(tokens) + " tokens, " + std::to_string(rows) +
                        " of them rows of its " + std::to_string(order.sight->pictures.size()) +
                        " pictures, and the context holds " + std::to_string(context_limit_) +
                        "; send fewer or smaller ones");
}

void BalancerDesk::see(const OrderPtr& order) {
  Ticket& ticket = *order->ticket;
  if (ticket.asked_to_stop()) {
    ticket.end(ticket.stop_reason());
    return;
  }
  Sight& sight = *order->sight;
  std::vector<engine::PictureWork> works;
  works.reserve(sight.pictures.size());
  for (const Picture& p : sight.pictures) works.push_back(p.work);
  Guest guest;
  Status status = refuse(*order);
  if (status.ok()) status = core_.want(ticket.id(), works, guest.pictures);
  if (!status.ok()) {
    ticket.end(status);
    return;
  }
  for (size_t i = 0; i < guest.pictures.size(); ++i) {
    const auto [at, fresh] = kept_.try_emplace(guest.pictures[i]);
    guest.missing += std::find(guest.pictures.begin(), guest.pictures.begin() + static_cast<ptrdiff_t>(i),
                               guest.pictures[i]) == guest.pictures.begin() + static_cast<ptrdiff_t>(i);
    if (!fresh) continue;
    at->second.job = std::make_shared<PictureJob>();
    at->second.job->id = at->first;
    at->second.job->input = std::move(sight.pictures[i].input);
    at->second.job->layout = std::move(sight.pictures[i].layout);
    at->second.cut.resize(works[i].tiles.size());
    at->second.tiles.resize(works[i].tiles.size());
    at->second.joins = works[i].joins;
  }
  for (auto* images : {&order->job.prompt.images, &order->job.prompt.cross_images}) {
    for (engine::PromptImage& image : *images) image.embedding = guest.pictures[image.embedding];
  }
  board_->images.fetch_add(sight.pictures.size(), std::memory_order_relaxed);
  for (Picture& p : sight.pictures) p.input = {};
  guest.ticket = order->ticket;
  guest.order = order;
  guest.lease = links_.lease(ticket.id());
  guest.handed = guest.lease;
  guest.came_ns = clock_->now_ns();
  guests_.emplace(ticket.id(), std::move(guest));
  act();
}

void BalancerDesk::prepared(Prepared& piece) {
  const auto at = kept_.find(piece.picture);
  board_->image_prepare_ns.fetch_add(piece.ns, std::memory_order_relaxed);
  if (at != kept_.end()) {
    at->second.prepare_ns += piece.ns;
    if (piece.tile >= 0) at->second.cut[static_cast<size_t>(piece.tile)] = std::move(piece.cut);
  }
  if (piece.tile < 0) {
    core_.undecoded(piece.picture, piece.status);
  } else {
    core_.prepared(piece.picture, piece.tile, piece.status);
  }
  act();
}

void BalancerDesk::called(VisionCall& call) {
  if (calls_.erase(call.id) == 0) return;  // of a device that has died
  board_->image_encode_ns.fetch_add(call.ns, std::memory_order_relaxed);
  if (!call.status.ok()) {
    core_.call_failed(call.id, call.status);
    return act();
  }
  for (size_t i = 0; i < call.refs.size(); ++i) {
    const auto at = kept_.find(call.refs[i].picture);
    if (at == kept_.end()) continue;
    Kept& kept = at->second;
    kept.encode_ns += call.ns / static_cast<int64_t>(call.refs.size());
    if (call.refs[i].tile == kJoin || !kept.joins) {
      kept.rows = std::move(call.rows[i]);
      kept.ready_ns = clock_->now_ns();
      kept.job->input.bytes = {};
      kept.tiles = {};
      kept.cut = {};
    } else {
      kept.tiles[static_cast<size_t>(call.refs[i].tile)] = std::move(call.rows[i]);
    }
  }
  core_.called(call.id, call.ns);
  act();
}

void BalancerDesk::cancel(const Ticket& ticket) {
  const auto at = guests_.find(ticket.id());
  if (at == guests_.end() || at->second.order == nullptr) return;  // the scheduler's affair
  fail(ticket.id(), ticket.stop_reason());
  act();
}

void BalancerDesk::left(RequestId request) {
  guests_.erase(request);
  core_.leave(request);
  act();
}

void BalancerDesk::device_lost(int32_t device, const Status& why, bool comes_back) {
  for (auto it = calls_.begin(); it != calls_.end();) {
    VisionCall& call = *it->second;
    if (call.device != device) {
      ++it;
      continue;
    }
    for (size_t i = 0; i < call.tiles.size(); ++i) {
      const auto at = kept_.find(call.refs[i].picture);
      if (at == kept_.end()) continue;
      at->second.cut[static_cast<size_t>(call.refs[i].tile)] = std::move(call.tiles[i]);
    }
    it = calls_.erase(it);
  }
  core_.device_lost(device, why, comes_back);
  act();
}

void BalancerDesk::device_gained(int32_t device) {
  core_.device_gained(device);
  act();
}

// A lease that is dropped in here says so by message, not by coming back.
void BalancerDesk::act() {
  for (core_.act(orders_); !orders_.empty(); core_.act(orders_)) {
    const engine::VisionOrders now = std::exchange(orders_, {});
    count();  // first: who gets the last answer and then reads the figures finds it in them
    for (const PictureId id : now.forget) {
      const auto at = kept_.find(id);
      if (at == kept_.end()) continue;
      at->second.job->dropped.store(true, std::memory_order_relaxed);
      kept_.erase(at);
    }
    for (const PictureId id : now.prepare) links_.prepare(kept_.at(id).job);
    for (const engine::DeviceCall& call : now.calls) send(call);
    for (const auto& r : now.ready) ready(r.user, r.picture);
    tell_developed();
    for (const auto& f : now.failed) fail(f.user, f.status);
  }
  count();
}

void BalancerDesk::send(const engine::DeviceCall& call) {
  auto job = std::make_shared<VisionCall>();
  job->id = call.id;
  job->device = call.device;
  job->refs = call.tiles;
  for (const engine::TileRef& ref : call.tiles) {
    const auto at = kept_.find(ref.picture);
    TR_ASSERT(at != kept_.end());  // forgotten pictures are on nobody's list
    Kept& kept = at->second;
    const bool given = kept.job->input.kind == ImageKind::embedding;
    if (ref.tile == kJoin || given) job->picture = kept.job;
    if (ref.tile == kJoin) {
      job->parts = kept.tiles;
    } else if (!given) {
      job->tiles.push_back(std::move(kept.cut[static_cast<size_t>(ref.tile)]));
    }
  }
  calls_.emplace(call.id, job);
  links_.call(call.device, std::move(job));
}

void BalancerDesk::ready(RequestId request, PictureId picture) {
  const auto at = guests_.find(request);
  if (at == guests_.end()) return;
  Guest& guest = at->second;
  const LeasePtr lease = guest.handed.lock();
  if (lease == nullptr) return;  // it has ended; left() is on its way
  const Kept& kept = kept_.at(picture);
  const engine::EmbeddingPtr rows = hand_out(kept.rows, lease);
  if (guest.order != nullptr) {
    for (auto* images : {&guest.order->job.prompt.images, &guest.order->job.prompt.cross_images}) {
      for (engine::PromptImage& image : *images) {
        if (image.embedding != picture) continue;
        image.ready = true;
        image.data = rows;
      }
    }
  }
  --guest.missing;
  if (kept.ready_ns >= guest.came_ns) {  // who finds a picture ready pays nothing for it
    guest.prepare_ns += kept.prepare_ns;
    guest.encode_ns += kept.encode_ns;
  }
  if (guest.missing == 0) {
    guest.ticket->note_images(clock_->now_ns() - guest.came_ns, guest.prepare_ns, guest.encode_ns);
  }
  if (guest.order == nullptr) {
    developed_.rows.push_back({request, picture, rows});
  } else {
    go_on(guest);
  }
  if (guest.missing == 0) guests_.erase(request);
}

// The first picture decides: what stands before it and its rows can be read while others are made.
void BalancerDesk::go_on(Guest& guest) {
  if (guest.order->sight->rows_wanted) {
    if (guest.missing > 0) return;
    std::vector<engine::EmbeddingPtr> rows;
    for (const PictureId id : guest.pictures) rows.push_back(hand_out(kept_.at(id).rows, guest.lease));
    guest.lease = nullptr;
    links_.answer(guest.ticket, std::move(rows));
    guest.order = nullptr;
    return;
  }
  const engine::Prompt& prompt = guest.order->job.prompt;
  const bool first = prompt.images.empty() || prompt.images.front().ready;
  if (!first || (!prompt.cross_images.empty() && guest.missing > 0)) return;
  guest.lease = nullptr;
  developed_.orders.push_back(std::exchange(guest.order, nullptr));
}

void BalancerDesk::tell_developed() {
  if (developed_.orders.empty() && developed_.rows.empty()) return;
  links_.developed(std::make_shared<Developed>(std::exchange(developed_, {})));
}

void BalancerDesk::fail(RequestId request, const Status& why) {
  const auto at = guests_.find(request);
  if (at == guests_.end()) return;
  const Guest guest = std::move(at->second);
  guests_.erase(at);
  core_.leave(request);
  if (guest.order != nullptr) {
    guest.ticket->end(why);
  } else if (guest.ticket->ask_to_stop(why)) {
    links_.stop(guest.ticket);
  }
}

void BalancerDesk::count() {
  const engine::VisionStats s = core_.stats();
  board_->images_encoded.store(s.encoded, std::memory_order_relaxed);
  board_->images_reused.store(s.reused, std::memory_order_relaxed);
  board_->tiles_encoded.store(s.tiles, std::memory_order_relaxed);
  board_->image_row_bytes.store(s.embedding_bytes, std::memory_order_relaxed);
}

}  // namespace troupe::actors
