// What the sublayers of one forward pass share: where to enqueue, and where to put what is passed
// on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.hpp"

namespace troupe::models {

// Hands out pieces of the workspace from one end; a sublayer's pieces are given back together. With
// no memory behind it, it only measures: planning and running use the same code.
class Scratch {
 public:
  explicit Scratch(void* base = nullptr, size_t capacity = 0)
      : base_(static_cast<std::byte*>(base)), capacity_(capacity) {}

  Matrix take(int64_t rows, int64_t cols, DType dtype) {
    constexpr size_t kAlign = 256;
    const size_t at = used_;
    used_ += (static_cast<size_t>(rows * cols) * dtype_bytes(dtype) + kAlign - 1) / kAlign * kAlign;
    if (base_ == nullptr) return {nullptr, dtype, rows, cols, cols};
    TR_ASSERT(used_ <= capacity_);  // INV-WORKSPACE-1: steps stay within what reserve() planned
    return {base_ + at, dtype, rows, cols, cols};
  }
  [[nodiscard]] size_t used() const { return used_; }
  void rewind(size_t used) { used_ = used; }

 private:
  std::byte* base_;
  size_t capacity_;
  size_t used_ = 0;
};

struct Step {
  Backend& backend;
  const Batch& batch;
  std::span<KvCache* const> caches;
  std::span<const RopeSpec> ropes;
  Scratch scratch;
  DType activation = DType::f32;
  bool vision_rows = false;  // the plan marks some rows as vision
  std::span<const int32_t> forced;  // expert ids of the layer that runs, or empty
};

}  // namespace troupe::models
