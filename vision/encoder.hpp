// A tower and projector on one device: the one loop over layers that every family runs.
//
// A call goes through in groups of tiles that fit the workspace, each group a step of the backend
// (so that rope finds its positions in a plan, as in the language model).
#pragma once

#include <memory>
#include <vector>

#include "models/layers/layer.hpp"
#include "vision/folder.hpp"
#include "vision/rows.hpp"
#include "vision/stages.hpp"
#include "vision/tiled.hpp"

namespace troupe::vision {

class VisionEncoder final : public VisionModel {
 public:
  VisionEncoder(std::shared_ptr<const OpenedFolder> folder, Backend& backend);
  ~VisionEncoder() override;
  Status load(const models::LoadOptions& options);

  [[nodiscard]] size_t workspace_bytes(int64_t patches) const override;
  Status reserve(int64_t patches) override;
  void take_turns(std::shared_ptr<std::mutex> turn) override { turn_ = std::move(turn); }
  [[nodiscard]] int32_t rows_of(const PatchGrid& grid) const override;
  Status encode(std::span<const Tile> tiles, std::span<const Matrix> rows) override;
  Status join(const PictureLayout& layout, std::span<const Matrix> tiles,
              const Matrix& out) override;

 private:
  struct PlacedLayer {
    models::PlacedLinear qkv, out;
    models::PlacedNorm q_norm, k_norm, norm, ffn_norm, post_norm, post_ffn_norm;
    std::unique_ptr<models::Sublayer> ffn;
    Matrix gain, ffn_gain;
    float gate = 1.0F, ffn_gate = 1.0F;
  };
  struct Buffers {
    Matrix patches, embedded, residual, normed, branch, features;
  };
  struct Run;  // what one group's pass carries along

  Status load_layers(models::WeightLoader& loader);
  [[nodiscard]] size_t bytes_for(std::span<const PatchGrid> tiles) const;
  Buffers lay_out(models::Scratch& scratch, int64_t patches, int64_t rows, int64_t kept) const;
  [[nodiscard]] size_t layer_bytes(int64_t rows) const;
  [[nodiscard]] size_t stage_bytes(std::vector<TileShape> tiles) const;
  [[nodiscard]] std::vector<TileShape> first_shapes(std::span<const PatchGrid> tiles) const;

  [[nodiscard]] std::unique_lock<std::mutex> take_turn() const {
    return turn_ == nullptr ? std::unique_lock<std::mutex>() : std::unique_lock(*turn_);
  }
  Status check_tile(const Tile& tile, const Matrix& rows) const;
  Status encode_group(std::span<const Tile> tiles, std::span<const Matrix> outputs);
  Status upload_patches(std::span<const Tile> tiles, const TowerRows& rows, const Matrix& to);
  Result<Batch> begin(int64_t rows, std::vector<int32_t> rope);
  Status finish(const Batch& batch);
  void embed(Run& run);
  void embed_tiled(Run& run);
  void pass_middle(Run& run, int32_t state);
  [[nodiscard]] const TiledPositions* tiled() const {
    return std::get_if<TiledPositions>(&folder_->description().tower.positions);
  }
  void run_layer(Run& run, PlacedLayer& layer, const TowerLayer& spec);
  void attend(Run& run, PlacedLayer& layer, const TowerLayer& spec, const Matrix& input);
  void take(Run& run, int32_t state);
  void project(Run& run, std::span<const Tile> tiles, std::span<const Matrix> outputs);

  std::shared_ptr<const OpenedFolder> folder_;
  Backend& backend_;
  DType activation_;
  models::WeightArena arena_;
  models::PlacedLinear patches_;
  Matrix class_token_, positions_, row_end_;
  Matrix tile_positions_, before_tiles_, behind_tiles_;  // of TiledPositions
  TiledGates tiled_gates_;
  models::PlacedNorm middle_norm_;
  models::PlacedNorm first_norm_, final_norm_;
  std::vector<RopeSpec> ropes_;
  std::vector<PlacedLayer> layers_;
  std::vector<std::unique_ptr<PlacedStage>> stages_;
  std::shared_ptr<std::mutex> turn_;  // null: alone on the device
  std::unique_ptr<DeviceBuffer> workspace_;
  int64_t patches_max_ = 0;  // of one pass
  uint64_t steps_ = 0;
  std::vector<std::byte> converted_;  // patches on their way to the device
};

}  // namespace troupe::vision
