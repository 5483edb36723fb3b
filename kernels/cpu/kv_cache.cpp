#include "kernels/cpu/kv_cache.hpp"

#include <cstring>
#include <string>

#include "kernels/cpu/host_memory.hpp"

namespace troupe::cpu {
namespace {

Status check(const KvCacheSpec& s) {
  if (s.dtype != DType::f32 && s.dtype != DType::f16 && s.dtype != DType::bf16) {
    return unsupported(std::string("KV cache dtype ") + dtype_name(s.dtype) +
                       " on a CPU: choose f32, f16 or bf16");
  }
  const int32_t value_dim = s.values_in_keys ? 1 : s.value_dim;
  if (s.layers < 1 || s.kv_heads < 1 || s.key_dim < 1 || value_dim < 1 || s.block_tokens < 1 ||
      s.blocks < 0) {
    return invalid("KV cache: layers, heads, dimensions and block_tokens must be positive");
  }
  if (s.values_in_keys && s.value_dim > s.key_dim) {
    return invalid("KV cache: value_dim " + std::to_string(s.value_dim) +
                   " does not fit into keys of " + std::to_string(s.key_dim));
  }
  return ok_status();
}

// Up to this size a cache takes its memory at once: that costs some ten milliseconds, and the process
// then stays as large as it is at first, however many prompts pass through. A larger one takes it as
// prompts come; zeroing gigabytes would delay the first token.
constexpr size_t kTakenAtOnce = size_t{256} << 20;

void take(volatile std::byte* memory, size_t bytes) {
  constexpr size_t kPage = 4096;
  for (size_t at = 0; at < bytes; at += kPage) memory[at] = std::byte{0};
}

size_t layer_block_bytes(const KvCacheSpec& s) {
  const auto dims = static_cast<size_t>(s.key_dim) +
                    (s.values_in_keys ? 0 : static_cast<size_t>(s.value_dim));
  return dims * static_cast<size_t>(s.kv_heads) * static_cast<size_t>(s.block_tokens) *
         dtype_bytes(s.dtype);
}

}  // namespace

size_t HostKvCache::block_bytes(const KvCacheSpec& spec) {
  return layer_block_bytes(spec) * static_cast<size_t>(spec.layers);
}

Result<std::unique_ptr<KvCache>> HostKvCache::create(const KvCacheSpec& spec) {
  TR_TRY(check(spec));
  constexpr size_t kReadPast = 4096;  // attention reads whole vectors, beyond the last block too
  const size_t bytes = block_bytes(spec) * static_cast<size_t>(spec.blocks);
  TR_ASSIGN(auto memory, allocate_host(bytes + kReadPast, "KV cache"));
  if (bytes <= kTakenAtOnce) take(static_cast<std::byte*>(memory->data()), bytes);
  return std::unique_ptr<KvCache>(new HostKvCache(spec, std::move(memory)));
}

HostKvCache::HostKvCache(const KvCacheSpec& spec, std::unique_ptr<DeviceBuffer> memory)
    : spec_(spec), memory_(std::move(memory)), base_(static_cast<std::byte*>(memory_->data())) {
  const auto element = static_cast<int64_t>(dtype_bytes(spec.dtype));
  key_head_bytes_ = int64_t{spec.key_dim} * spec.block_tokens * element;
  value_head_bytes_ = int64_t{spec.value_dim} * spec.block_tokens * element;
  value_offset_ = key_head_bytes_ * spec.kv_heads;
  layer_block_bytes_ = static_cast<int64_t>(layer_block_bytes(spec));
}

void HostKvCache::copy_block(int32_t from, int32_t to) const {
  for (int32_t layer = 0; layer < spec_.layers; ++layer) {
    std::memcpy(block_begin(layer, to), block_begin(layer, from),
                static_cast<size_t>(layer_block_bytes_));
  }
}

}  // namespace troupe::cpu
