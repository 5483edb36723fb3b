// LLaVA-NeXT's way of joining tiles: the overview, then all tiles as one grid of rows, the padding
// of the preparation cut away, a learnt row end behind each line.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.hpp"
#include "vision/processor.hpp"

namespace troupe::vision {

// What is left of a grid of `rows` x `columns` when the borders that a picture of `width` x `height`
// was padded by are cut away.
struct Unpadding {
  int32_t row_begin = 0, row_end = 0, column_begin = 0, column_end = 0;
};
Unpadding unpadding(int32_t rows, int32_t columns, int32_t width, int32_t height);

// Rows of a picture as indices into its tiles' rows, which count through in their order; the row
// end is the one behind them all.
Result<std::vector<int32_t>> unpadded_rows(const PictureLayout& layout);

}  // namespace troupe::vision
