// The visual half of a model folder: how pictures are processed, how they stand in a prompt, and the
// tower on a device. A folder of a text model has none.
//
//   VisionFolder  read once, shared, without weights: processor, placeholder, prompt rules
//   VisionModel   tower and projector on one device; driven by that device's encoder thread alone
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/status.hpp"
#include "kernels/backend.hpp"
#include "models/model.hpp"
#include "vision/processor.hpp"

namespace troupe::vision {

// How the language model sees image rows.
enum class Sight : uint8_t {
  rows,           // embeddings take the place of image tokens
  bidirectional,  // likewise, and the rows of one picture attend to one another both ways
  expert,         // likewise, through weights of their own (modality 1)
  cross,          // one token stands for the picture; cross-attention layers see its rows
};

// The rope positions of image rows.
enum class SightRope : uint8_t {
  plain,   // like those of any token
  grid,    // M-RoPE: time, height and width over PictureLayout::rope_*
  shared,  // all rows of a picture but its first and last have one position (CogVLM)
};

struct PromptRules {
  Sight sight = Sight::rows;
  SightRope rope = SightRope::plain;
  std::string placeholder{};   // stands for a picture in what the template renders, and in raw prompts
  int32_t image_token = -1;    // the id that takes embedding rows
  int32_t hidden = 0;          // width of an embedding row
  int32_t images_max = 0;      // per prompt; 0: as many as fit
};

class VisionFolder {
 public:
  virtual ~VisionFolder() = default;
  // Null for a folder whose model has no eyes.
  static Result<std::shared_ptr<const VisionFolder>> open(const std::string& path,
                                                          const models::LoadOptions& options);
  [[nodiscard]] virtual const Processor& processor() const = 0;
  [[nodiscard]] virtual const PromptRules& rules() const = 0;
  [[nodiscard]] virtual int64_t parameters() const = 0;  // of tower and projector
  [[nodiscard]] virtual int64_t weight_bytes() const = 0;
  // Predicted work of a tile, in FLOP: what the balancer places by before it has learnt better.
  [[nodiscard]] virtual double cost(const PatchGrid& grid) const = 0;
  // Whether the rows of a picture are more than those of its only tile: VisionModel::join().
  [[nodiscard]] virtual bool joins(const PictureLayout& layout) const = 0;
};

class VisionModel {
 public:
  virtual ~VisionModel() = default;
  static Result<std::unique_ptr<VisionModel>> load(std::shared_ptr<const VisionFolder> folder,
                                                   Backend& backend,
                                                   const models::LoadOptions& options);
  // Bytes of workspace for tiles of so many patches in one call; reserve() takes them, once.
  [[nodiscard]] virtual size_t workspace_bytes(int64_t patches) const = 0;
  virtual Status reserve(int64_t patches) = 0;
  // Models that share a device compute in turns: together they would all be ready at the same time,
  // and the device would wait while all of them bring their next patches.
  virtual void take_turns(std::shared_ptr<std::mutex> turn) = 0;

  // Tower and projector over tiles packed into one call. rows[i] has rows_of(tiles[i].grid) rows
  // and lies on the device. Waits until they are there.
  [[nodiscard]] virtual int32_t rows_of(const PatchGrid& grid) const = 0;
  virtual Status encode(std::span<const Tile> tiles, std::span<const Matrix> rows) = 0;
  // The rows of a picture from those of its tiles, in their order: most families stand them one
  // below the other, some cut padding off and add row ends. `out` has layout.rows rows.
  virtual Status join(const PictureLayout& layout, std::span<const Matrix> tiles,
                      const Matrix& out) = 0;
};

}  // namespace troupe::vision
