#include "vision/codecs/png_filters.hpp"

#include <array>
#include <cstdlib>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "vision/codecs/png_filters.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::vision::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <size_t kPixel>
HWY_INLINE void add_left(uint8_t* row, size_t count) {
  std::array<uint8_t, kPixel> left{};
  for (size_t i = 0; i < count; i += kPixel) {
    for (size_t c = 0; c < kPixel; ++c) {
      left[c] = row[i + c] = static_cast<uint8_t>(row[i + c] + left[c]);
    }
  }
}

HWY_INLINE void add_above(uint8_t* HWY_RESTRICT row, const uint8_t* HWY_RESTRICT above,
                          size_t count) {
  for (size_t i = 0; i < count; ++i) row[i] = static_cast<uint8_t>(row[i] + above[i]);
}

template <size_t kPixel>
HWY_INLINE void add_mean(uint8_t* row, const uint8_t* above, size_t count) {
  std::array<uint8_t, kPixel> left{};
  for (size_t i = 0; i < count; i += kPixel) {
    for (size_t c = 0; c < kPixel; ++c) {
      const int mean = (left[c] + above[i + c]) >> 1;
      left[c] = row[i + c] = static_cast<uint8_t>(row[i + c] + mean);
    }
  }
}

// Paeth's: whichever of left, above and the one between them is nearest to left + above - between.
// All channels of a pixel at once; the pixel to its right has to wait for it.
#if HWY_TARGET == HWY_SCALAR
template <size_t kPixel>
HWY_INLINE void add_nearest(uint8_t* row, const uint8_t* above, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const int left = i < kPixel ? 0 : row[i - kPixel];
    const int up = above[i], corner = i < kPixel ? 0 : above[i - kPixel];
    const int to_left = std::abs(up - corner), to_up = std::abs(left - corner);
    const int to_corner = std::abs(left + up - 2 * corner);
    const int nearest = to_left <= to_up && to_left <= to_corner ? left
                        : to_up <= to_corner                     ? up
                                                                 : corner;
    row[i] = static_cast<uint8_t>(row[i] + nearest);
  }
}
#else
template <size_t kPixel>
HWY_INLINE void add_nearest(uint8_t* row, const uint8_t* above, size_t count) {
  const hn::FixedTag<uint8_t, 4> bytes;
  const hn::FixedTag<int16_t, 4> words;
  const auto low_byte = hn::Set(words, 255);
  auto left = hn::Zero(words), corner = hn::Zero(words);
  for (size_t i = 0; i < count; i += kPixel) {
    const auto up = hn::PromoteTo(words, hn::LoadU(bytes, above + i));
    const auto from_left = hn::Sub(up, corner), from_up = hn::Sub(left, corner);
    const auto to_left = hn::Abs(from_left), to_up = hn::Abs(from_up);
    const auto to_corner = hn::Abs(hn::Add(from_left, from_up));
    const auto least = hn::Min(to_corner, hn::Min(to_left, to_up));
    const auto nearest = hn::IfThenElse(hn::Eq(least, to_left), left,
                                        hn::IfThenElse(hn::Eq(least, to_up), up, corner));
    const auto stored = hn::PromoteTo(words, hn::LoadU(bytes, row + i));
    left = hn::And(hn::Add(stored, nearest), low_byte);
    corner = up;
    std::array<uint8_t, 4> pixel;
    hn::StoreU(hn::DemoteTo(bytes, left), bytes, pixel.data());
    std::memcpy(row + i, pixel.data(), kPixel);
  }
}
#endif

template <size_t kPixel>
HWY_INLINE bool unfilter(uint8_t filter, uint8_t* row, const uint8_t* above, size_t count) {
  switch (filter) {
    case 0:
      return true;
    case 1:
      add_left<kPixel>(row, count);
      return true;
    case 2:
      add_above(row, above, count);
      return true;
    case 3:
      add_mean<kPixel>(row, above, count);
      return true;
    case 4:
      add_nearest<kPixel>(row, above, count);
      return true;
    default:
      return false;
  }
}

bool Unfilter(size_t pixel, uint8_t filter, uint8_t* row, const uint8_t* above, size_t count) {
  return pixel == 3 ? unfilter<3>(filter, row, above, count) : unfilter<4>(filter, row, above, count);
}

}  // namespace troupe::vision::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::vision {

HWY_EXPORT(Unfilter);

bool unfilter_row(size_t pixel, uint8_t filter, uint8_t* row, const uint8_t* above, size_t count) {
  return HWY_DYNAMIC_DISPATCH(Unfilter)(pixel, filter, row, above, count);
}

}  // namespace troupe::vision
#endif
