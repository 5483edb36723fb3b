#include "vision/resample.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <vector>

#include "base/assert.hpp"
#include "vision/resample_kernels.hpp"

namespace troupe::vision {
namespace {

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double weight_at(Filter filter, double x) {
  switch (filter) {
    case Filter::nearest:
    case Filter::box:
      return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    case Filter::bilinear:
      return std::max(0.0, 1.0 - std::abs(x));
    case Filter::hamming:
      x = std::abs(x);
      if (x == 0.0) return 1.0;
      if (x >= 1.0) return 0.0;
      x *= std::numbers::pi;
      return std::sin(x) / x * (0.54 + 0.46 * std::cos(x));
    case Filter::bicubic: {
      constexpr double kA = -0.5;
      x = std::abs(x);
      if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
      if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
      return 0.0;
    }
    case Filter::lanczos:
      return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
  }
  return 0.0;
}

double support_of(Filter filter) {
  switch (filter) {
    case Filter::nearest:
    case Filter::box:
      return 0.5;
    case Filter::bilinear:
    case Filter::hamming:
      return 1.0;
    case Filter::bicubic:
      return 2.0;
    case Filter::lanczos:
      return 3.0;
  }
  return 0.0;
}

// One direction of a resize.
struct Line {
  int32_t source = 0;
  double begin = 0, end = 0;  // of the box
  int32_t target = 0;
  int32_t first = 0, count = 0;  // of the target, what is computed

  [[nodiscard]] bool copies() const {
    return target == source && begin == 0 && end == static_cast<double>(source);
  }
  [[nodiscard]] double scale() const { return (end - begin) / target; }
};

struct Taps {
  int32_t first = 0, count = 0;
};

// Which source pixels a result pixel is made of.
struct Window {
  double center = 0, stretch = 1;
  Taps taps;
};
Window window_at(const Line& line, Filter filter, int32_t at) {
  Window w;
  w.stretch = std::max(line.scale(), 1.0);
  const double support = support_of(filter) * w.stretch;
  w.center = line.begin + (at + 0.5) * line.scale();
  w.taps.first = std::max(0, static_cast<int32_t>(w.center - support + 0.5));
  const int32_t end = std::min(line.source, static_cast<int32_t>(w.center + support + 0.5));
  w.taps.count = std::max(0, end - w.taps.first);
  return w;
}

// Pillow steps through the source by addition, so its rounding is repeated here.
std::vector<int32_t> nearest_indices(const Line& line) {
  std::vector<int32_t> out;
  double at = line.begin + line.scale() * 0.5;
  for (int32_t i = 0; i < line.first + line.count; ++i, at += line.scale()) {
    if (i < line.first) continue;
    out.push_back(std::clamp(static_cast<int32_t>(at), 0, line.source - 1));
  }
  return out;
}

Taps reach(const Line& line, Filter filter) {
  if (line.count == 0) return {};
  if (line.copies()) return {line.first, line.count};
  if (filter == Filter::nearest) {
    const auto indices = nearest_indices(line);
    return {indices.front(), indices.back() - indices.front() + 1};
  }
  const Taps first = window_at(line, filter, line.first).taps;
  const Taps last = window_at(line, filter, line.first + line.count - 1).taps;
  return {first.first, last.first + last.count - first.first};
}

// The weights of every result pixel of a line, in pairs.
struct Weights {
  std::vector<PixelTaps> pixels;
  std::vector<int32_t> counts;  // taps of each, before padding
  std::vector<TapPair> pairs;
  int32_t taps_max = 0;
};

// Tap positions count from `origin`. Pairs are padded with zeros to a multiple of `round`.
Weights weights_of(const Line& line, Filter filter, int32_t origin, int32_t round) {
  Weights out;
  out.pixels.resize(static_cast<size_t>(line.count));
  std::vector<size_t> starts;
  starts.reserve(out.pixels.size());
  std::vector<double> real;
  for (int32_t i = 0; i < line.count; ++i) {
    const Window w = window_at(line, filter, line.first + i);
    real.resize(static_cast<size_t>(w.taps.count));
    double sum = 0;
    for (int32_t t = 0; t < w.taps.count; ++t) {
      const double x = (t + w.taps.first - w.center + 0.5) * (1.0 / w.stretch);
      real[static_cast<size_t>(t)] = weight_at(filter, x);
      sum += real[static_cast<size_t>(t)];
    }
    const int32_t pairs = (w.taps.count + 2 * round - 1) / (2 * round) * round;
    starts.push_back(out.pairs.size());
    out.counts.push_back(w.taps.count);
    out.pixels[static_cast<size_t>(i)] = {w.taps.first - origin, pairs, nullptr};
    out.pairs.resize(out.pairs.size() + static_cast<size_t>(pairs));
    TapPair* to = out.pairs.data() + starts.back();
    for (int32_t t = 0; t < w.taps.count; ++t) {
      const double exact = (sum != 0.0 ? real[static_cast<size_t>(t)] / sum : 0.0);
      const double scaled = exact * (1 << kWeightBits);
      const auto fixed = static_cast<int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
      const int32_t low =
          ((fixed + (1 << (kLowBits - 1))) & ((1 << kLowBits) - 1)) - (1 << (kLowBits - 1));
      to[t / 2].low[t % 2] = static_cast<int16_t>(low);
      to[t / 2].high[t % 2] = static_cast<int16_t>((fixed - low) >> kLowBits);
    }
    out.taps_max = std::max(out.taps_max, 2 * pairs);
  }
  for (size_t i = 0; i < starts.size(); ++i) out.pixels[i].taps = out.pairs.data() + starts[i];
  return out;
}

Line across(const Resize& r) {
  return {r.source.width, r.box.left, r.box.right, r.target.width, r.region.x, r.region.width};
}
Line down(const Resize& r) {
  return {r.source.height, r.box.top, r.box.bottom, r.target.height, r.region.y, r.region.height};
}

// Row `y` of the picture from column `x` on.
const uint8_t* row_at(const PixelView& view, int32_t x, int32_t y) {
  return view.rgb + (y - view.region.y) * view.stride + int64_t{3} * (x - view.region.x);
}

// A buffer of rows that kernels may read and write beyond.
struct Rows {
  Rows(int32_t count, int64_t row_bytes)
      : stride(row_bytes + kRowSlack), bytes(static_cast<size_t>(count * stride)) {}
  uint8_t* row(int32_t i) { return bytes.data() + i * stride; }
  int64_t stride;
  std::vector<uint8_t> bytes;
};

// The rows of the source that a resize reads, from the first column that it reads, all of them safe
// to read beyond: the last few are copied.
class SourceRows {
 public:
  SourceRows(const PixelView& source, const Region& needed)
      : source_(source), needed_(needed), copied_(needed.y + needed.height) {
    const int64_t bytes = int64_t{3} * needed.width;
    while (copied_ > needed.y && at(copied_ - 1) + bytes + kRowSlack > source.end) --copied_;
    const int32_t count = needed.y + needed.height - copied_;
    copies_ = Rows(count, bytes);
    for (int32_t i = 0; i < count; ++i) {
      std::memcpy(copies_.row(i), at(copied_ + i), static_cast<size_t>(bytes));
    }
  }
  const uint8_t* row(int32_t y) { return y < copied_ ? at(y) : copies_.row(y - copied_); }

