// The paged cache of one group on a CUDA device: [layer][block][head][token][element], keys first,
// then values in the same order (latent attention has keys only).
#pragma once

#include <memory>

#include "kernels/backend.hpp"
#include "kernels/cuda/attention.hpp"

namespace troupe::cuda {

class CudaKvCache final : public KvCache {
 public:
  static Result<std::unique_ptr<KvCache>> create(const KvCacheSpec& spec);
  static size_t block_bytes(const KvCacheSpec& spec);

  [[nodiscard]] const KvCacheSpec& spec() const override { return spec_; }
  [[nodiscard]] CacheLayer layer(int32_t index) const;
  [[nodiscard]] PagedLayer paged(int32_t index) const;
  // Copies a block of every layer, on the stream.
  Status copy_block(int32_t from, int32_t to, cudaStream_t stream) const;

 private:
  CudaKvCache(const KvCacheSpec& spec, std::unique_ptr<DeviceBuffer> memory)
      : spec_(spec), memory_(std::move(memory)) {}
  [[nodiscard]] size_t key_block() const;  // bytes of one layer's block
  [[nodiscard]] size_t value_block() const;
  KvCacheSpec spec_;
  std::unique_ptr<DeviceBuffer> memory_;
};

}  // namespace troupe::cuda
