// What the balancer's books promise, looked at from the pictures: for tests and simulations.
#include <string>

#include "engine/vision_balancer.hpp"

namespace troupe::engine {

Status VisionBalancer::check_integrity() const {
  int64_t embedding_bytes = 0, work_bytes = 0, preparing = 0, soon = 0;
  size_t working = 0, queued = 0, called = 0, named = 0;
  for (const auto& [id, p] : pictures_) {
    const bool abandoned = p.stage == Stage::abandoned;
    const bool works = p.stage == Stage::working || (abandoned && p.work.work_bytes > 0);
    if (!abandoned && p.stage != Stage::roomless) embedding_bytes += p.work.embedding_bytes;
    if (works) work_bytes += p.work.work_bytes;
    working += works ? 1 : 0;
    named += abandoned ? 0 : 1;
    preparing += p.to_prepare;
    soon += p.work.work_bytes <= config_.soon_bytes ? p.to_prepare : 0;
    if (p.users.empty() && p.stage != Stage::ready && !abandoned) {
      return internal_error("INV-VISION-1: picture " + std::to_string(id) + " is made for nobody");
    }
    for (const Tile& t : p.tiles) {
      queued += t.device >= 0 ? 1 : 0;
      called += t.call != 0 ? 1 : 0;
      if ((t.device >= 0) + (t.call != 0) + (t.done ? 1 : 0) > 1) {
        return internal_error("INV-VISION-5: a tile of picture " + std::to_string(id) + " is in two places");
      }
    }
  }
  if (embedding_bytes != stats_.embedding_bytes || embedding_bytes > config_.embedding_bytes) {
    return internal_error("INV-VISION-2: rows take " + std::to_string(embedding_bytes) + " bytes");
  }
  if (work_bytes != stats_.work_bytes || (working > 1 && work_bytes > config_.work_bytes)) {
    return internal_error("INV-VISION-3: work takes " + std::to_string(work_bytes) + " bytes");
  }
  if (preparing != preparing_ || soon != preparing_soon_) {
    return internal_error("INV-VISION-5: " + std::to_string(preparing) + " tiles are being prepared, " +
                          std::to_string(preparing_) + " counted; " + std::to_string(soon) +
                          " come soon, " + std::to_string(preparing_soon_) + " counted");
  }
  for (const Device& d : devices_) queued -= d.queue.size();
  for (const auto& [id, call] : calls_) called -= call.call.tiles.size();
  if (queued != 0 || called != 0 || named != by_content_.size()) {
    return internal_error("INV-VISION-5: lists and tiles disagree");
  }
  return ok_status();
}

}  // namespace troupe::engine
