// The cache against naive maps: random operations, integrity after each.
#include "engine/kv_groups.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace troupe::engine {
namespace {

using models::CacheGroup;
using models::CacheKind;

CacheGroup group(CacheKind kind, int32_t blocks, int32_t window = 0, int32_t fixed_rows = 0) {
  CacheGroup g;
  g.kind = kind;
  g.window = window;
  g.fixed_rows = fixed_rows;
  g.cache.blocks = blocks;
  return g;
}

std::vector<BlockKey> chain(uint64_t family, int32_t blocks) {
  std::vector<BlockKey> keys;
  BlockKey parent = root_key({.model = family});
  for (int32_t b = 0; b < blocks; ++b) {
    const int32_t tokens[2] = {static_cast<int32_t>(family), b};
    keys.push_back(parent = chain_key(parent, block_content(tokens)));
  }
  return keys;
}

TEST(BlockKey, EverythingThatMattersChangesIt) {
  const std::vector<int32_t> a = {1, 2, 3, 4}, b = {1, 2, 3, 5}, odd = {1, 2, 3};
  const std::vector<uint64_t> mark = {7, 8};
  const BlockKey root = root_key({});
  EXPECT_EQ(chain_key(root, block_content(a)), chain_key(root, block_content(a)));
  EXPECT_NE(block_content(a), block_content(b));
  EXPECT_NE(block_content(a), block_content(odd));
  EXPECT_NE(block_content(a), block_content(a, mark));
  EXPECT_NE(chain_key(root, block_content(a)), chain_key(root, block_content(b)));
  EXPECT_NE(chain_key(root, block_content(a)),
            chain_key(chain_key(root, block_content(b)), block_content(a)));
  EXPECT_NE(root_key({.tenant = 1}), root_key({.model = 1}));
  EXPECT_NE(root_key({.rope_regime = 1}), root);
  EXPECT_NE(root_key({.adapter = 0}), root);
}

// The oldest of the cached goes first, and what is asked for again is not forgotten.
TEST(BlockPool, ForgetsTheLeastRecentlyUsed) {
  BlockPool pool(3);
  const auto keys = chain(1, 3);
  for (int32_t i = 0; i < 3; ++i) {
    const int32_t block = pool.allocate();
    pool.publish(block, keys[static_cast<size_t>(i)]);
    pool.release(block);
  }
  const int32_t first = pool.find(keys[0]);
  pool.retain(first);
  pool.release(first);
  EXPECT_NE(pool.allocate(), BlockPool::kNone);
  EXPECT_EQ(pool.find(keys[1]), BlockPool::kNone);
  EXPECT_EQ(pool.find(keys[0]), first);
  EXPECT_EQ(pool.available(), 2);
  EXPECT_TRUE(pool.check_integrity().ok());
}

TEST(BlockPool, AgainstANaiveMap) {
  std::mt19937 random(3);
  BlockPool pool(24);
  std::map<int32_t, int32_t> owners;          // of held blocks
  std::map<uint64_t, int32_t> named;          // family -> block, as last published
  const auto pick = [&](auto& m) { return std::next(m.begin(), static_cast<ptrdiff_t>(random() % m.size())); };
  for (int32_t step = 0; step < 20000; ++step) {
    switch (random() % 4) {
      case 0: {
        const int32_t block = pool.allocate();
        ASSERT_EQ(block == BlockPool::kNone, owners.size() == 24);
        if (block == BlockPool::kNone) break;
        ASSERT_FALSE(owners.contains(block));
        owners[block] = 1;
        std::erase_if(named, [&](const auto& n) { return n.second == block; });
        break;
      }
      case 1:
        if (owners.empty()) break;
        if (auto it = pick(owners); pool.release(it->first), --it->second == 0) owners.erase(it);
        break;
      case 2: {
        if (owners.empty()) break;
        const int32_t block = pick(owners)->first;
        const uint64_t family = random() % 40;
        if (pool.named(block)) break;
        pool.publish(block, chain(family, 1)[0]);
        named.try_emplace(family, block);
        break;
      }
      default: {
        if (named.empty()) break;
        const auto [family, block] = *pick(named);
        ASSERT_EQ(pool.find(chain(family, 1)[0]), block);
        pool.retain(block);
        ++owners[block];
      }
    }
    ASSERT_EQ(pool.held(), static_cast<int32_t>(owners.size()));
    const Status sound = pool.check_integrity();
    ASSERT_TRUE(sound.ok()) << sound.message() << " at step " << step;
  }
}

TEST(KvGroups, AWindowNeedsOnlyWhatTheNextTokenSees) {
  // Window 8, blocks of 4: after 24 tokens the next one sees positions 17 .. 24.
  KvGroups kv({group(CacheKind::whole, 32), group(CacheKind::window, 8, 8)}, 4);
  const auto keys = chain(5, 6);
  KvTables tables;
  std::vector<PlanCopy> copies;
  for (int32_t begin = 0; begin < 24; begin += 4) {
    ASSERT_TRUE(kv.write(tables, begin, begin + 4, copies));
    kv.publish(tables, keys, begin + 4);
  }
  EXPECT_LE(kv.pool(1).held(), 3);
  kv.release(tables);
  EXPECT_EQ(kv.match(keys, 6), 6);
  KvTables again;
  kv.attach(again, keys, 6);
  EXPECT_EQ(again.groups[0].first, 0);
  EXPECT_EQ(again.groups[1].first, 4);  // position 17 lies in block 4
  kv.release(again);
  // Somebody takes the window group's room: the whole group's blocks alone are no prefix.
  KvTables other;
  ASSERT_TRUE(kv.write(other, 0, 32, copies));
  EXPECT_EQ(kv.match(keys, 6), 0);
  kv.release(other);
  EXPECT_EQ(kv.blocks_held(), 0);
  EXPECT_TRUE(copies.empty());
}

TEST(KvGroups, ForksShareAndCopyOnWrite) {
  KvGroups kv({group(CacheKind::whole, 16)}, 4);
  KvTables parent, child;
  std::vector<PlanCopy> copies;
  ASSERT_TRUE(kv.write(parent, 0, 6, copies));
  kv.fork(parent, child);
  EXPECT_EQ(kv.blocks_held(), 2);
  ASSERT_TRUE(kv.write(child, 6, 7, copies));
  ASSERT_EQ(copies.size(), 1U);
  EXPECT_EQ(copies[0].from, parent.groups[0].blocks[1]);
  EXPECT_EQ(copies[0].to, child.groups[0].blocks[1]);
  // INV-CACHE-6: within the step the source is nobody's to take, even when its last owner goes.
  kv.release(parent);
  EXPECT_EQ(kv.blocks_held(), 3);
  kv.end_step();
  EXPECT_EQ(kv.blocks_held(), 2);
  ASSERT_TRUE(kv.write(child, 7, 8, copies));
  EXPECT_EQ(copies.size(), 1U) << "alone with its block, it writes in place";
  kv.release(child);
}

TEST(KvGroups, AFullCacheGivesNothingAndTakesNothing) {
  KvGroups kv({group(CacheKind::whole, 4), group(CacheKind::fixed, 4, 0, 8)}, 4);
  KvTables a, b;
  std::vector<PlanCopy> copies;
  ASSERT_TRUE(kv.write(a, 0, 12, copies));
  EXPECT_EQ(kv.pool(1).held(), 2);
  EXPECT_FALSE(kv.write(b, 0, 8, copies));
  EXPECT_EQ(kv.pool(0).held(), 3);
  EXPECT_FALSE(kv.fits(b, 0, 8, 0));
  EXPECT_TRUE(kv.fits(b, 0, 4, 0));
  EXPECT_FALSE(kv.fits(b, 0, 4, 1));
  kv.release(a);
  kv.release(b);
  EXPECT_EQ(kv.capacity_tokens(4), 16);
}

// Random sequences grow, fork, shrink and go; a naive map says what each position must hold.
TEST(KvGroups, AgainstANaiveMap) {
  std::mt19937 random(11);
  KvGroups kv({group(CacheKind::whole, 60), group(CacheKind::window, 50, 10)}, 4);
  struct Owned {
    KvTables tables;
    std::vector<uint64_t> content;  // of every position
  };
  std::map<int32_t, Owned> live;
  std::map<std::pair<int32_t, int32_t>, std::vector<uint64_t>> memory;  // group, block -> cells
  uint64_t next_content = 1;
  std::vector<PlanCopy> copies;
  for (int32_t step = 0; step < 6000; ++step) {
    const int32_t id = static_cast<int32_t>(random() % 6);
    Owned& s = live[id];
    copies.clear();
    const auto begin = static_cast<int32_t>(s.content.size());
    const auto what = random() % 10;
    if (what < 7) {
      const int32_t end = begin + 1 + static_cast<int32_t>(random() % 6);
      if (kv.write(s.tables, begin, end, copies)) {
        for (const PlanCopy& c : copies) memory[{c.group, c.to}] = memory[{c.group, c.from}];
        for (int32_t p = begin; p < end; ++p) {
          s.content.push_back(next_content++);
          for (int32_t g = 0; g < 2; ++g) {
            auto& cells = memory[{g, s.tables.groups[static_cast<size_t>(g)].blocks[static_cast<size_t>(p / 4)]}];
            cells.resize(4);
            cells[static_cast<size_t>(p % 4)] = s.content.back();
          }
        }
      }
    } else if (what == 7) {
      const int32_t to = static_cast<int32_t>(random() % 6);
      if (to != id && live[to].tables.groups.empty()) {
        live[to].content = s.content;
        kv.fork(s.tables, live[to].tables);
      }
    } else {
      kv.release(s.tables);
      s.content.clear();
    }
    kv.end_step();
    for (const auto& [owner, o] : live) {
      const auto length = static_cast<int32_t>(o.content.size());
      for (int32_t g = 0; g < 2 && length > 0; ++g) {
        // What the last write's first row could see, at least: the next row sees no further back.
        const int32_t from = g == 0 ? 0 : std::max(0, length - 9);
        for (int32_t p = from; p < length; ++p) {
          const int32_t block = o.tables.groups[static_cast<size_t>(g)].blocks[static_cast<size_t>(p / 4)];
          ASSERT_NE(block, BlockPool::kNone);
          ASSERT_EQ((memory[{g, block}][static_cast<size_t>(p % 4)]), o.content[static_cast<size_t>(p)]);
        }
      }
    }
    std::vector<const KvTables*> holders;
    for (const auto& [owner, o] : live) holders.push_back(&o.tables);
    const Status sound = kv.check_integrity(holders);
    ASSERT_TRUE(sound.ok()) << sound.message() << " at step " << step;
  }
}

}  // namespace
}  // namespace troupe::engine
