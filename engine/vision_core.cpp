#include "engine/vision_core.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "models/convert.hpp"

namespace troupe::engine {
namespace {

constexpr int64_t kPatchesMost = 1 << 20;

// What keeps rows on their device: the buffer, and the backend that it belongs to.
struct Rows {
  std::shared_ptr<Backend> backend;  // goes last
  std::shared_ptr<DeviceBuffer> buffer;
};

DType dtype_of(EmbeddingType type) {
  switch (type) {
    case EmbeddingType::f16: return DType::f16;
    case EmbeddingType::bf16: return DType::bf16;
    case EmbeddingType::f32: return DType::f32;
  }
  return DType::f32;
}

}  // namespace

int64_t patches_that_fit(const vision::VisionModel& model, size_t bytes) {
  int64_t low = 0, high = kPatchesMost;
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (model.workspace_bytes(middle) <= bytes) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

VisionCore::VisionCore(std::shared_ptr<Backend> backend, std::unique_ptr<vision::VisionModel> model,
                       const Shape& shape)
    : backend_(std::move(backend)),
      model_(std::move(model)),
      store_(backend_),
      hidden_(shape.hidden),
      dtype_(shape.dtype),
      patches_max_(shape.patches_max),
      patches_usual_(shape.patches_usual) {}

Result<EmbeddingPtr> VisionCore::allocate(int64_t rows) {
  auto kept = std::make_shared<Rows>();
  kept->backend = backend_;
  const size_t bytes = static_cast<size_t>(rows * hidden_) * dtype_bytes(dtype_);
  TR_ASSIGN(kept->buffer, store_.take(bytes));
  Embedding out;
  out.rows = {kept->buffer->data(), dtype_, rows, hidden_, hidden_};
  out.buffer = kept->buffer.get();
  out.owner = std::move(kept);
  return EmbeddingPtr(std::make_shared<const Embedding>(std::move(out)));
}

Status VisionCore::reserve(int64_t patches) {
  if (patches <= reserved_) return ok_status();
  if (patches > patches_max_) {
    return limit_exceeded("image: " + std::to_string(patches) + " patches at once, and the memory plan has room for " +
                          std::to_string(patches_max_) + "; send a smaller picture");
  }
  const auto wanted = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(patches, patches_usual_))));
  const int64_t next = std::min(wanted, patches_max_);
  TR_TRY(model_->reserve(next));
  reserved_ = next;
  return ok_status();
}

Result<std::vector<EmbeddingPtr>> VisionCore::encode(std::span<const vision::Tile> tiles) {
  int64_t patches = 0;
  for (const vision::Tile& t : tiles) patches += t.grid.patches();
  TR_TRY(reserve(patches));
  std::vector<EmbeddingPtr> out;
  std::vector<Matrix> rows;
  for (const vision::Tile& t : tiles) {
    TR_ASSIGN(EmbeddingPtr made, allocate(model_->rows_of(t.grid)));
    rows.push_back(made->rows);
    out.push_back(std::move(made));
  }
  TR_TRY(model_->encode(tiles, rows));
  return out;
}

Result<EmbeddingPtr> VisionCore::join(const vision::PictureLayout& layout,
                                      std::span<const EmbeddingPtr> tiles) {
  std::vector<Matrix> parts;
  for (const EmbeddingPtr& t : tiles) parts.push_back(t->rows);
  TR_ASSIGN(const EmbeddingPtr out, allocate(layout.rows));
  TR_TRY(model_->join(layout, parts, out->rows));
  TR_TRY(backend_->synchronize());
  return out;
}

Result<EmbeddingPtr> VisionCore::adopt(const ImageInput& input) {
  TR_ASSIGN(const EmbeddingPtr out, allocate(input.rows));
  const auto count = static_cast<size_t>(input.rows) * static_cast<size_t>(input.hidden);
  const DType given = dtype_of(input.type);
  if (given == dtype_) {
    TR_TRY(backend_->upload(out->rows.data, input.bytes.data, input.bytes.size));
    return out;
  }
  std::vector<std::byte> converted(count * dtype_bytes(dtype_));
  models::convert(input.bytes.data, given, converted.data(), dtype_, count);
  TR_TRY(backend_->upload(out->rows.data, converted.data(), converted.size()));
  return out;
}

}  // namespace troupe::engine
