// Puts a model's weights on its device: finds each tensor of the description in the checkpoint (or
// makes it up, for dummy weights), checks its shape, takes this rank's share of it, and hands it to
// Backend::place.
//
// INV-WEIGHTS-2: a weight is copied on the host only when it must be (another dtype was asked for,
// or its rows are interleaved with others); the copied file pages are given back. What stays mapped
// is kept mapped by the WeightArena for as long as the model lives.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/checkpoint.hpp"
#include "models/description.hpp"

namespace troupe::models {

// This rank's share of a weight: stored rows as runs, and a range of columns.
struct Share {
  struct Run {
    int64_t begin = 0, count = 0;
  };
  std::vector<Run> rows;
  int64_t row_count = 0;
  int64_t column_begin = 0, column_count = 0;
};
Result<Share> share_of(const TensorSpec& spec, int32_t rank, int32_t ranks);

using Renames = std::span<const std::pair<std::string, std::string>>;
// A tensor by its name, or by one with a prefix exchanged (ModelDescription::renames).
const HostTensor* find_weight(const Checkpoint& checkpoint, Renames renames,
                              const std::string& name);

// Everything that placed weights point into.
struct WeightArena {
  std::vector<std::unique_ptr<DeviceBuffer>> buffers;
  std::vector<std::shared_ptr<const void>> host;
};

// A linear layer on the device, with the weights of vision rows where there are such.
struct PlacedLinear {
  LinearWeight text;
  LinearWeight vision;
};

class WeightLoader {
 public:
  struct Options {
    const Checkpoint* checkpoint = nullptr;  // null: dummy weights
    DType dtype = DType::f32;
    int32_t rank = 0, ranks = 1;
    uint64_t seed = 0;
    Renames renames{};
    std::function<bool(size_t bytes)> placed{};  // false: give up
  };
  WeightLoader(Backend& backend, Options options, WeightArena& arena)
      : backend_(backend), options_(std::move(options)), arena_(arena) {}

  [[nodiscard]] int32_t rank() const { return options_.rank; }
  [[nodiscard]] int32_t ranks() const { return options_.ranks; }
  [[nodiscard]] DType activation_dtype() const { return backend_.activation_dtype(options_.dtype); }

  Result<PlacedLinear> linear(const LinearSpec& spec);
  Result<Matrix> matrix(const TensorSpec& spec);  // an empty matrix for an empty spec
  Result<Matrix> matrix_f32(const TensorSpec& spec);  // kept in f32 whatever the model's dtype
  Result<float> scalar(const TensorSpec& spec, float fallback);
  Result<Matrix> upload(std::span<const float> values, std::string_view what, int64_t rows = 1,
                        DType dtype = DType::f32);

 private:
  struct Slice {
    Matrix view;
    std::shared_ptr<const void> owner;
    std::shared_ptr<const MappedFile> file;  // of a view into a file
  };
  Result<HostTensor> fetch(const TensorSpec& spec, std::shared_ptr<const void>& owner);
  Status rearrange(const TensorSpec& spec, HostTensor& tensor, std::shared_ptr<const void>& owner);
  Result<Slice> slice(const TensorSpec& spec, DType dtype);
  Result<LinearWeight> linear_of(std::span<const LinearPartSpec> parts);
  Result<Matrix> place(const TensorSpec& spec, DType dtype);
  Status keep(const Slice& slice);

  Backend& backend_;
  Options options_;
  WeightArena& arena_;
};

// Calls `visit` with every weight of a part; biases come as vectors like their weights' rows.
using WeightVisitor = std::function<void(const TensorSpec&)>;
void visit_linear(const LinearSpec& linear, const WeightVisitor& visit);
void visit_norm(const NormSpec& norm, const WeightVisitor& visit);
void visit_ffn(const Ffn& ffn, const WeightVisitor& visit);

// Calls `visit` with every weight of the model; biases come as vectors like their weights' rows.
void visit_weights(const ModelDescription& model,
                   const std::function<void(const TensorSpec&)>& visit);

// Whether `ranks` can share every weight; the failure names the weight and what would do.
Status check_ranks(const ModelDescription& model, int32_t ranks);

// Elements of all stored tensors, each counted once.
int64_t count_parameters(const ModelDescription& model);

}  // namespace troupe::models
