// The name of a full KV block: what it holds follows from its key alone. A key chains the parent
// block's key with a hash of the block's own content: its tokens, and what of an image lies in it.
// The first parent (the root) folds in what the whole sequence depends on: adapter, KV type, tenant,
// rope regime. Contents can be hashed anywhere (a long prompt's in the tokenizer's pool); chaining is
// cheap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace troupe::engine {

struct BlockKey {
  uint64_t high = 0, low = 0;
  friend bool operator==(const BlockKey&, const BlockKey&) = default;
};

struct KeyRoot {
  uint64_t model = 0;        // weights, KV type, block size: the engine's own salt
  uint64_t tenant = 0;
  uint64_t rope_regime = 0;  // ModelFacts::rope_regime(prompt length)
  int32_t adapter = -1;
};
BlockKey root_key(const KeyRoot& root);
// Of any bytes, after what `seed` stands for: what names pictures.
BlockKey bytes_key(const BlockKey& seed, std::span<const std::byte> bytes);

// What a block holds, wherever it stands. `marks`: pairs of (offset of the row in the block, hash of
// the image and row in it), flat.
BlockKey block_content(std::span<const int32_t> tokens, std::span<const uint64_t> marks = {});
BlockKey chain_key(const BlockKey& parent, const BlockKey& content);

}  // namespace troupe::engine
