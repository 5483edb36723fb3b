// Resampling as Pillow does it, to the bit: two passes (along rows, then along columns, or the
// other way where Pillow 13 does so) of a filter whose weights are fixed point numbers of 22 bits,
// rounded to 8 bits after each pass. Pillow is the reference of every processor we know.
//
// A pass computes only what is asked for: a tile of a large picture costs what the tile is, and its
// pixels are those of the whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "vision/image.hpp"

namespace troupe::vision {

enum class Filter : uint8_t { nearest, box, bilinear, hamming, bicubic, lanczos };

struct Size {
  int32_t width = 0, height = 0;
  bool operator==(const Size&) const = default;
};

struct Region {
  int32_t x = 0, y = 0, width = 0, height = 0;
  bool operator==(const Region&) const = default;
};

// The part of the source that is stretched over the target; pixels beyond it still count under the
// filter, as with Pillow's `box`.
struct Box {
  float left = 0, top = 0, right = 0, bottom = 0;
};

struct Resize {
  Size source;  // of the whole picture that is resized
  Box box;  // of the source
  Size target;  // of the whole result
  Region region;  // of the target that is computed
  Filter filter = Filter::bicubic;
};
// All of a picture, to a size.
Resize whole_resize(Size source, Size target, Filter filter);

// Pixels of a picture in memory: `region` of it, of which `rgb` is the first.
struct PixelView {
  const uint8_t* rgb = nullptr;
  const uint8_t* end = nullptr;  // one past the last byte that may be read
  ptrdiff_t stride = 0;  // bytes from row to row
  Region region;
};
PixelView view_of(const Image& image);
// The part of a picture as a picture of its own.
PixelView part_of(const Image& image, const Region& part);

// What a resize reads of its source.
Region needed_source(const Resize& resize);

// Rows of the region from the top; `rgb` is valid until the next call.
using RowSink = std::function<void(int32_t row, const uint8_t* rgb)>;
// `source` covers needed_source(resize).
void resample(const PixelView& source, const Resize& resize, const RowSink& sink);
Image resample(const PixelView& source, const Resize& resize);

}  // namespace troupe::vision
