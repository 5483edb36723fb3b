// What a family makes of a picture before its tower sees it: sizes, tiles and tokens from the
// dimensions alone (layout), and the normalised patches of each tile (prepare).
//
// layout() is cheap and decides everything that the prompt and the scheduler must know; prepare()
// gives exactly the tiles that layout() announced. Both are pure and thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.hpp"
#include "vision/image.hpp"

namespace troupe::vision {

// Patches of one tile. frames > 1 only for video families, counted after temporal merging, and for
// Mllama, whose tower sees all tiles of a picture in one job: a frame is a tile.
struct PatchGrid {
  int32_t frames = 1, rows = 0, columns = 0;
  [[nodiscard]] int64_t patches() const { return int64_t{frames} * rows * columns; }
};

// Where a picture stands in its prompt, and the work that it is.
struct PictureLayout {
  int32_t width = 0, height = 0;  // of the picture as given
  std::vector<PatchGrid> tiles;  // one encoding job each; patches are its cost
  int32_t tile_rows = 1,
          tile_columns = 1;  // how the tiles (without an overview) lie; families that tile
  int32_t overview = -1;  // index of the tile that shows the whole picture; -1: none
  int32_t rows = 0;  // embedding rows that the joined tiles give
  int32_t shown = 0;  // the first so many show the picture, the others fill up (Mllama); 0: all
  // The text that stands in the prompt for the family's placeholder. Each of its image tokens, in
  // order, takes the next embedding row.
  std::string prompt;
  int32_t number_at =
      -1;  // byte of `prompt` where the picture's number in its prompt goes; -1: nowhere
  // Grid of merged patches that M-RoPE positions count over; all 0: positions are plain.
  int32_t rope_frames = 0, rope_rows = 0, rope_columns = 0;
};

// layout.prompt of the `number`-th picture (from 0) of a prompt.
std::string prompt_of(const PictureLayout& layout, int32_t number);

// One tile, ready for the tower: one row per patch, in the tower's order.
struct Tile {
  PatchGrid grid;
  int32_t patch_values = 0;  // columns: channels x frames of a patch x height x width
  Buffer<float> patches;  // grid.patches() x patch_values
  int32_t aspect = 0;  // families that embed the tiling (Mllama): its id, else 0
  int32_t index = 0;  // place among the picture's tiles
};

class Processor {
 public:
  virtual ~Processor() = default;
  // Of everything that decides about the embeddings besides the picture: part of cache keys.
  [[nodiscard]] virtual uint64_t hash() const = 0;
  [[nodiscard]] virtual Result<PictureLayout> layout(int32_t width, int32_t height) const = 0;
  // One tile at a time, so that tiles are prepared in parallel and held no longer than needed.
  [[nodiscard]] virtual Result<Tile> prepare(const Image& image, const PictureLayout& layout,
                                             int32_t tile) const = 0;
  // A video as a list of frames of one size, for the families that take it; others answer
  // `unsupported`. `frames` are all of them.
  [[nodiscard]] virtual Result<PictureLayout> layout_video(int32_t frames, int32_t width,
                                                           int32_t height) const;
  [[nodiscard]] virtual Result<Tile> prepare_video(std::span<const Image> frames,
                                                   const PictureLayout& layout, int32_t tile) const;
};

}  // namespace troupe::vision
