#include "vision/patchify_kernels.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "vision/patchify_kernels.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::vision::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void SplitChannels(const uint8_t* rgb, int64_t width, uint8_t* red, uint8_t* green, uint8_t* blue) {
  int64_t x = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<uint8_t, 16> d;
  for (; x + 16 <= width; x += 16) {
    hn::Vec<decltype(d)> r, g, b;
    hn::LoadInterleaved3(d, rgb + 3 * x, r, g, b);
    hn::StoreU(r, d, red + x);
    hn::StoreU(g, d, green + x);
    hn::StoreU(b, d, blue + x);
  }
#endif
  for (; x < width; ++x) {
    red[x] = rgb[3 * x];
    green[x] = rgb[3 * x + 1];
    blue[x] = rgb[3 * x + 2];
  }
}

// `side` values; the last vector overlaps the one before where the side is no multiple.
template <class D>
HWY_INLINE void write_side(D d, const uint8_t* from, int64_t side, hn::Vec<D> scale,
                           hn::Vec<D> shift, float* to, int64_t copies, int64_t copy_stride) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const hn::Rebind<uint8_t, D> d8;
  const hn::Rebind<int32_t, D> d32;
  for (int64_t x = 0; x < side; x += lanes) {
    if (x + lanes > side) x = side - lanes;
    const auto value = hn::ConvertTo(d, hn::PromoteTo(d32, hn::LoadU(d8, from + x)));
    const auto normal = hn::MulAdd(value, scale, shift);
    for (int64_t c = 0; c < copies; ++c) hn::StoreU(normal, d, to + c * copy_stride + x);
  }
}

void WritePatches(const PatchRow& row) {
  const hn::CappedTag<float, 8> wide;
  const hn::FixedTag<float, 1> single;
  const uint8_t* from = row.plane;
  const bool fits = row.side >= static_cast<int64_t>(hn::Lanes(wide));
  for (int64_t i = 0; i < row.count; ++i, from += row.side) {
    float* to = row.patches[i] + row.offset;
    if (fits) {
      write_side(wide, from, row.side, hn::Set(wide, row.scale), hn::Set(wide, row.shift), to,
                 row.copies, row.copy_stride);
    } else {
      write_side(single, from, row.side, hn::Set(single, row.scale), hn::Set(single, row.shift), to,
                 row.copies, row.copy_stride);
    }
  }
}

}  // namespace troupe::vision::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::vision {

HWY_EXPORT(SplitChannels);
HWY_EXPORT(WritePatches);

void split_channels(const uint8_t* rgb, int64_t width, uint8_t* red, uint8_t* green,
                    uint8_t* blue) {
  HWY_DYNAMIC_DISPATCH(SplitChannels)(rgb, width, red, green, blue);
}

void write_patches(const PatchRow& row) {
  HWY_DYNAMIC_DISPATCH(WritePatches)(row);
}

}  // namespace troupe::vision
#endif
