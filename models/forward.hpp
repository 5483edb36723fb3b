// A loaded model: the weights of one rank, and the one loop over layers that every family runs.
//
// Tensor parallelism: the embedding and the head are split by vocabulary, attention by heads,
// feed-forwards (experts too) by their inner width. Each branch ends in one all-reduce, the
// embedding in another, the head in an all-gather, so every rank has the same residual and all the
// logits.
#pragma once

#include <memory>
#include <vector>

#include "models/folder.hpp"
#include "models/layers/layer.hpp"

namespace troupe::models {

struct PlacedLayer {
  std::unique_ptr<Sublayer> mixer, ffn;
  Residual residual = Residual::sequential;
  PlacedNorm norm, ffn_norm, post_norm, post_ffn_norm;
  float mixer_gate = 1.0F, ffn_gate = 1.0F;
  bool cross = false;
};

class LoadedModel final : public Model {
 public:
  LoadedModel(std::shared_ptr<const Folder> folder, Backend& backend, Communicator* communicator);
  ~LoadedModel() override;
  Status load(const LoadOptions& options);

  [[nodiscard]] const ModelFacts& facts() const override { return folder_->facts(); }
  [[nodiscard]] size_t workspace_bytes(int32_t rows, int32_t logit_rows) const override;
  Status reserve(int32_t rows, int32_t logit_rows) override;
  void encode(const Batch& batch, std::span<KvCache* const> caches, int32_t sequence,
              const Matrix& states) override;
  Matrix forward(const Batch& batch, std::span<KvCache* const> caches,
                 std::span<const Matrix> injects) override;
  [[nodiscard]] SampleArgs sampling(const Matrix& logits) const override;
  void force_routing(std::vector<std::vector<int32_t>> per_layer) override;

 private:
  struct Buffers {  // of one step, at the front of the workspace
    Matrix residual, normed, branch, second;
  };
  Status load_weights(WeightLoader& loader);
  Status load_ends(WeightLoader& loader);
  Status load_layer(WeightLoader& loader, size_t index);
  Status load_ropes(WeightLoader& loader);
  [[nodiscard]] Step begin(const Batch& batch, std::span<KvCache* const> caches) const;
  Buffers lay_out(Scratch& scratch, int64_t rows) const;
  void embed(Step& step, const Buffers& b, std::span<const Matrix> injects);
  [[nodiscard]] bool crosses() const;
  bool find_seeing(const PlanView& plan);  // whether any row does
  Matrix run_layers(Step& step, const Buffers& all);
  void run_layer(Step& step, const Buffers& b, PlacedLayer& layer, bool first);
  void run_feed_forward(Step& step, const Buffers& b, PlacedLayer& layer);
  void gate(const Buffers& b, float scale);
  void keep_norm(const PlacedLayer& layer, const Buffers& b);
  [[nodiscard]] bool may_narrow(const Step& step) const;
  Buffers narrow(Step& step, const Buffers& b);
  void run_branch(Step& step, Sublayer& branch, const Matrix& input, const Matrix& output);
  Matrix run_head(Step& step, const Matrix& normed);
  void reduce(const Matrix& m);
  [[nodiscard]] int64_t vocab_share() const;  // rows of the head that a rank has, rounded up

  std::shared_ptr<const Folder> folder_;
  Backend& backend_;
  Communicator* communicator_;
  WeightArena arena_;
  std::vector<RopeSpec> ropes_;
  Matrix embedding_;
  PlacedNorm embedding_norm_, final_norm_;
  PlacedLinear head_;
  std::vector<PlacedLayer> layers_;
  std::unique_ptr<DeviceBuffer> workspace_;
  std::vector<std::vector<int32_t>> forced_;
  // Of a step with encoder rows: each row that sees some, else -1. Empty: all see some.
  std::vector<int32_t> seeing_;
};

}  // namespace troupe::models
