// Where a position of a sequence lies in the paged cache, and single-element access to it.
#pragma once

#include "kernels/backend.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/kv_cache.hpp"

namespace troupe::cpu {

struct PagedToken {
  int32_t block = 0;
  int32_t offset = 0;  // token within the block
};

inline PagedToken paged_token(const Batch& batch, int32_t sequence, int32_t group,
                              int32_t block_tokens, int32_t position) {
  const PlanTable& table = batch.plan.table(sequence, group);
  const int32_t relative = position - table.first_position;
  TR_ASSERT(relative >= 0 && relative / block_tokens < table.count);
  const auto index = static_cast<size_t>(table.begin + relative / block_tokens);
  return {batch.plan.blocks()[index], relative % block_tokens};
}

inline float key_at(const HostKvCache& c, int32_t layer, PagedToken t, int32_t head, int64_t dim) {
  const int64_t i = t.offset * c.key_token_step() + dim * c.key_dim_step();
  return load_element(c.spec().dtype, c.keys(layer, t.block, head), i);
}
inline float value_at(const HostKvCache& c, int32_t layer, PagedToken t, int32_t head,
                      int64_t dim) {
  return load_element(c.spec().dtype, c.values(layer, t.block, head),
                      t.offset * c.value_token_step() + dim);
}

// Row `row` of key and value becomes the given token of the cache.
inline void write_token(const HostKvCache& c, int32_t layer, PagedToken t, const Matrix& key,
                        const Matrix& value, int64_t row) {
  const KvCacheSpec& s = c.spec();
  for (int32_t h = 0; h < s.kv_heads; ++h) {
    std::byte* keys = c.keys(layer, t.block, h);
    for (int64_t d = 0; d < s.key_dim; ++d) {
      store_element(s.dtype, keys, t.offset * c.key_token_step() + d * c.key_dim_step(),
                    at(key, row, int64_t{h} * s.key_dim + d));
    }
    if (s.values_in_keys) continue;
    std::byte* values = c.values(layer, t.block, h);
    for (int64_t d = 0; d < s.value_dim; ++d) {
      store_element(s.dtype, values, t.offset * c.value_token_step() + d,
                    at(value, row, int64_t{h} * s.value_dim + d));
    }
  }
}

}  // namespace troupe::cpu
