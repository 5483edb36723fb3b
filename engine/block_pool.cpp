#include "engine/block_pool.hpp"

#include <bit>
#include <string>

namespace troupe::engine {

BlockPool::BlockPool(int32_t blocks) {
  TR_ASSERT(blocks >= 0);
  blocks_.resize(static_cast<size_t>(blocks));
  names_.assign(std::bit_ceil(2 * static_cast<size_t>(blocks) + 2), kNone);
  mask_ = names_.size() - 1;
  forget_all();
}

void BlockPool::forget_all() {
  for (const Block& b : blocks_) TR_ASSERT(b.owners == 0);  // INV-CACHE-3
  names_.assign(names_.size(), kNone);
  newest_ = oldest_ = kNone;
  cached_count_ = 0;
  free_head_ = kNone;
  for (int32_t i = size() - 1; i >= 0; --i) {
    at(i) = Block{};
    at(i).older = free_head_;
    free_head_ = i;
  }
  free_count_ = size();
}

const BlockPool::Block& BlockPool::at(int32_t block) const {
  TR_ASSERT(block >= 0 && block < size());
  return blocks_[static_cast<size_t>(block)];
}
BlockPool::Block& BlockPool::at(int32_t block) {
  TR_ASSERT(block >= 0 && block < size());
  return blocks_[static_cast<size_t>(block)];
}

int32_t BlockPool::allocate() {
  int32_t block = free_head_;
  if (block != kNone) {
    free_head_ = at(block).older;
    at(block).older = kNone;
    --free_count_;
  } else if (oldest_ != kNone) {
    block = oldest_;
    unlink(block);
    erase_name(block);
  } else {
    return kNone;
  }
  TR_ASSERT(at(block).owners == 0);  // INV-CACHE-3
  at(block).owners = 1;
  return block;
}

void BlockPool::retain(int32_t block) {
  Block& b = at(block);
  if (b.owners == 0) {
    TR_ASSERT(b.named);  // a free block has nothing worth retaining
    unlink(block);
  }
  ++b.owners;
}

void BlockPool::release(int32_t block) {
  Block& b = at(block);
  TR_ASSERT(b.owners > 0);
  if (--b.owners > 0) return;
  if (b.named) {
    link_newest(block);
  } else {
    b.older = free_head_;
    free_head_ = block;
    ++free_count_;
  }
}

int32_t BlockPool::find(const BlockKey& key) const { return names_[find_place(key)]; }

void BlockPool::publish(int32_t block, const BlockKey& key) {
  Block& b = at(block);
  TR_ASSERT(b.owners > 0 && !b.named);
  const size_t place = find_place(key);
  if (names_[place] != kNone) return;  // INV-CACHE-2: the first one keeps the name
  names_[place] = block;
  b.key = key;
  b.named = true;
}

// Where the key is, or the empty place where it would go.
size_t BlockPool::find_place(const BlockKey& key) const {
  size_t i = home(key);
  while (names_[i] != kNone && !(own(names_[i]).key == key)) i = (i + 1) & mask_;
  return i;
}

// Linear probing without tombstones: what follows the gap moves up unless that would put it before
// its home.
void BlockPool::erase_name(int32_t block) {
  Block& b = at(block);
  size_t gap = find_place(b.key);
  TR_ASSERT(names_[gap] == block);
  for (size_t i = (gap + 1) & mask_; names_[i] != kNone; i = (i + 1) & mask_) {
    const size_t wanted = home(at(names_[i]).key);
    if (((i - wanted) & mask_) >= ((i - gap) & mask_)) {
      names_[gap] = names_[i];
      gap = i;
    }
  }
  names_[gap] = kNone;
  b.named = false;
}

void BlockPool::link_newest(int32_t block) {
  Block& b = own(block);
  b.older = newest_;
  b.newer = kNone;
  if (newest_ != kNone) own(newest_).newer = block;
  newest_ = block;
  if (oldest_ == kNone) oldest_ = block;
  ++cached_count_;
}

void BlockPool::unlink(int32_t block) {
  Block& b = own(block);
  (b.newer != kNone ? own(b.newer).older : newest_) = b.older;
  (b.older != kNone ? own(b.older).newer : oldest_) = b.newer;
  b.newer = b.older = kNone;
  --cached_count_;
}

Status BlockPool::check_integrity() const {
  const auto broken = [](const char* id, const std::string& what) {
    return internal_error(std::string(id) + ": " + what);
  };
  std::vector<uint8_t> seen(blocks_.size(), 0);
  int32_t free_blocks = 0, cached_blocks = 0, held_blocks = 0, names = 0;
  for (int32_t b = free_head_; b != kNone; b = at(b).older) {
    if (seen[static_cast<size_t>(b)]++ != 0 || at(b).owners != 0 || at(b).named) {
      return broken("INV-CACHE-1", "free block " + std::to_string(b));
    }
    ++free_blocks;
  }
  int32_t newer = kNone;
  for (int32_t b = newest_; b != kNone; newer = b, b = at(b).older) {
    if (seen[static_cast<size_t>(b)]++ != 0 || at(b).owners != 0 || !at(b).named ||
        at(b).newer != newer) {
      return broken("INV-CACHE-1", "cached block " + std::to_string(b));
    }
    ++cached_blocks;
  }
  for (int32_t b = 0; b < size(); ++b) {
    if (at(b).owners < 0 || (at(b).owners > 0) == (seen[static_cast<size_t>(b)] != 0)) {
      return broken("INV-CACHE-1", "block " + std::to_string(b) + " is in no state or in two");
    }
    if (at(b).owners > 0) ++held_blocks;
    if (at(b).named && find(at(b).key) != b) {
      return broken("INV-CACHE-2", "block " + std::to_string(b) + " is not found by its key");
    }
    names += at(b).named ? 1 : 0;
  }
  for (const int32_t b : names_) names -= b != kNone ? 1 : 0;
  if (names != 0) return broken("INV-CACHE-2", "names without blocks");
  if (oldest_ != newer || free_blocks != free_count_ || cached_blocks != cached_count_ ||
      free_blocks + cached_blocks + held_blocks != size()) {
    return broken("INV-CACHE-1", "counts disagree");
  }
  return ok_status();
}

}  // namespace troupe::engine
