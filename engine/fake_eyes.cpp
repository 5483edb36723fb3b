#include "engine/fake_eyes.hpp"

#include <utility>

namespace troupe::engine {
namespace {

constexpr uint8_t kBroken = 255;

EmbeddingPtr host_rows(int64_t rows, int64_t columns) {
  auto values = std::make_shared<std::vector<float>>(static_cast<size_t>(rows * columns));
  Embedding out;
  out.rows = {values->data(), DType::f32, rows, columns, columns};
  out.owner = std::move(values);
  return std::make_shared<const Embedding>(std::move(out));
}

class FakeProcessor final : public vision::Processor {
 public:
  explicit FakeProcessor(FakeEyes eyes) : eyes_(std::move(eyes)) {}
  [[nodiscard]] uint64_t hash() const override { return 77; }
  [[nodiscard]] Result<vision::PictureLayout> layout(int32_t width, int32_t height) const override {
    vision::PictureLayout out;
    out.width = width;
    out.height = height;
    out.tiles.assign(static_cast<size_t>(width), {1, 1, height});
    out.tile_columns = width;
    out.rows = width * height;
    out.prompt.push_back('<');
    for (int32_t i = 0; i < out.rows; ++i) out.prompt.append(eyes_.placeholder);
    out.prompt.push_back('>');
    return out;
  }
  [[nodiscard]] Result<vision::Tile> prepare(const vision::Image& image,
                                             const vision::PictureLayout& layout,
                                             int32_t tile) const override {
    vision::Tile out;
    out.grid = layout.tiles[static_cast<size_t>(tile)];
    out.patch_values = 2;
    out.index = tile;
    for (int64_t p = 0; p < out.grid.patches(); ++p) {
      out.patches.push_back(static_cast<float>(image.rgb.at(0)));
      out.patches.push_back(static_cast<float>(tile));
    }
    return out;
  }

 private:
  const FakeEyes eyes_;
};

class FakeFolder final : public vision::VisionFolder {
 public:
  explicit FakeFolder(const FakeEyes& eyes) : processor_(eyes) {
    rules_.sight = eyes.sight;
    rules_.placeholder = eyes.placeholder;
    rules_.image_token = eyes.image_token;
    rules_.hidden = eyes.hidden;
  }
  [[nodiscard]] const vision::Processor& processor() const override { return processor_; }
  [[nodiscard]] const vision::PromptRules& rules() const override { return rules_; }
  [[nodiscard]] int64_t parameters() const override { return 0; }
  [[nodiscard]] int64_t weight_bytes() const override { return 0; }
  [[nodiscard]] double cost(const vision::PatchGrid& grid) const override {
    return static_cast<double>(grid.patches()) * 1000.0;
  }
  [[nodiscard]] bool joins(const vision::PictureLayout& layout) const override {
    return layout.tiles.size() > 1;
  }

 private:
  FakeProcessor processor_;
  vision::PromptRules rules_;
};

class FakeVisionExecutor final : public VisionExecutor {
 public:
  explicit FakeVisionExecutor(const FakeEyes& eyes) : hidden_(eyes.hidden) {}
  Result<std::vector<EmbeddingPtr>> encode(std::span<const vision::Tile> tiles) override {
    std::vector<EmbeddingPtr> out;
    for (const vision::Tile& tile : tiles) {
      if (tile.patches.empty()) return internal_error("a tile without patches");
      const EmbeddingPtr rows = host_rows(tile.grid.patches(), hidden_);
      for (int64_t r = 0; r < rows->rows.rows; ++r) {
        auto* row = rows->rows.row<float>(r);
        row[0] = tile.patches[0];
        row[1] = tile.patches[1];
        row[2] = static_cast<float>(r);
        row[3] = 1.0F;
      }
      out.push_back(rows);
    }
    return out;
  }
  Result<EmbeddingPtr> join(const vision::PictureLayout& layout,
                            std::span<const EmbeddingPtr> tiles) override {
    const EmbeddingPtr out = host_rows(layout.rows, hidden_);
    int64_t next = 0;
    for (size_t t = 0; t < tiles.size(); ++t) {
      if (tiles[t] == nullptr) return internal_error("a tile without rows");
      for (int64_t r = 0; r < tiles[t]->rows.rows; ++r, ++next) {
        const auto* from = tiles[t]->rows.row<float>(r);
        if (next >= layout.rows || from[1] != static_cast<float>(t)) return internal_error("tiles out of order");
        std::copy(from, from + hidden_, out->rows.row<float>(next));
        out->rows.row<float>(next)[3] = static_cast<float>(tiles.size());
      }
    }
    if (next != layout.rows) return internal_error("rows are missing");
    return out;
  }
  Result<EmbeddingPtr> adopt(const ImageInput& input) override {
    const EmbeddingPtr out = host_rows(input.rows, input.hidden);
    const auto* values = reinterpret_cast<const float*>(input.bytes.data);
    std::copy(values, values + int64_t{input.rows} * input.hidden, out->rows.row<float>(0));
    return out;
  }

 private:
  const int64_t hidden_;
};

}  // namespace

ImageInput fake_picture(uint8_t width, uint8_t height, uint8_t self) {
  auto bytes = std::make_shared<std::vector<std::byte>>();
  for (const uint8_t b : {width, height, self}) bytes->push_back(std::byte{b});
  ImageInput input;
  input.bytes = {bytes, bytes->data(), bytes->size()};
  return input;
}

Result<vision::ImageHeader> measure_fake(const ImageInput& input) {
  if (input.bytes.size < 3) return invalid("image: it has no header");
  const auto width = static_cast<uint8_t>(input.bytes.data[0]);
  vision::ImageHeader header;
  header.width = width == kBroken ? 1 : width;
  header.height = static_cast<uint8_t>(input.bytes.data[1]);
  return header;
}

Result<vision::Image> load_fake(const ImageInput& input) {
  TR_ASSIGN(const vision::ImageHeader header, measure_fake(input));
  if (static_cast<uint8_t>(input.bytes.data[0]) == kBroken) return invalid("image: its data are damaged");
  vision::Image image;
  image.width = header.width;
  image.height = header.height;
  image.rgb = {static_cast<uint8_t>(input.bytes.data[2])};
  return image;
}

std::shared_ptr<const vision::VisionFolder> fake_vision_folder(const FakeEyes& eyes) {
  return std::make_shared<FakeFolder>(eyes);
}
std::unique_ptr<VisionExecutor> fake_vision_executor(const FakeEyes& eyes) {
  return std::make_unique<FakeVisionExecutor>(eyes);
}

}  // namespace troupe::engine
