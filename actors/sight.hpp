// Pictures as they travel: from a request, through decoding and encoding, to the rows that the
// scheduler hands to its executor. Plain data, free of CAF.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/request.hpp"
#include "base/status.hpp"
#include "engine/embedding.hpp"
#include "engine/vision_balancer.hpp"
#include "vision/decode.hpp"
#include "vision/eyes.hpp"

namespace troupe::actors {

// Where a picture's pixels come from: vision/decode.hpp, or a test's own.
struct PictureSource {
  std::function<Result<vision::ImageHeader>(const ImageInput&)> measure;
  std::function<Result<vision::Image>(const ImageInput&)> load;
};

// What the prompt's side must know of a model's eyes. Shared, const; null: it has none.
struct Eyes {
  std::shared_ptr<const vision::VisionFolder> folder;
  PictureSource source;
  engine::BlockKey seed;        // of content keys: this engine's own
  int64_t row_bytes = 0;        // of a row as it is kept
  int32_t images_max = 0;       // of one request
  int64_t pixels_max = 0;       // of one picture
  // Of one tile, by the memory plan of the encoders; known once they are open.
  std::shared_ptr<std::atomic<int64_t>> patches_max = std::make_shared<std::atomic<int64_t>>(INT64_MAX);
};

struct Picture {
  ImageInput input;
  vision::PictureLayout layout;
  engine::PictureWork work;
};

// What a request asks of the vision side. Until the balancer gives ids, PromptImage::embedding is an
// index into `pictures`.
struct Sight {
  std::vector<Picture> pictures;
  bool rows_wanted = false;  // task encode_image: the rows are the answer
};

// A picture that is being made ready. Its input goes once it is decoded.
struct PictureJob {
  engine::PictureId id = 0;
  ImageInput input;
  vision::PictureLayout layout;
  std::atomic<bool> dropped{false};  // nobody wants it any more
};
using PictureJobPtr = std::shared_ptr<PictureJob>;

// One of its tiles, or why there will be none.
struct Prepared {
  engine::PictureId picture = 0;
  int32_t tile = -1;  // -1: it could not be decoded
  Status status;
  vision::Tile cut;
  int64_t ns = 0;  // of the thread that did it
};

// What an encoder is asked, and on the way back its answer. On the device's death the tiles are
// taken back from here: the encoder only reads them.
struct VisionCall {
  uint64_t id = 0;
  int32_t device = 0;
  std::vector<engine::TileRef> refs;
  std::vector<vision::Tile> tiles;            // of refs, when these are tiles
  PictureJobPtr picture;                      // a join, or rows to be adopted
  std::vector<engine::EmbeddingPtr> parts;    // a join's
  // The answer.
  Status status;
  std::vector<engine::EmbeddingPtr> rows;     // of refs
  int64_t ns = 0;
};

struct Order;  // order.hpp
// What has come of one look at the pictures: requests that can begin, and rows for such as the
// scheduler has already. Told together, they may share a step.
struct Developed {
  struct Rows {
    RequestId request = 0;
    engine::PictureId picture = 0;
    engine::EmbeddingPtr rows;
  };
  std::vector<std::shared_ptr<Order>> orders;
  std::vector<Rows> rows;
};

// A request's hold on its pictures: when the last of it is dropped, by whoever and wherever, the
// balancer hears that the request has left.
class Lease {
 public:
  Lease(RequestId id, std::function<void(RequestId)> left) : id_(id), left_(std::move(left)) {}
  ~Lease() { left_(id_); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

 private:
  const RequestId id_;
  const std::function<void(RequestId)> left_;
};
using LeasePtr = std::shared_ptr<Lease>;

// Rows that keep the lease for as long as somebody has them.
inline engine::EmbeddingPtr hand_out(engine::EmbeddingPtr rows, LeasePtr lease) {
  struct Handout {
    engine::EmbeddingPtr rows;
    LeasePtr lease;
  };
  auto held = std::make_shared<Handout>(Handout{std::move(rows), std::move(lease)});
  const engine::Embedding* seen = held->rows.get();
  return {std::move(held), seen};
}

}  // namespace troupe::actors
