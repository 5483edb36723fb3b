// KvGroups: the cache of one replica, all its groups together, as sequences see it. A sequence owns
// KvTables; whatever it does to them goes through here and moves block owners accordingly.
//
// A step is: slide() away what the window has passed, then write(begin, end), which gives every
// position of the step a block that nobody else holds, copying a shared one first. Device work is
// in order, so a block given up while planning step n + 1 may be written by n + 1 or later even
// though step n, still in flight, reads it.
//
//   INV-CACHE-4  tables cover every position that the next rows can see, in every group
//   INV-CACHE-5  a block that a step writes has one owner and no name
//   INV-CACHE-6  the copies of one step are independent: no source is given away within the step
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.hpp"
#include "engine/block_key.hpp"
#include "engine/block_pool.hpp"
#include "kernels/batch.hpp"
#include "models/facts.hpp"

namespace troupe::engine {

inline constexpr int32_t kBlockTokensMax = 256;

struct KvTable {
  std::vector<int32_t> blocks;  // by block of the sequence; those before `first` are gone
  int32_t first = 0;
  int32_t told = 0;             // of `blocks`, so many are known to the executor's slot
};
// What a sequence (or a session) holds.
struct KvTables {
  std::vector<KvTable> groups;
  int32_t published = 0;   // full blocks that have had their names given
  int32_t writable = 0;    // from the last write's begin up to here, blocks are this one's alone
  bool all_told = false;   // nothing has changed since a plan told them
};

class KvGroups {
 public:
  KvGroups(std::vector<models::CacheGroup> groups, int32_t block_tokens);

  // How many leading blocks every group could give again: whole groups need all of them, a window
  // group only those that the next token still sees. At most `limit`.
  [[nodiscard]] int32_t match(std::span<const BlockKey> keys, int32_t limit) const;
  // Takes the first `blocks` of the chain into empty tables; match() has said that they are there.
  void attach(KvTables& tables, std::span<const BlockKey> keys, int32_t blocks);

  // Both at once: takes the longest prefix of at most `limit` blocks (KvTables::published), of a long one `most`
  // at a time. False: there may be more; the next call with the same tables goes on.
  bool attach_longest(KvTables& tables, std::span<const BlockKey> keys, int32_t limit, int32_t most);

  // Could positions up to `end` be given blocks, with `spare` blocks per group left over?
  [[nodiscard]] bool fits(const KvTables& tables, int32_t begin, int32_t end, int32_t spare) const;
  // Gives up what no row from position `begin` on can see, and makes [begin, end) writable.
  // False, and nothing but the window moved: there are not enough blocks.
  bool write(KvTables& tables, int32_t begin, int32_t end, std::vector<PlanCopy>& copies) {
    if (end <= tables.writable && !slides_) return true;  // as 15 of 16 steps of a sequence do
    return take(tables, begin, end, copies);
  }
  // Where in its block a sequence's next position stands when write() has something to do for it, once
  // all before is writable. Ascending, without repetition.
  [[nodiscard]] const std::vector<int32_t>& phases() const { return phases_; }
  // write() is coming, for the next block.
  void fetch_ahead(const KvTables& tables) const;
  // publish() is coming.
  void fetch_ahead(const KvTables& tables, std::span<const BlockKey> keys) const;
  // Makes room in the tables' own lists, so that growing to `tokens` asks the heap for nothing.
  void reserve(KvTables& tables, int32_t tokens) const;
  // Names the full blocks of [0, tokens) that have no name yet.
  void publish(KvTables& tables, std::span<const BlockKey> keys, int32_t tokens);
  // `to` becomes a second owner of everything that `from` holds.
  void fork(KvTables& from, KvTables& to);
  // Only the first `tokens` positions stay.
  void truncate(KvTables& tables, int32_t tokens);
  void release(KvTables& tables);
  // The step is planned: sources of its copies may be given away now.
  void end_step();
  // The device lost everything. All tables must have been released.
  void forget_all();

  [[nodiscard]] int32_t groups() const { return static_cast<int32_t>(specs_.size()); }
  [[nodiscard]] int32_t block_tokens() const { return block_tokens_; }
  [[nodiscard]] const BlockPool& pool(int32_t group) const {
    return pools_[static_cast<size_t>(group)];
  }
  [[nodiscard]] int64_t blocks_total() const;
  [[nodiscard]] int64_t blocks_held() const;
  [[nodiscard]] int64_t blocks_in(const KvTables& tables) const;
  // The longest sequence that fits when it is alone and written in chunks of `chunk`.
  [[nodiscard]] int32_t capacity_tokens(int32_t chunk) const;
  // `holders`: all tables that exist. Owners must add up.
  [[nodiscard]] Status check_integrity(std::span<const KvTables* const> holders) const;

 private:
  [[nodiscard]] int32_t first_seen(const models::CacheGroup& spec, int32_t position) const;
  [[nodiscard]] int32_t needed(size_t group, const KvTable& table, int32_t begin,
                               int32_t end) const;
  void fetch_ahead(size_t group, std::span<const BlockKey> keys, int32_t at) const;
  [[nodiscard]] bool must_copy(size_t group, const KvTable& table, int32_t begin) const;
  bool slide(size_t group, KvTable& table, int32_t begin);
  bool take(KvTables& tables, int32_t begin, int32_t end, std::vector<PlanCopy>& copies);

  std::vector<models::CacheGroup> specs_;
  std::vector<BlockPool> pools_;
  int32_t block_tokens_;
  bool slides_ = false;  // a group has a window
  std::vector<int32_t> phases_;
  struct Held {
    size_t group;
    int32_t block;
  };
  std::vector<Held> copy_sources_;  // INV-CACHE-6
};

}  // namespace troupe::engine
