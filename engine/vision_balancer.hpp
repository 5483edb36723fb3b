// VisionBalancer: who encodes what, and what is kept of it. Pure: it is told what happened and
// answers with orders; payloads (bytes, tiles, rows) are somebody else's, here they are numbers.
//
//   want(user, pictures)  a request's pictures, known ones found by their content
//     -> room     all that the request's rows will take is reserved at once, in order of coming;
//                 rows that nobody uses give way, least recently used first
//     -> prepare  a picture is decoded and cut into tiles within the bound of working memory
//     -> tiles    each a job of its own, placed where it is predicted to finish first: by its cost
//                 and the nanoseconds per cost that the device has shown so far
//     -> join     its tiles' rows become the picture's, where those of its only tile are not just
//                 that; everybody who wants it is told
//   leave(user)   ended or cancelled: pictures that nobody wants are dropped, or kept when encoded
//
// Calls to a device are few and small: what is not sent yet waits here, so that it can go elsewhere
// when the device dies (and, one day, be stolen by an idle one: place() is where that belongs).
//
//   INV-VISION-1  a user hears of each of its pictures exactly once, or of its own failure once
//   INV-VISION-2  rows wanted, made or kept take at most embedding_bytes
//   INV-VISION-3  pictures in work take at most work_bytes, or are one picture alone
//   INV-VISION-4  a picture is encoded once for all who want it
//   INV-VISION-5  a tile is on one device's list, or in one call, or done
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "base/status.hpp"
#include "engine/block_key.hpp"

namespace troupe::engine {

using PictureId = uint64_t;  // PromptImage::embedding; 0 is none
using UserId = uint64_t;     // a request

struct TileWork {
  double cost = 1.0;  // predicted, in FLOP
  int64_t patches = 1;
};
struct PictureWork {
  BlockKey content;                  // of the picture and of how it is processed
  std::vector<TileWork> tiles;
  bool joins = true;  // false: its one tile's rows are the picture's
  int64_t embedding_bytes = 0;
  int64_t work_bytes = 0;            // pixels and tiles, from decoding until its rows are there
};

struct VisionConfig {
  int32_t devices = 1;
  int64_t embedding_bytes = int64_t{256} << 20;
  int64_t user_bytes = 0;      // of one user at most; 0: all of them
  int64_t work_bytes = int64_t{512} << 20;
  int64_t batch_patches = 4096;  // of the tiles of one call, unless one has more
  int32_t calls_max = 2;         // on one device
  // The devices are encoders of one chip that compute in turns: they take from one queue, and while
  // one computes the others wait until their call is full or nothing is being prepared. When none
  // computes they wait as well, for a quarter of a call, while pictures are prepared that take at most
  // `soon_bytes` of work: one picture alone would set a language model decoding on the same chip.
  bool turns = false;
  int64_t soon_bytes = int64_t{32} << 20;
  int32_t attempts_max = 3;      // devices that a tile may take with it
  double ns_per_cost = 1e-2;     // of a device that has shown nothing yet
};

inline constexpr int32_t kJoin = -1;  // in place of a tile: the picture's rows from its tiles'
struct TileRef {
  PictureId picture = 0;
  int32_t tile = 0;
};
struct DeviceCall {
  uint64_t id = 0;
  int32_t device = 0;
  std::vector<TileRef> tiles;  // or one join
};

// What is to be done, in this order. Whoever carries it out clears it.
struct VisionOrders {
  struct Ready {
    UserId user = 0;
    PictureId picture = 0;
  };
  struct Failure {
    UserId user = 0;
    Status status;
  };
  std::vector<PictureId> forget;   // nobody asks for it any more: drop what is kept of it
  std::vector<PictureId> prepare;  // decode it and cut its tiles; answer prepared() for each, or undecoded()
  std::vector<DeviceCall> calls;   // answer called() or call_failed()
  std::vector<Ready> ready;
  std::vector<Failure> failed;     // the user has left

  void clear();
  [[nodiscard]] bool empty() const;
};

struct VisionStats {
  uint64_t encoded = 0;   // pictures
  uint64_t tiles = 0;
  uint64_t reused = 0;    // pictures found ready, or on their way already
  uint64_t evicted = 0;
  uint64_t retried = 0;   // tiles whose device died
  int64_t encode_ns = 0;  // on devices
  int64_t embedding_bytes = 0, work_bytes = 0;
  uint32_t pictures = 0;  // known now
};

class VisionBalancer {
 public:
  explicit VisionBalancer(VisionConfig config);

