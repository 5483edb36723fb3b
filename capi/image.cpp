// troupe_image, read and checked: every size that a later room multiplies is bounded here.
#include <array>
#include <string>

#include "base/limits.hpp"
#include "capi/checks.hpp"
#include "capi/options.hpp"
#include "capi/sized.hpp"

namespace troupe::capi {
namespace {

constexpr int32_t kSideMax = 1 << 20;
constexpr std::array<int32_t, 5> kChannels = {3, 4, 3, 4, 1};  // by TROUPE_PIXELS_...
constexpr std::array<int32_t, 3> kTypeBytes = {2, 2, 4};  // by TROUPE_TYPE_...

constexpr troupe_image image_defaults() {
  troupe_image i{};
  i.struct_size = sizeof i;
  i.width = i.height = i.rows = i.hidden = -1;
  i.row_stride = -1;
  i.grid[0] = i.grid[1] = i.grid[2] = -1;
  return i;
}

Status check_range(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return invalid(std::string("troupe_image.") + name + " is " + std::to_string(value) +
                 ": it must be " + std::to_string(low) + " to " + std::to_string(high));
}

Status check_bytes(const troupe_image& i, int64_t needed, const std::string& why) {
  if (i.size >= static_cast<size_t>(needed)) return {};
  return invalid("troupe_image.size is " + std::to_string(i.size) + " bytes: " + why + " needs " +
                 std::to_string(needed));
}

Status read_pixels(const troupe_image& i, ImageInput& to) {
  TR_TRY(check_range("width", i.width, 1, kSideMax));
  TR_TRY(check_range("height", i.height, 1, kSideMax));
  TR_TRY(check_range("format", i.format, TROUPE_PIXELS_RGB, TROUPE_PIXELS_GREY));
  TR_TRY(check_range("layout", i.layout, TROUPE_LAYOUT_HWC, TROUPE_LAYOUT_CHW));
  const int64_t pixels = int64_t{i.width} * i.height;
  if (pixels > limits::image_pixels) {
    return limit_exceeded("troupe_image has " + std::to_string(i.width) + " x " +
                          std::to_string(i.height) + " pixels: at most " +
                          std::to_string(limits::image_pixels));
  }
  const int64_t channels = kChannels[static_cast<size_t>(i.format)];
  const bool planar = i.layout == TROUPE_LAYOUT_CHW;
  const int64_t row = planar ? i.width : i.width * channels;
  const int64_t stride = i.row_stride == -1 ? row : i.row_stride;
  TR_TRY(check_range("row_stride", stride, row, int64_t{1} << 32));
  const int64_t rows = planar ? i.height * channels : i.height;
  TR_TRY(check_bytes(i, stride * (rows - 1) + row,
                     std::to_string(i.width) + " x " + std::to_string(i.height) + " x " +
                         std::to_string(channels)));
  to.width = i.width;
  to.height = i.height;
  to.format = static_cast<PixelFormat>(i.format);
  to.layout = static_cast<PixelLayout>(i.layout);
  to.row_stride = stride == row ? 0 : stride;
  return {};
}

Status read_embedding(const troupe_image& i, ImageInput& to) {
  TR_TRY(check_range("rows", i.rows, 1, limits::prompt_tokens));
  TR_TRY(check_range("hidden", i.hidden, 1, kSideMax));
  TR_TRY(check_range("type", i.type, TROUPE_TYPE_F16, TROUPE_TYPE_F32));
  const int64_t bytes = int64_t{i.rows} * i.hidden * kTypeBytes[static_cast<size_t>(i.type)];
  TR_TRY(check_bytes(i, bytes, std::to_string(i.rows) + " x " + std::to_string(i.hidden)));
  if (i.size != static_cast<size_t>(bytes)) {
    return invalid("troupe_image.size is " + std::to_string(i.size) + " bytes: an embedding has " +
                   std::to_string(bytes) + " and no more");
  }
  to.rows = i.rows;
  to.hidden = i.hidden;
  to.type = static_cast<EmbeddingType>(i.type);
  if (i.grid[0] == -1 && i.grid[1] == -1 && i.grid[2] == -1) return {};
  int64_t cells = 1;
  for (size_t axis = 0; axis < 3; ++axis) {
    TR_TRY(check_range("grid", i.grid[axis], 1, kSideMax));
    cells *= i.grid[axis];
    if (cells > limits::prompt_tokens) break;
    to.grid[axis] = i.grid[axis];
  }
  if (cells != i.rows) {
    return invalid("troupe_image.grid is " + std::to_string(i.grid[0]) + " x " +
                   std::to_string(i.grid[1]) + " x " + std::to_string(i.grid[2]) +
                   " but troupe_image.rows is " + std::to_string(i.rows) + ": they must agree");
  }
  return {};
}

}  // namespace

const troupe_image kImageDefaults = image_defaults();

Result<ImageInput> image_input(const troupe_image& i) {
  TR_TRY(check_range("kind", i.kind, TROUPE_IMAGE_ENCODED, TROUPE_IMAGE_EMBEDDING));
  if (i.data == nullptr || i.size == 0) {
    return invalid("troupe_image has no data: set data and size, in bytes");
  }
  if (i.size > limits::image_bytes) {
    return limit_exceeded("troupe_image.size is " + std::to_string(i.size) + " bytes: at most " +
                          std::to_string(limits::image_bytes));
  }
  ImageInput to;
  to.kind = static_cast<ImageKind>(i.kind);
  if (to.kind == ImageKind::pixels) TR_TRY(read_pixels(i, to));
  if (to.kind == ImageKind::embedding) TR_TRY(read_embedding(i, to));
  return to;
}

static_assert(static_cast<int>(ImageKind::encoded) == TROUPE_IMAGE_ENCODED);
static_assert(static_cast<int>(ImageKind::pixels) == TROUPE_IMAGE_PIXELS);
static_assert(static_cast<int>(ImageKind::embedding) == TROUPE_IMAGE_EMBEDDING);
static_assert(static_cast<int>(PixelFormat::rgb) == TROUPE_PIXELS_RGB);
static_assert(static_cast<int>(PixelFormat::rgba) == TROUPE_PIXELS_RGBA);
static_assert(static_cast<int>(PixelFormat::bgr) == TROUPE_PIXELS_BGR);
static_assert(static_cast<int>(PixelFormat::bgra) == TROUPE_PIXELS_BGRA);
static_assert(static_cast<int>(PixelFormat::grey) == TROUPE_PIXELS_GREY);
static_assert(static_cast<int>(PixelLayout::hwc) == TROUPE_LAYOUT_HWC);
static_assert(static_cast<int>(PixelLayout::chw) == TROUPE_LAYOUT_CHW);
static_assert(static_cast<int>(EmbeddingType::f16) == TROUPE_TYPE_F16);
static_assert(static_cast<int>(EmbeddingType::bf16) == TROUPE_TYPE_BF16);
static_assert(static_cast<int>(EmbeddingType::f32) == TROUPE_TYPE_F32);

}  // namespace troupe::capi

extern "C" void troupe_image_init(troupe_image* image, uint32_t struct_size) {
  troupe::capi::init_sized(image, struct_size, troupe::capi::kImageDefaults);
}
