// VisionCore: one vision model on one device. Each tile's rows have memory of their own, from a
// store; the workspace grows to the largest call seen, up to the bound that was planned.
#pragma once

#include <memory>

#include "engine/row_store.hpp"
#include "engine/vision_executor.hpp"
#include "kernels/backend.hpp"
#include "vision/eyes.hpp"

namespace troupe::engine {

class VisionCore final : public VisionExecutor {
 public:
  struct Shape {
    int32_t hidden = 0;       // of a row
    DType dtype = DType::f32; // what the language model computes in
    int64_t patches_max = 0;  // of one call, by the memory plan; more are refused with both numbers
    int64_t patches_usual = 1024;  // of one call: the first one reserves so much
  };
  VisionCore(std::shared_ptr<Backend> backend, std::unique_ptr<vision::VisionModel> model,
             const Shape& shape);
  // What is usual, before the first picture comes; else with it.
  Status reserve() { return reserve(1); }

  Result<std::vector<EmbeddingPtr>> encode(std::span<const vision::Tile> tiles) override;
  Result<EmbeddingPtr> join(const vision::PictureLayout& layout,
                            std::span<const EmbeddingPtr> tiles) override;
  Result<EmbeddingPtr> adopt(const ImageInput& rows) override;

 private:
  Result<EmbeddingPtr> allocate(int64_t rows);
  Status reserve(int64_t patches);

  const std::shared_ptr<Backend> backend_;  // outlives what lies on it: rows keep it, too
  const std::unique_ptr<vision::VisionModel> model_;
  RowStore store_;
  const int64_t hidden_;
  const DType dtype_;
  const int64_t patches_max_, patches_usual_;
  int64_t reserved_ = 0;
};

// The most patches whose workspace takes at most so many bytes.
int64_t patches_that_fit(const vision::VisionModel& model, size_t bytes);

}  // namespace troupe::engine
