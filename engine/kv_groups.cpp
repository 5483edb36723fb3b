#include "engine/kv_groups.hpp"

#include <algorithm>
#include <limits>
#include <string>

namespace troupe::engine {
namespace {

using models::CacheGroup;
using models::CacheKind;

int32_t blocks_for(int32_t tokens, int32_t block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

}  // namespace

KvGroups::KvGroups(std::vector<CacheGroup> groups, int32_t block_tokens)
    : specs_(std::move(groups)), block_tokens_(block_tokens) {
  TR_ASSERT(block_tokens > 0 && block_tokens <= kBlockTokensMax);
  pools_.reserve(specs_.size());
  for (const CacheGroup& g : specs_) {
    TR_ASSERT(g.kind != CacheKind::window || g.window > 0);
    pools_.emplace_back(g.cache.blocks);
    slides_ |= g.kind == CacheKind::window;
    phases_.push_back(g.kind == CacheKind::window ? (g.window - 1) % block_tokens : 0);
  }
  phases_.push_back(0);
  std::sort(phases_.begin(), phases_.end());
  phases_.erase(std::unique(phases_.begin(), phases_.end()), phases_.end());
}

// The block with the first position that a row at `position` sees.
int32_t KvGroups::first_seen(const CacheGroup& spec, int32_t position) const {
  if (spec.kind != CacheKind::window) return 0;
  return std::max(0, position - spec.window + 1) / block_tokens_;
}

int32_t KvGroups::match(std::span<const BlockKey> keys, int32_t limit) const {
  int32_t length = std::min(limit, static_cast<int32_t>(keys.size()));
  const auto has = [&](size_t g, int32_t block) {
    return pools_[g].find(keys[static_cast<size_t>(block)]) != BlockPool::kNone;
  };
  for (size_t g = 0; g < specs_.size(); ++g) {
    if (specs_[g].kind == CacheKind::window || specs_[g].kind == CacheKind::fixed) continue;
    int32_t n = 0;
    for (; n < length && has(g, n); ++n) fetch_ahead(g, keys, n);
    length = n;
  }
  // A missing block of a window group rules out every length whose window reaches it.
  for (bool changed = true; changed && length > 0;) {
    changed = false;
    for (size_t g = 0; g < specs_.size(); ++g) {
      if (specs_[g].kind != CacheKind::window) continue;
      const int32_t from = first_seen(specs_[g], length * block_tokens_);
      for (int32_t b = length - 1; b >= from; --b) {
        if (has(g, b)) continue;
        length = b;
        changed = true;
        break;
      }
    }
  }
  return length;
}

void KvGroups::attach(KvTables& tables, std::span<const BlockKey> keys, int32_t blocks) {
  TR_ASSERT(tables.groups.empty());
  tables.groups.resize(specs_.size());
  tables.published = blocks;
  for (size_t g = 0; g < specs_.size(); ++g) {
    if (specs_[g].kind == CacheKind::fixed) continue;
    KvTable& table = tables.groups[g];
    table.first = std::min(blocks, first_seen(specs_[g], blocks * block_tokens_));
    table.blocks.assign(static_cast<size_t>(blocks), BlockPool::kNone);
    for (int32_t b = table.first; b < blocks; ++b) {
      fetch_ahead(g, keys, b);
      const int32_t block = pools_[g].find(keys[static_cast<size_t>(b)]);
      TR_ASSERT(block != BlockPool::kNone);
      pools_[g].retain(block);
      table.blocks[static_cast<size_t>(b)] = block;
    }
  }
}

bool KvGroups::attach_longest(KvTables& tables, std::span<const BlockKey> keys, int32_t limit, int32_t most) {
  const bool one = specs_.size() == 1 &&
                   (specs_[0].kind == CacheKind::whole || specs_[0].kind == CacheKind::latent);
  if (!one) {
    const int32_t blocks = match(keys, limit);
    if (blocks > 0) attach(tables, keys, blocks);
    return true;
  }
  // As most models are: no other group has a say, so each block is looked up once.
  const int32_t length = std::min(limit, static_cast<int32_t>(keys.size()));
  const int32_t stop = std::min(length, tables.published + most);
  int32_t& n = tables.published;
  for (; n < stop; ++n) {
    fetch_ahead(0, keys, n);
    const int32_t block = pools_[0].find(keys[static_cast<size_t>(n)]);
    if (block == BlockPool::kNone) return true;
    if (n == 0) {
      tables.groups.resize(1);
      tables.groups[0].blocks.reserve(static_cast<size_t>(length) + 1);
    }
    pools_[0].retain(block);
    tables.groups[0].blocks.push_back(block);
  }
  return n == length;
}

void KvGroups::fetch_ahead(size_t group, std::span<const BlockKey> keys, int32_t at) const {
  constexpr size_t kFar = 16, kNear = 8;
  const auto next = static_cast<size_t>(at);
  if (next + kFar < keys.size()) pools_[group].fetch_ahead(keys[next + kFar], keys[next + kNear]);
}

void KvGroups::fetch_ahead(const KvTables& tables) const {
  for (const KvTable& table : tables.groups) __builtin_prefetch(table.blocks.data() + table.blocks.size(), 1);
}

void KvGroups::fetch_ahead(const KvTables& tables, std::span<const BlockKey> keys) const {
  for (size_t g = 0; g < tables.groups.size(); ++g) {
    const std::vector<int32_t>& blocks = tables.groups[g].blocks;
    const size_t known = std::min(keys.size(), blocks.size());
    for (auto b = static_cast<size_t>(tables.published); b < known; ++b) {
      if (blocks[b] != BlockPool::kNone) pools_[g].fetch_ahead(keys[b], blocks[b]);
    }
  }
}

bool KvGroups::must_copy(size_t group, const KvTable& table, int32_t begin) const {
  if (specs_[group].kind == CacheKind::fixed) return false;
  const auto index = static_cast<size_t>(begin / block_tokens_);
  if (index >= table.blocks.size()) return false;
  const int32_t block = table.blocks[index];
  TR_ASSERT(block != BlockPool::kNone);
  return pools_[group].owners(block) > 1 || pools_[group].named(block);
}

// Blocks to be taken for [begin, end), less those that sliding the window gives back.
int32_t KvGroups::needed(size_t group, const KvTable& table, int32_t begin, int32_t end) const {
  const CacheGroup& spec = specs_[group];
  if (spec.kind == CacheKind::fixed) {
    return table.blocks.empty() ? blocks_for(spec.fixed_rows, block_tokens_) : 0;
  }
  const auto have = static_cast<int32_t>(table.blocks.size());
  const int32_t from = std::max(have, first_seen(spec, begin));
  return std::max(0, blocks_for(end, block_tokens_) - from) + (must_copy(group, table, begin) ? 1 : 0);
}

bool KvGroups::fits(const KvTables& tables, int32_t begin, int32_t end, int32_t spare) const {
  static const KvTable kEmpty;
  for (size_t g = 0; g < specs_.size(); ++g) {
    const KvTable& table = tables.groups.empty() ? kEmpty : tables.groups[g];
    // A window group needs the window and a chunk at most, however long the prompt is.
    const int32_t first =
        specs_[g].kind == CacheKind::window ? std::max(begin, end - specs_[g].window + 1) : begin;
    const int32_t want = first > begin ? needed(g, kEmpty, first, end) : needed(g, table, begin, end);
    if (want + spare > pools_[g].available()) return false;
  }
  return true;
}

bool KvGroups::slide(size_t group, KvTable& table, int32_t begin) {
  const int32_t keep = std::min(first_seen(specs_[group], begin),
                                static_cast<int32_t>(table.blocks.size()));
  if (table.first >= keep) return false;
  for (; table.first < keep; ++table.first) {
    int32_t& block = table.blocks[static_cast<size_t>(table.first)];
    pools_[group].release(block);
    block = BlockPool::kNone;
  }
  return true;
}

bool KvGroups::take(KvTables& tables, int32_t begin, int32_t end, std::vector<PlanCopy>& copies) {
  TR_ASSERT(begin >= 0 && begin < end);
  if (tables.groups.empty()) tables.groups.resize(specs_.size());
  for (size_t g = 0; g < specs_.size(); ++g) {
    if (slide(g, tables.groups[g], begin)) tables.all_told = false;
  }
  if (end <= tables.writable) return true;
  for (size_t g = 0; g < specs_.size(); ++g) {
    if (needed(g, tables.groups[g], begin, end) > pools_[g].available()) return false;
  }
  tables.all_told = false;
  for (size_t g = 0; g < specs_.size(); ++g) {
    KvTable& table = tables.groups[g];
    if (must_copy(g, table, begin)) {
      table.told = std::min(table.told, begin / block_tokens_);
      int32_t& block = table.blocks[static_cast<size_t>(begin / block_tokens_)];
      const int32_t fresh = pools_[g].allocate();
      copies.push_back({static_cast<int32_t>(g), block, fresh});
      copy_sources_.push_back({g, block});
      block = fresh;
    }
    const int32_t want = specs_[g].kind == CacheKind::fixed
                             ? blocks_for(specs_[g].fixed_rows, block_tokens_)
                             : blocks_for(end, block_tokens_);
    for (auto b = static_cast<int32_t>(table.blocks.size()); b < want; ++b) {
      table.blocks.push_back(pools_[g].allocate());
      TR_ASSERT(table.blocks.back() != BlockPool::kNone);
    }
  }
  tables.writable = blocks_for(end, block_tokens_) * block_tokens_;
  return true;
}

void KvGroups::reserve(KvTables& tables, int32_t tokens) const {
  if (tables.groups.empty()) tables.groups.resize(specs_.size());
  for (KvTable& table : tables.groups) {
    table.blocks.reserve(static_cast<size_t>(blocks_for(tokens, block_tokens_)));
  }
}

void KvGroups::publish(KvTables& tables, std::span<const BlockKey> keys, int32_t tokens) {
  const int32_t full = std::min(tokens / block_tokens_, static_cast<int32_t>(keys.size()));
  for (; tables.published < full; ++tables.published) {
    const auto b = static_cast<size_t>(tables.published);
    for (size_t g = 0; g < specs_.size(); ++g) {
      if (specs_[g].kind == CacheKind::fixed) continue;
      const int32_t block = tables.groups[g].blocks[b];
      if (block != BlockPool::kNone && !pools_[g].named(block)) pools_[g].publish(block, keys[b]);
    }
  }
}

void KvGroups::fork(KvTables& from, KvTables& to) {
  TR_ASSERT(to.groups.empty());
  from.writable = 0;
  to = from;
  to.all_told = false;
  for (size_t g = 0; g < to.groups.size(); ++g) {
    KvTable& table = to.groups[g];
    table.told = 0;
    for (auto b = static_cast<size_t>(table.first); b < table.blocks.size(); ++b) {
      pools_[g].retain(table.blocks[b]);
    }
  }
}

void KvGroups::truncate(KvTables& tables, int32_t tokens) {
  const int32_t keep = blocks_for(tokens, block_tokens_);
  tables.published = std::min(tables.published, tokens / block_tokens_);
  tables.writable = 0;
  tables.all_told = false;
  for (size_t g = 0; g < tables.groups.size(); ++g) {
    if (specs_[g].kind == CacheKind::fixed) continue;
    KvTable& table = tables.groups[g];
    table.told = std::min(table.told, keep);
    while (static_cast<int32_t>(table.blocks.size()) > keep) {
      if (table.blocks.back() != BlockPool::kNone) pools_[g].release(table.blocks.back());
      table.blocks.pop_back();
    }
    table.first = std::min(table.first, keep);
  }
}

// The tail goes first, so that it is forgotten before the head that others may share.
void KvGroups::release(KvTables& tables) {
  for (size_t g = 0; g < tables.groups.size(); ++g) {
    KvTable& table = tables.groups[g];
    for (size_t b = table.blocks.size(); b-- > 0;) {
      if (table.blocks[b] != BlockPool::kNone) pools_[g].release(table.blocks[b]);
    }
  }
  tables.groups.clear();
  tables.published = tables.writable = 0;
  tables.all_told = false;
}

void KvGroups::end_step() {
  for (const Held& h : copy_sources_) pools_[h.group].release(h.block);
  copy_sources_.clear();
}

void KvGroups::forget_all() {
  end_step();
  for (BlockPool& pool : pools_) pool.forget_all();
}

int64_t KvGroups::blocks_total() const {
  int64_t n = 0;
  for (const BlockPool& p : pools_) n += p.size();
  return n;
}

int64_t KvGroups::blocks_held() const {
  int64_t n = 0;
  for (const BlockPool& p : pools_) n += p.held();
  return n;
}

int64_t KvGroups::blocks_in(const KvTables& tables) const {
  int64_t n = 0;
  for (const KvTable& t : tables.groups) n += static_cast<int64_t>(t.blocks.size()) - t.first;
  return n;
}

int32_t KvGroups::capacity_tokens(int32_t chunk) const {
  int64_t tokens = std::numeric_limits<int32_t>::max();
  for (size_t g = 0; g < specs_.size(); ++g) {
    const int64_t rows = int64_t{pools_[g].size()} * block_tokens_;
    switch (specs_[g].kind) {
      case CacheKind::whole:
      case CacheKind::latent: tokens = std::min(tokens, rows); break;
      case CacheKind::window:
        // Enough for the window, a chunk and two torn blocks: any length. Else what there is.
        if (rows < int64_t{specs_[g].window} + chunk + 2 * block_tokens_) {
          tokens = std::min(tokens, rows);
        }
        break;
      case CacheKind::fixed:
        if (rows < specs_[g].fixed_rows) tokens = 0;
        break;
    }
  }
  return static_cast<int32_t>(tokens);
}

Status KvGroups::check_integrity(std::span<const KvTables* const> holders) const {
  for (size_t g = 0; g < pools_.size(); ++g) {
    TR_TRY(pools_[g].check_integrity());
    std::vector<int32_t> owners(static_cast<size_t>(pools_[g].size()), 0);
    for (const KvTables* tables : holders) {
      if (tables->groups.empty()) continue;
      const KvTable& table = tables->groups[g];
      for (size_t b = 0; b < table.blocks.size(); ++b) {
        const bool gone = static_cast<int32_t>(b) < table.first;
        if (gone != (table.blocks[b] == BlockPool::kNone)) {
          return internal_error("INV-CACHE-4: a table has a hole");
        }
        if (!gone) ++owners[static_cast<size_t>(table.blocks[b])];
      }
    }
    for (const Held& h : copy_sources_) owners[static_cast<size_t>(h.block)] += h.group == g ? 1 : 0;
    for (int32_t b = 0; b < pools_[g].size(); ++b) {
      if (owners[static_cast<size_t>(b)] != pools_[g].owners(b)) {
        return internal_error("INV-CACHE-1: group " + std::to_string(g) + " block " +
                              std::to_string(b) + " has " + std::to_string(pools_[g].owners(b)) +
                              " owners on its books and " +
                              std::to_string(owners[static_cast<size_t>(b)]) + " in fact");
      }
    }
  }
  return ok_status();
}

}  // namespace troupe::engine
