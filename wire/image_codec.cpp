#include "wire/image_codec.hpp"

#include "base/limits.hpp"

namespace troupe::wire {
namespace {

constexpr int32_t kSideMax = 1 << 20;

bool read_geometry(Reader& from, uint64_t k, ImageInput& image) {
  switch (k) {
    case key::image::width:
      image.width = from.int32(1, kSideMax);
      return true;
    case key::image::height:
      image.height = from.int32(1, kSideMax);
      return true;
    case key::image::format:
      image.format =
          static_cast<PixelFormat>(from.number(static_cast<uint64_t>(PixelFormat::grey)));
      return true;
    case key::image::layout:
      image.layout = static_cast<PixelLayout>(from.number(static_cast<uint64_t>(PixelLayout::chw)));
      return true;
    case key::image::row_stride:
      image.row_stride = from.integer(0, int64_t{1} << 32);
      return true;
    case key::image::rows:
      image.rows = from.int32(1, limits::prompt_tokens);
      return true;
    case key::image::hidden:
      image.hidden = from.int32(1, kSideMax);
      return true;
    case key::image::type:
      image.type =
          static_cast<EmbeddingType>(from.number(static_cast<uint64_t>(EmbeddingType::f32)));
      return true;
    case key::image::grid:
      if (from.array(3) != 3) from.fail("a grid is a list of three numbers");
      for (int32_t& side : image.grid) side = from.int32(0, kSideMax);
      return true;
    default:
      return false;
  }
}

}  // namespace

void write_image(Writer& to, const ImageInput& image, size_t blob) {
  Writer::Map map(to);
  map.key(key::image::kind).number(static_cast<uint64_t>(image.kind));
  map.key(key::image::blob).number(blob);
  if (image.kind == ImageKind::pixels) {
    map.key(key::image::width).integer(image.width);
    map.key(key::image::height).integer(image.height);
    map.key(key::image::format).number(static_cast<uint64_t>(image.format));
    map.key(key::image::layout).number(static_cast<uint64_t>(image.layout));
    if (image.row_stride != 0) map.key(key::image::row_stride).integer(image.row_stride);
  }
  if (image.kind == ImageKind::embedding) {
    map.key(key::image::rows).integer(image.rows);
    map.key(key::image::hidden).integer(image.hidden);
    map.key(key::image::type).number(static_cast<uint64_t>(image.type));
    map.key(key::image::grid).array(3);
    for (const int32_t side : image.grid) to.integer(side);
  }
}

void read_image(Reader& from, size_t blob_max, ImageInput& image, size_t& blob) {
  from.each([&](uint64_t k) {
    switch (k) {
      case key::image::kind:
        image.kind =
            static_cast<ImageKind>(from.number(static_cast<uint64_t>(ImageKind::embedding)));
        return true;
      case key::image::blob:
        blob = from.number(blob_max);
        return true;
      default:
        return read_geometry(from, k, image);
    }
  });
}

}  // namespace troupe::wire