  // `ids`: one per picture, equal ones for equal content. Refused (limit) when they would not fit
  // even alone, or with the reason why no device is left.
  Status want(UserId user, std::span<const PictureWork> pictures, std::vector<PictureId>& ids);
  void leave(UserId user);

  void prepared(PictureId picture, int32_t tile, const Status& status);
  void undecoded(PictureId picture, const Status& why);
  // `ns`: what the device spent on it.
  void called(uint64_t call, int64_t ns);
  // The call's own fault: its pictures fail, the device works on.
  void call_failed(uint64_t call, const Status& why);
  // Its calls are void and go elsewhere, or wait for the next one. Not `comes_back`: if it was the
  // last, everybody fails with `why`, and so do all who come.
  void device_lost(int32_t device, const Status& why, bool comes_back);
  void device_gained(int32_t device);

  // Appends what may be done now.
  void act(VisionOrders& orders);

  [[nodiscard]] bool ready(PictureId picture) const;
  [[nodiscard]] bool wanted(PictureId picture) const;
  [[nodiscard]] double ns_per_cost(int32_t device) const;
  [[nodiscard]] VisionStats stats() const;
  [[nodiscard]] Status check_integrity() const;

 private:
  enum class Stage : uint8_t { roomless, queued, working, ready, abandoned };
  struct Tile {
    TileWork work;
    int32_t attempts = 0;
    int32_t device = -1;   // on whose list
    uint64_t call = 0;     // in which call
    bool done = false;
  };
  struct Picture {
    PictureWork work;
    Stage stage = Stage::roomless;
    std::vector<Tile> tiles;  // the last one is the join
    std::vector<UserId> users;
    int32_t to_prepare = 0;   // answers that are still to come
    int32_t to_encode = 0;
    uint64_t used = 0;        // order of use
  };
  struct User {
    std::vector<PictureId> pictures;  // each once
  };
  struct Device {
    bool alive = true;
    bool comes_back = true;
    std::deque<TileRef> queue;
    double queued_cost = 0.0, called_cost = 0.0;
    int32_t calls = 0;
    double ns_per_cost = 0.0;
    bool learnt = false;
  };
  struct Call {
    DeviceCall call;
    double cost = 0.0;
  };

  Tile& tile(const TileRef& ref);
  PictureId find_or_add(const PictureWork& work, bool& known);
  void give_room(VisionOrders& orders);
  bool make_room(int64_t bytes, VisionOrders& orders);
  void start_work(VisionOrders& orders);
  void count_preparing(const Picture& picture, int64_t tiles);
  void place(const TileRef& ref, bool first);
  void dispatch(int32_t device, VisionOrders& orders);
  Device* queue_for(int32_t device);
  [[nodiscard]] bool waits_for_company(const Device& queue);
  Call fill(Device& queue, int32_t device);
  void unplace(const TileRef& ref);
  void tile_done(const TileRef& ref);
  void finish(PictureId id, Picture& picture);
  void fail_picture(PictureId id, const Status& why);
  void fail_user(UserId user, const Status& why);
  void abandon(PictureId id, Picture& picture);
  void bury_if_idle(PictureId id);
  Call take_call(uint64_t id);

  const VisionConfig config_;
  std::map<PictureId, Picture> pictures_;
  std::map<std::pair<uint64_t, uint64_t>, PictureId> by_content_;  // not the abandoned ones
  std::map<UserId, User> users_;
  std::deque<UserId> roomless_;     // in order of coming
  std::deque<PictureId> to_work_;   // have room, wait for working memory
  std::vector<TileRef> homeless_;   // no device is alive
  std::vector<Device> devices_;
  std::map<uint64_t, Call> calls_;
  int64_t preparing_ = 0;           // tiles whose answers are still to come
  int64_t preparing_soon_ = 0;      // those of them that come soon
  VisionOrders pending_;            // ready, failed and forget between two act()s
  std::optional<Status> dead_;      // no device is left
  uint64_t next_picture_ = 1, next_call_ = 1, uses_ = 0;
  VisionStats stats_;
};

}  // namespace troupe::engine
