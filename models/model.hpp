// A model on its devices: opened from a folder, asked for one forward pass at a time.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.hpp"
#include "models/facts.hpp"

namespace troupe::models {

struct ModelDescription;  // models/description.hpp

enum class LoadFormat : uint8_t { files, dummy };

struct LoadOptions {
  LoadFormat format = LoadFormat::files;
  std::string dtype = "auto";  // auto | f32 | f16 | bf16
  std::string kv_dtype = "auto";
  int32_t block_tokens = 16;
  int32_t context_length = 0;  // 0: the model's own
  int32_t ranks = 1;           // tensor parallel: facts() speaks of one rank of so many
  uint64_t seed = 0;           // of dummy weights
  // Called with a phase and a fraction in [0, 1] while loading. False: give up, with `closed`.
  std::function<bool(std::string_view phase, double fraction)> progress;
};

// What config.json and its like say: read without touching weights.
class ModelFolder {
 public:
  virtual ~ModelFolder() = default;
  static Result<std::shared_ptr<const ModelFolder>> open(const std::string& path,
                                                         const LoadOptions& options);
  [[nodiscard]] virtual const ModelFacts& facts() const = 0;
  [[nodiscard]] virtual const GenerationDefaults& defaults() const = 0;
  [[nodiscard]] virtual const ModelDescription& description() const = 0;
  [[nodiscard]] virtual const std::string& path() const = 0;
};

// One rank of a model, on one device. Driven by that device's executor thread alone.
class Model {
 public:
  virtual ~Model() = default;
  // `communicator` is null without tensor parallelism; it outlives the model.
  static Result<std::unique_ptr<Model>> load(std::shared_ptr<const ModelFolder> folder,
                                             Backend& backend, Communicator* communicator,
                                             const LoadOptions& options);
  [[nodiscard]] virtual const ModelFacts& facts() const = 0;

  // Bytes of workspace that steps of this size need; reserve() takes them, once.
  [[nodiscard]] virtual size_t workspace_bytes(int32_t rows, int32_t logit_rows) const = 0;
  virtual Status reserve(int32_t rows, int32_t logit_rows) = 0;

  // Enqueues the writing of encoder rows for the batch's sequence of this index: what its
  // cross-attention layers see from then on. Before the forward pass of the same batch.
  virtual void encode(const Batch& batch, std::span<KvCache* const> caches, int32_t sequence,
                      const Matrix& states) = 0;
  // Enqueues the forward pass of the batch. The logits (f32, logit rows x vocab, on every rank)
  // stay valid until the next forward. `injects` are the embeddings of the plan's injects, in order.
  virtual Matrix forward(const Batch& batch, std::span<KvCache* const> caches,
                         std::span<const Matrix> injects) = 0;
  // Tests: expert ids (rows x top_k) per layer, in place of the routing's choice, for the next
  // forward passes; empty lists let the routing choose.
  virtual void force_routing(std::vector<std::vector<int32_t>> per_layer) = 0;
  // How the sampler must treat these logits (scale, soft-cap).
  [[nodiscard]] virtual SampleArgs sampling(const Matrix& logits) const = 0;
};

}  // namespace troupe::models
