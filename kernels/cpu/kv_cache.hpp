// The paged KV cache in host memory.
//
// Every layer has `blocks` blocks; inside a block:
//   keys    [kv_head][key_dim][block_tokens]   a column per token: one load meets several tokens,
//           or, when values lie in keys (latent attention), [kv_head][block_tokens][key_dim]
//   values  [kv_head][block_tokens][value_dim]
// All layers of one block are block_bytes() together, but lie layer by layer.
#pragma once

#include <memory>

#include "kernels/backend.hpp"

namespace troupe::cpu {

class HostKvCache final : public KvCache {
 public:
  static size_t block_bytes(const KvCacheSpec& spec);
  static Result<std::unique_ptr<KvCache>> create(const KvCacheSpec& spec);

  HostKvCache(const KvCacheSpec& spec, std::unique_ptr<DeviceBuffer> memory);
  [[nodiscard]] const KvCacheSpec& spec() const override { return spec_; }

  // First element of a head's keys or values within a block of a layer.
  [[nodiscard]] std::byte* keys(int32_t layer, int32_t block, int32_t head) const {
    return block_begin(layer, block) + static_cast<int64_t>(head) * key_head_bytes_;
  }
  [[nodiscard]] std::byte* values(int32_t layer, int32_t block, int32_t head) const {
    if (spec_.values_in_keys) return keys(layer, block, head);
    return block_begin(layer, block) + value_offset_ +
           static_cast<int64_t>(head) * value_head_bytes_;
  }
  // Distance in elements between two tokens, and between two dimensions, of a head's keys.
  [[nodiscard]] int64_t key_token_step() const {
    return spec_.values_in_keys ? spec_.key_dim : 1;
  }
  [[nodiscard]] int64_t key_dim_step() const {
    return spec_.values_in_keys ? 1 : spec_.block_tokens;
  }
  [[nodiscard]] int64_t value_token_step() const {
    return spec_.values_in_keys ? spec_.key_dim : spec_.value_dim;
  }

  void copy_block(int32_t from, int32_t to) const;

 private:
  [[nodiscard]] std::byte* block_begin(int32_t layer, int32_t block) const {
    return base_ + (static_cast<int64_t>(layer) * spec_.blocks + block) * layer_block_bytes_;
  }
  KvCacheSpec spec_;
  std::unique_ptr<DeviceBuffer> memory_;
  std::byte* base_ = nullptr;
  int64_t key_head_bytes_ = 0;
  int64_t value_head_bytes_ = 0;
  int64_t value_offset_ = 0;
  int64_t layer_block_bytes_ = 0;
};

}  // namespace troupe::cpu
