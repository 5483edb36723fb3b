// InternVL's grids (GOT-OCR2's in transformers): the arrangement of square tiles whose proportions
// are the picture's most nearly, then the picture stretched over it, and a thumbnail of the whole.
#pragma once

#include "vision/processors/recipe.hpp"

namespace troupe::vision {

struct DynamicTiles {
  Size tile{448, 448};
  int32_t fewest = 1, most = 12;
  bool thumbnail = true;
};

// Columns and rows of tiles.
Size best_grid(const DynamicTiles& settings, Size picture);
// Tiles row by row, then the thumbnail where there is one; the layout says how they lie.
Plan dynamic_tiles(const DynamicTiles& settings, Size picture);

}  // namespace troupe::vision