 private:
  [[nodiscard]] const uint8_t* at(int32_t y) const { return row_at(source_, needed_.x, y); }
  PixelView source_;
  Region needed_;
  int32_t copied_;  // from this row on
  Rows copies_{0, 0};
};

void resample_nearest(const PixelView& source, const Resize& resize, const RowSink& sink) {
  const auto columns = nearest_indices(across(resize));
  const auto rows = nearest_indices(down(resize));
  Rows out(1, int64_t{3} * resize.region.width);
  for (int32_t y = 0; y < resize.region.height; ++y) {
    uint8_t* to = out.row(0);
    for (const int32_t column : columns) {
      std::memcpy(to, row_at(source, column, rows[static_cast<size_t>(y)]), 3);
      to += 3;
    }
    sink(y, out.row(0));
  }
}

// The rows that make row `at` of the second direction; the last is repeated for a lone tap.
struct RowTaps {
  explicit RowTaps(const Weights& weights) : rows(static_cast<size_t>(weights.taps_max)) {}
  template <class Row>
  void gather(const PixelTaps& taps, int32_t count, Row row) {
    for (int32_t t = 0; t < 2 * taps.pairs; ++t) {
      rows[static_cast<size_t>(t)] = row(taps.first + std::min(t, count - 1));
    }
  }
  std::vector<const uint8_t*> rows;
};

// Along rows, then along columns. Rows of the first pass wait in a ring that holds as many as one
// row of the second takes.
void across_then_down(SourceRows& source, const Resize& resize, const RowSink& sink) {
  const Line line = down(resize), row_line = across(resize);
  const int64_t row_bytes = int64_t{3} * resize.region.width;
  Weights row_weights;
  if (!row_line.copies()) {
    row_weights = weights_of(row_line, resize.filter, reach(row_line, resize.filter).first, 2);
  }
  Rows out(1, row_bytes);
  const auto first_pass = [&](int32_t y, uint8_t* to) {
    resample_row(source.row(y), row_weights.pixels.data(), row_line.count, to);
  };
  if (line.copies()) {
    for (int32_t y = 0; y < line.count; ++y) {
      if (!row_line.copies()) first_pass(line.first + y, out.row(0));
      sink(y, row_line.copies() ? source.row(line.first + y) : out.row(0));
    }
    return;
  }
  const Weights weights = weights_of(line, resize.filter, 0, 1);
  const int32_t slots = std::max(weights.taps_max, 1);
  Rows ring(row_line.copies() ? 0 : slots, row_bytes);
  RowTaps taps(weights);
  int32_t ready = 0;  // source rows before it are in the ring, as far as they are still needed
  for (int32_t y = 0; y < line.count; ++y) {
    const PixelTaps& pixel = weights.pixels[static_cast<size_t>(y)];
    const int32_t count = weights.counts[static_cast<size_t>(y)];
    if (row_line.copies()) {
      taps.gather(pixel, count, [&](int32_t row) { return source.row(row); });
    } else {
      for (ready = std::max(ready, pixel.first); ready < pixel.first + count; ++ready) {
        first_pass(ready, ring.row(ready % slots));
      }
      taps.gather(pixel, count, [&](int32_t row) { return ring.row(row % slots); });
    }
    resample_rows(taps.rows.data(), pixel.taps, pixel.pairs, row_bytes, out.row(0));
    sink(y, out.row(0));
  }
}

// Along columns, then along rows, as Pillow does when that saves it time.
void down_then_across(SourceRows& source, const Resize& resize, const RowSink& sink) {
  const Line line = down(resize), row_line = across(resize);
  const Taps columns = reach(row_line, resize.filter);
  const Weights weights = weights_of(line, resize.filter, 0, 1);
  const Weights row_weights = weights_of(row_line, resize.filter, columns.first, 2);
  Rows between(1, int64_t{3} * columns.count), out(1, int64_t{3} * resize.region.width);
  RowTaps taps(weights);
  for (int32_t y = 0; y < line.count; ++y) {
    const PixelTaps& pixel = weights.pixels[static_cast<size_t>(y)];
    taps.gather(pixel, weights.counts[static_cast<size_t>(y)],
                [&](int32_t row) { return source.row(row); });
    resample_rows(taps.rows.data(), pixel.taps, pixel.pairs, int64_t{3} * columns.count,
                  between.row(0));
    resample_row(between.row(0), row_weights.pixels.data(), row_line.count, out.row(0));
    sink(y, out.row(0));
  }
}

// Pillow's rule (since 13): where the height shrinks by more than twice what the width does.
bool shrinks_down_first(const Resize& r) {
  const int64_t shrink_down = r.source.height - r.target.height;
  const int64_t shrink_across = r.source.width - r.target.width;
  return shrink_down > 0 && shrink_down > 2 * shrink_across;
}

void resample_filtered(const PixelView& source, const Resize& resize, const RowSink& sink) {
  SourceRows rows(source, needed_source(resize));
  const bool both = !across(resize).copies() && !down(resize).copies();
  if (both && shrinks_down_first(resize)) return down_then_across(rows, resize, sink);
  across_then_down(rows, resize, sink);
}

}  // namespace

Resize whole_resize(Size source, Size target, Filter filter) {
  return {source,
          {0, 0, static_cast<float>(source.width), static_cast<float>(source.height)},
          target,
          {0, 0, target.width, target.height},
          filter};
}

PixelView view_of(const Image& image) {
  return {image.rgb.data(),
          image.rgb.data() + image.rgb.size(),
          ptrdiff_t{3} * image.width,
          {0, 0, image.width, image.height}};
}

PixelView part_of(const Image& image, const Region& part) {
  TR_ASSERT(part.x >= 0 && part.y >= 0 && part.width > 0 && part.height > 0 &&
            part.width <= image.width - part.x && part.height <= image.height - part.y);
  PixelView view = view_of(image);
  view.rgb = row_at(view, part.x, part.y);
  view.region = {0, 0, part.width, part.height};
  return view;
}

Region needed_source(const Resize& resize) {
  const Taps columns = reach(across(resize), resize.filter);
  const Taps rows = reach(down(resize), resize.filter);
  return {columns.first, rows.first, columns.count, rows.count};
}

void resample(const PixelView& source, const Resize& resize, const RowSink& sink) {
  TR_ASSERT(resize.source.width > 0 && resize.source.height > 0);
  TR_ASSERT(resize.region.x >= 0 && resize.region.width <= resize.target.width - resize.region.x);
  TR_ASSERT(resize.region.y >= 0 && resize.region.height <= resize.target.height - resize.region.y);
  if (resize.region.width <= 0 || resize.region.height <= 0) return;
  const bool same = across(resize).copies() && down(resize).copies();
  if (resize.filter == Filter::nearest && !same) return resample_nearest(source, resize, sink);
  resample_filtered(source, resize, sink);
}

Image resample(const PixelView& source, const Resize& resize) {
  Image out{resize.region.width, resize.region.height, {}};
  const size_t row_bytes = size_t{3} * static_cast<size_t>(out.width);
  out.rgb.reserve(row_bytes * static_cast<size_t>(out.height));
  resample(source, resize, [&](int32_t, const uint8_t* rgb) {
    out.rgb.insert(out.rgb.end(), rgb, rgb + row_bytes);
  });
  return out;
}

}  // namespace troupe::vision
