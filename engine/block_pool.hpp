// BlockPool: the blocks of one cache group. A block is free, held (by one or more owners), or
// cached: held by nobody, but its content has a name and may be asked for again until somebody
// needs the room; the one unused for longest goes first.
//
// All memory is taken when the pool is made: nothing here allocates afterwards.
//
//   INV-CACHE-1  free + cached + held blocks are all blocks, and each is one of the three
//   INV-CACHE-2  a key names at most one block, and a named block knows its key
//   INV-CACHE-3  only blocks that nobody holds are given out or forgotten
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.hpp"
#include "engine/block_key.hpp"

namespace troupe::engine {

class BlockPool {
 public:
  static constexpr int32_t kNone = -1;

  explicit BlockPool(int32_t blocks);

  // A block with one owner and no name; kNone when all are held.
  int32_t allocate();
  void retain(int32_t block);
  // One owner less. The last one leaves a named block cached, another free.
  void release(int32_t block);

  // The block of this name, held or cached; kNone. Finding does not retain.
  [[nodiscard]] int32_t find(const BlockKey& key) const;
  // find() is coming, for this name and then for others: what it will look at is on its way, once its
  // place is (near).
  void fetch_ahead(const BlockKey& far, const BlockKey& near) const {
    __builtin_prefetch(&names_[home(far)]);
    if (const int32_t block = names_[home(near)]; block != kNone) __builtin_prefetch(&own(block), 1);
  }
  // publish() is coming.
  void fetch_ahead(const BlockKey& key, int32_t block) const {
    __builtin_prefetch(&names_[home(key)], 1);
    __builtin_prefetch(&at(block), 1);
  }
  // Gives a held block its name. When another block has it already, this one stays nameless.
  void publish(int32_t block, const BlockKey& key);

  [[nodiscard]] int32_t size() const { return static_cast<int32_t>(blocks_.size()); }
  [[nodiscard]] int32_t available() const { return free_count_ + cached_count_; }
  [[nodiscard]] int32_t held() const { return size() - available(); }
  [[nodiscard]] int32_t cached() const { return cached_count_; }
  [[nodiscard]] int32_t owners(int32_t block) const { return at(block).owners; }
  [[nodiscard]] bool named(int32_t block) const { return at(block).named; }

  // Everything is free and nameless again: the device lost its memory. Nobody may hold a block.
  void forget_all();
  [[nodiscard]] Status check_integrity() const;

 private:
  struct Block {
    BlockKey key;
    int32_t owners = 0;
    int32_t newer = kNone, older = kNone;  // neighbours among the cached, or `older` among the free
    bool named = false;
  };

  [[nodiscard]] const Block& at(int32_t block) const;
  Block& at(int32_t block);
  // One that the pool itself has written down.
  [[nodiscard]] const Block& own(int32_t block) const { return blocks_[static_cast<size_t>(block)]; }
  Block& own(int32_t block) { return blocks_[static_cast<size_t>(block)]; }
  void link_newest(int32_t block);
  void unlink(int32_t block);
  [[nodiscard]] size_t home(const BlockKey& key) const { return key.low & mask_; }
  [[nodiscard]] size_t find_place(const BlockKey& key) const;
  void erase_name(int32_t block);

  std::vector<Block> blocks_;
  std::vector<int32_t> names_;  // open addressing, twice the blocks at least; kNone: empty
  size_t mask_ = 0;
  int32_t free_head_ = kNone;
  int32_t newest_ = kNone, oldest_ = kNone;
  int32_t free_count_ = 0, cached_count_ = 0;
};

}  // namespace troupe::engine
