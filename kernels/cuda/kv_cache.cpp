#include "kernels/cuda/kv_cache.hpp"

#include "kernels/cuda/device_memory.hpp"

namespace troupe::cuda {
namespace {

size_t part(const KvCacheSpec& s, int32_t dim) {
  return static_cast<size_t>(s.kv_heads) * static_cast<size_t>(s.block_tokens) *
         static_cast<size_t>(dim) * dtype_bytes(s.dtype);
}
size_t keys_of(const KvCacheSpec& s) {
  return part(s, s.key_dim);
}
size_t values_of(const KvCacheSpec& s) {
  return s.values_in_keys ? 0 : part(s, s.value_dim);
}

}  // namespace

size_t CudaKvCache::key_block() const {
  return keys_of(spec_);
}
size_t CudaKvCache::value_block() const {
  return values_of(spec_);
}

size_t CudaKvCache::block_bytes(const KvCacheSpec& s) {
  return static_cast<size_t>(s.layers) * (keys_of(s) + values_of(s));
}

Result<std::unique_ptr<KvCache>> CudaKvCache::create(const KvCacheSpec& s) {
  if (s.dtype != DType::f32 && s.dtype != DType::f16 && s.dtype != DType::bf16) {
    return unsupported(std::string("a cache of dtype ") + dtype_name(s.dtype) +
                       " on CUDA: use auto, f16, bf16 or f32");
  }
  if (s.layers < 1 || s.kv_heads < 1 || s.key_dim < 1 || s.block_tokens < 1 || s.blocks < 1) {
    return invalid("cache: layers, heads, dimensions, block_tokens and blocks must be positive");
  }
  TR_ASSIGN(auto memory,
            allocate_device(block_bytes(s) * static_cast<size_t>(s.blocks), "the KV cache"));
  return std::unique_ptr<KvCache>(new CudaKvCache(s, std::move(memory)));
}

CacheLayer CudaKvCache::layer(int32_t index) const {
  auto* base = static_cast<std::byte*>(memory_->data());
  const auto i = static_cast<size_t>(index), layers = static_cast<size_t>(spec_.layers),
             blocks = static_cast<size_t>(spec_.blocks);
  CacheLayer l;
  l.keys = base + i * blocks * key_block();
  l.values = spec_.values_in_keys
                 ? l.keys
                 : base + layers * blocks * key_block() + i * blocks * value_block();
  l.dtype = spec_.dtype;
  l.kv_heads = spec_.kv_heads;
  l.key_dim = spec_.key_dim;
  l.value_dim = spec_.value_dim;
  l.block_tokens = spec_.block_tokens;
  l.blocks = spec_.blocks;
  l.value_row = spec_.values_in_keys ? spec_.key_dim : spec_.value_dim;
  return l;
}

PagedLayer CudaKvCache::paged(int32_t index) const {
  const CacheLayer l = layer(index);
  const int64_t dim = spec_.key_dim, tokens = spec_.block_tokens;
  return {l.keys,
          l.values,
          spec_.kv_heads * tokens * dim,
          tokens * dim,
          dim,
          spec_.blocks,
          spec_.block_tokens,
          spec_.kv_heads};
}

Status CudaKvCache::copy_block(int32_t from, int32_t to, cudaStream_t stream) const {
  const auto layers = static_cast<size_t>(spec_.layers), blocks = static_cast<size_t>(spec_.blocks);
  const auto copy = [&](std::byte* base, size_t bytes) {
    if (bytes == 0) return cudaSuccess;
    const size_t pitch = blocks * bytes;
    return cudaMemcpy2DAsync(base + static_cast<size_t>(to) * bytes, pitch,
                             base + static_cast<size_t>(from) * bytes, pitch, bytes, layers,
                             cudaMemcpyDeviceToDevice, stream);
  };
  auto* base = static_cast<std::byte*>(memory_->data());
  TR_TRY(status_of(copy(base, key_block()), "copying a cache block"));
  return status_of(copy(base + layers * blocks * key_block(), value_block()),
                   "copying a cache block");
}

}  // namespace troupe::cuda
