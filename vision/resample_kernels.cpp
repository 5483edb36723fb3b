#include "vision/resample_kernels.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "vision/resample_kernels.cpp"
#include "hwy/foreach_target.h"
// Highway first fixes the target, then everything below is compiled for it.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::vision::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D32>
HWY_INLINE hn::Vec<D32> weights_of(D32 d, const int16_t* pair) {
  int32_t both;
  __builtin_memcpy(&both, pair, sizeof both);
  return hn::Set(d, both);
}

template <class D32, class V16>
HWY_INLINE hn::Vec<D32> add_products(D32 d, V16 pixels, V16 weights, hn::Vec<D32> sum) {
  hn::Vec<D32> other = hn::Zero(d);
  sum = hn::ReorderWidenMulAccumulate(d, pixels, weights, sum, other);
  return hn::RearrangeToOddPlusEven(sum, other);
}

template <class D32, class V32>
HWY_INLINE V32 rounded(D32 d, V32 high, V32 low) {
  const auto sum = hn::Add(hn::ShiftLeft<kLowBits>(high), low);
  return hn::ShiftRight<kWeightBits>(hn::Add(sum, hn::Set(d, 1 << (kWeightBits - 1))));
}

#if HWY_TARGET == HWY_SCALAR

void Row(const uint8_t* source, const PixelTaps* pixels, int32_t width, uint8_t* out) {
  for (int32_t x = 0; x < width; ++x) {
    for (int c = 0; c < 3; ++c) {
      uint32_t sum = 1U << (kWeightBits - 1);
      for (int32_t t = 0; t < 2 * pixels[x].pairs; ++t) {
        const TapPair& pair = pixels[x].taps[t / 2];
        const int32_t weight = pair.high[t % 2] * (1 << kLowBits) + pair.low[t % 2];
        sum += static_cast<uint32_t>(weight * source[3 * (pixels[x].first + t) + c]);
      }
      const int32_t value = static_cast<int32_t>(sum) >> kWeightBits;
      out[3 * x + c] = static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
    }
  }
}

void Rows(const uint8_t* const* rows, const TapPair* taps, int32_t pairs, int64_t bytes,
          uint8_t* out) {
  for (int64_t i = 0; i < bytes; ++i) {
    uint32_t sum = 1U << (kWeightBits - 1);
    for (int32_t t = 0; t < 2 * pairs; ++t) {
      const int32_t weight = taps[t / 2].high[t % 2] * (1 << kLowBits) + taps[t / 2].low[t % 2];
      sum += static_cast<uint32_t>(weight * rows[t][i]);
    }
    const int32_t value = static_cast<int32_t>(sum) >> kWeightBits;
    out[i] = static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
  }
}

#else

// A pixel is three lanes of 32 bits: pairs of its channels beside those of its right neighbour.
void Row(const uint8_t* source, const PixelTaps* pixels, int32_t width, uint8_t* out) {
  const hn::FixedTag<uint8_t, 16> d8;
  const hn::FixedTag<int16_t, 8> d16;
  const hn::FixedTag<int32_t, 4> d32;
  alignas(16) static constexpr uint8_t kFirst[16] = {0, 128, 3, 128, 1,   128, 4,   128,
                                                     2, 128, 5, 128, 128, 128, 128, 128};
  alignas(16) static constexpr uint8_t kSecond[16] = {6, 128, 9,  128, 7,   128, 10,  128,
                                                      8, 128, 11, 128, 128, 128, 128, 128};
  const auto first = hn::Load(d8, kFirst);
  const auto second = hn::Load(d8, kSecond);
  for (int32_t x = 0; x < width; ++x) {
    const PixelTaps& pixel = pixels[x];
    const uint8_t* from = source + 3 * pixel.first;
    auto high0 = hn::Zero(d32), low0 = hn::Zero(d32), high1 = hn::Zero(d32), low1 = hn::Zero(d32);
    for (int32_t p = 0; p < pixel.pairs; p += 2, from += 12) {
      const TapPair* taps = pixel.taps + p;
      const auto four = hn::LoadU(d8, from);
      const auto a = hn::BitCast(d16, hn::TableLookupBytesOr0(four, first));
      const auto b = hn::BitCast(d16, hn::TableLookupBytesOr0(four, second));
      high0 = add_products(d32, a, hn::BitCast(d16, weights_of(d32, taps[0].high)), high0);
      low0 = add_products(d32, a, hn::BitCast(d16, weights_of(d32, taps[0].low)), low0);
      high1 = add_products(d32, b, hn::BitCast(d16, weights_of(d32, taps[1].high)), high1);
      low1 = add_products(d32, b, hn::BitCast(d16, weights_of(d32, taps[1].low)), low1);
    }
    const auto value = rounded(d32, hn::Add(high0, high1), hn::Add(low0, low1));
    const auto narrow = hn::DemoteTo(hn::FixedTag<uint8_t, 4>(), value);
    hn::StoreU(narrow, hn::FixedTag<uint8_t, 4>(), out + 3 * x);
  }
}

void Rows(const uint8_t* const* rows, const TapPair* taps, int32_t pairs, int64_t bytes,
          uint8_t* out) {
  const hn::ScalableTag<int16_t> d16;
  const hn::ScalableTag<int32_t> d32;
  const hn::Rebind<uint8_t, decltype(d16)> d8;
  const int64_t step = static_cast<int64_t>(hn::Lanes(d16));
  for (int64_t i = 0; i < bytes; i += step) {
    auto high0 = hn::Zero(d32), low0 = hn::Zero(d32), high1 = hn::Zero(d32), low1 = hn::Zero(d32);
    for (int32_t p = 0; p < pairs; ++p) {
      const auto a = hn::PromoteTo(d16, hn::LoadU(d8, rows[2 * p] + i));
      const auto b = hn::PromoteTo(d16, hn::LoadU(d8, rows[2 * p + 1] + i));
      const auto left = hn::InterleaveLower(d16, a, b);
      const auto right = hn::InterleaveUpper(d16, a, b);
      const auto high = hn::BitCast(d16, weights_of(d32, taps[p].high));
      const auto low = hn::BitCast(d16, weights_of(d32, taps[p].low));
      high0 = add_products(d32, left, high, high0);
      low0 = add_products(d32, left, low, low0);
      high1 = add_products(d32, right, high, high1);
      low1 = add_products(d32, right, low, low1);
    }
    const auto both =
        hn::ReorderDemote2To(d16, rounded(d32, high0, low0), rounded(d32, high1, low1));
    hn::StoreU(hn::DemoteTo(d8, both), d8, out + i);
  }
}

#endif

}  // namespace troupe::vision::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::vision {

HWY_EXPORT(Row);
HWY_EXPORT(Rows);

void resample_row(const uint8_t* source, const PixelTaps* pixels, int32_t width, uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(Row)(source, pixels, width, out);
}

void resample_rows(const uint8_t* const* rows, const TapPair* taps, int32_t pairs, int64_t bytes,
                   uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(Rows)(rows, taps, pairs, bytes, out);
}

}  // namespace troupe::vision
#endif
