// The tensors of a model folder, whatever the files are: model.safetensors, its shards, or
// pytorch_model*.bin. Opening reads headers only; a tensor is a view into a mapped file.
//
// Invariant (INV-WEIGHTS-1): every tensor listed lies wholly inside its file, its bytes are exactly
// its shape times its dtype, and no two tensors of a safetensors file overlap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.hpp"
#include "kernels/tensor.hpp"

namespace troupe::models {

class MappedFile;

struct HostTensor {
  std::optional<DType> dtype;  // f32, f16, bf16; none when the weights of a model cannot be that
  std::string dtype_text;  // as the file calls it
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  size_t bytes = 0;
  std::shared_ptr<const MappedFile> file;
};
using TensorMap = std::map<std::string, HostTensor, std::less<>>;

std::string shape_text(const std::vector<int64_t>& shape);
// Elements of a shape times `each`; nothing when that overflows or a dimension is negative.
std::optional<size_t> shape_bytes(const std::vector<int64_t>& shape, size_t each);

class Checkpoint {
 public:
  static Result<Checkpoint> open(const std::string& folder);
  // Whether there is any file that open() would read.
  static bool present(const std::string& folder);

  [[nodiscard]] const HostTensor* find(std::string_view name) const;
  [[nodiscard]] const TensorMap& tensors() const { return tensors_; }
  [[nodiscard]] const std::vector<std::shared_ptr<const MappedFile>>& files() const {
    return files_;
  }
  [[nodiscard]] const std::string& format() const { return format_; }  // "safetensors", "pytorch"
  // The dtype that most bytes have.
  [[nodiscard]] std::optional<DType> main_dtype() const;
  [[nodiscard]] size_t tensor_bytes() const;

 private:
  TensorMap tensors_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::string format_;
};

}  // namespace troupe::models
