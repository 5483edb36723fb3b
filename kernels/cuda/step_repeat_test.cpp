// A plan made of the one before says what the same plan says when it is built anew. Runs without a
// device: pinned and device memory are the heap's here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <tuple>

#include "kernels/cuda/step_plan.hpp"

namespace troupe::cuda {

Status status_of(cudaError_t error, std::string_view what) {
  return error == cudaSuccess ? ok_status() : Status(Code::device_failed, std::string(what));
}
PinnedArea::~PinnedArea() {
  std::free(data_);
}
Status PinnedArea::grow(size_t bytes, std::string_view) {
  if (bytes <= bytes_) return ok_status();
  std::free(data_);
  data_ = std::calloc(bytes, 1);
  bytes_ = bytes;
  return ok_status();
}
DeviceArea::~DeviceArea() {
  std::free(data_);
}
Result<bool> DeviceArea::grow(size_t bytes, std::string_view, bool) {
  if (bytes <= bytes_) return false;
  std::free(data_);
  data_ = std::calloc(bytes, 1);
  bytes_ = bytes;
  return true;
}

namespace {

constexpr int32_t kBlocks = 4096, kRoom = 3;

class Cache final : public KvCache {
 public:
  explicit Cache(int32_t block_tokens) {
    spec_.block_tokens = block_tokens;
    spec_.blocks = kBlocks;
    spec_.kv_heads = 8;
  }
  [[nodiscard]] const KvCacheSpec& spec() const override { return spec_; }

 private:
  KvCacheSpec spec_;
};

// Sequences that decode, each with a table per group; the second group's slides.
class World {
 public:
  World(uint64_t seed, int32_t sequences, int32_t longest, int32_t block_tokens)
      : random_(seed), sequences_(sequences), block_tokens_(block_tokens) {
    StepPlanDraft d;
    d.step = 1;
    d.groups = 2;
    std::vector<int32_t> blocks;
    std::vector<PlanTable> tables;
    for (int32_t i = 0; i < sequences; ++i) {
      const int32_t length = pick(2, longest);
      lengths_.push_back(length);
      d.token_ids.push_back(pick(0, 99));
      d.positions.push_back(length - 1);
      d.sequences.push_back({i, i, 1, length, 1, 0});
      for (int32_t g = 0; g < 2; ++g) {
        const int32_t first = g == 1 ? (length - 1) / 2 / block_tokens : 0;
        const int32_t count = (length - 1) / block_tokens + 1 - first;
        tables.push_back({static_cast<int32_t>(blocks.size()), count, first * block_tokens, 0});
        for (int32_t b = 0; b < count; ++b) blocks.push_back(pick(0, kBlocks - 1));
        blocks.resize(blocks.size() + kRoom);
        d.tables.push_back({});
      }
      d.logit_rows.push_back({i, i, i, -1, -1});
      PlanSampling& s = d.sampling.emplace_back();
      s.slot = i;
      s.position = length;
      s.reset = 1;
    }
    std::vector<std::byte> sealed;
    d.seal(sealed);
    seal_with_tables(PlanView().at(sealed), tables, blocks, bytes);
    rowless = bytes;
  }

  // One step further. False: a table has no room.
  bool advance() {
    StepPlanHeader repeat;
    repeat.step = PlanView().at(bytes).step() + 1;
    repeat.repeats = sequences_;
    EXPECT_TRUE(advance_plan(bytes, repeat).ok());
    EXPECT_TRUE(advance_header(rowless, repeat).ok());
    for (int32_t i = 0; i < sequences_; ++i) {
      const int32_t length = ++lengths_[static_cast<size_t>(i)];
      for (int32_t g = 0; g < 2; ++g) {
        const PlanTable now = PlanView().at(bytes).table(i, g);
        const bool full = (length - 1) % block_tokens_ == 0;
        const bool slides = g == 1 && now.count > 1 && pick(0, 9) == 0;
        if (!full && !slides) continue;
        const int32_t gone = slides ? 1 : 0;
        const PlanTable told = {0, full ? 1 : 0, now.first_position + gone * block_tokens_, now.count - gone};
        const std::vector<int32_t> fresh(full ? 1 : 0, pick(0, kBlocks - 1));
        if (!advance_table(bytes, i, g, told, fresh, block_tokens_)) return false;
        EXPECT_TRUE(advance_table(rowless, i, g, told, fresh, block_tokens_));
      }
    }
    return true;
  }
  int32_t pick(int32_t from, int32_t to) { return std::uniform_int_distribution(from, to)(random_); }

  std::vector<std::byte> bytes;
  std::vector<std::byte> rowless;  // the same, whose rows have stayed where they were

 private:
  std::mt19937_64 random_;
  const int32_t sequences_, block_tokens_;
  std::vector<int32_t> lengths_;
};

auto order_of(const DecodeWork& w) { return std::tuple(w.sequence.row_begin, w.share, w.sequence.table_begin); }

// What the device reads of a plan, with the work list in an order of its own.
std::vector<std::byte> said(StepPlan& plan, DeviceArea& area, DeviceArea& blocks) {
  bool moved = false;
  EXPECT_TRUE(plan.place(area, blocks, moved).ok());
  plan.seal(plan, {});
  std::vector<std::byte> out(plan.staged(), plan.staged() + plan.head().patches_begin);
  const auto offset = reinterpret_cast<const std::byte*>(plan.at.decode) - area.as<std::byte>();
  auto* const work = reinterpret_cast<DecodeWork*>(out.data() + offset);
  std::sort(work, work + plan.counts.decode_items * plan.counts.groups,
            [](const DecodeWork& a, const DecodeWork& b) { return order_of(a) < order_of(b); });
  std::memset(out.data(), 0, sizeof(PlanHead));
  return out;
}

struct Case {
  int32_t sequences, longest, block_tokens;
  bool independent;
  int32_t repeated_least;  // of 200 steps
};

void hold_to_built(const Case& c, uint64_t seed) {
  World world(seed, c.sequences, c.longest, c.block_tokens);
  Cache first(c.block_tokens), second(c.block_tokens);
  KvCache* const caches[] = {&first, &second};
  const StepShape shape{4, 8, 132, c.independent};
  StepPlan ring[3];
  DeviceArea area, blocks;
  std::vector<int32_t> known;  // block tables as the device has them
  int32_t repeated = 0, newest = 0;
  for (StepPlan& plan : ring) ASSERT_TRUE(plan.prepare(c.sequences, c.sequences, kBlocks).ok());
  ASSERT_TRUE(ring[0].build(PlanView().at(world.bytes), caches, shape).ok());
  said(ring[0], area, blocks);
  known.assign(PlanView().at(world.bytes).blocks().begin(), PlanView().at(world.bytes).blocks().end());
  for (int32_t step = 0; step < 200 && world.advance(); ++step) {
    const PlanView plan = PlanView().at(world.bytes);
    StepPlan anew;
    ASSERT_TRUE(anew.build(plan, caches, shape).ok());
    StepPlan& next = ring[(newest + 1) % 3];
    if (next.repeat(ring[newest], PlanView().at(world.rowless), caches, shape)) {
      ++repeated;
      // The last step's graph is run again: it must be the one for this step.
      EXPECT_EQ(next.counts.spreads, anew.counts.spreads);
      EXPECT_EQ(next.counts.spreads, ring[newest].counts.spreads);
      EXPECT_EQ(next.counts.rows_least, 1);
      EXPECT_EQ(next.counts.rows_longest, 1);
      ASSERT_TRUE(next.lies_as(ring[newest], area));
      EXPECT_EQ(next.at.head, area.as<PlanHead>());
      EXPECT_EQ(next.at.decode, ring[newest].at.decode);
      DeviceArea other;
      ASSERT_EQ(said(next, area, blocks), said(anew, other, blocks)) << "step " << step;
      const auto* patches = reinterpret_cast<const BlockPatch*>(next.staged() + next.head().patches_begin);
      for (uint32_t p = 0; p < next.head().patches; ++p) known[patches[p].index] = patches[p].block;
      EXPECT_EQ(next.head().block_pieces, 0U);
    } else {
      ASSERT_TRUE(next.build(plan, caches, shape).ok());
      said(next, area, blocks);
      known.assign(plan.blocks().begin(), plan.blocks().end());
    }
    for (int32_t i = 0; i < c.sequences; ++i) {
      for (int32_t g = 0; g < 2; ++g) {
        const auto table = plan.block_table(i, g);
        ASSERT_TRUE(std::equal(table.begin(), table.end(), known.begin() + plan.table(i, g).begin));
      }
    }
    newest = (newest + 1) % 3;
  }
  EXPECT_GE(repeated, c.repeated_least);
}

TEST(StepRepeat, SaysWhatAPlanBuiltAnewSays) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    hold_to_built({64, 300, 64, false, 60}, seed);
    hold_to_built({1, 300, 64, false, 60}, seed);
    hold_to_built({17, 40, 16, true, 0}, seed);
    hold_to_built({8, 6000, 64, false, 40}, seed);
    hold_to_built({8, 2047, 64, false, 40}, seed);  // one outgrows clusters on the way
    hold_to_built({40, 3000, 64, true, 0}, seed);
  }
}

TEST(StepPlan, KnowsTheShortestAndTheLongestSequence) {
  Cache cache(64);
  KvCache* const caches[] = {&cache};
  const auto counted = [&](const std::vector<int32_t>& rows) {
    StepPlanDraft d;
    d.groups = 1;
    for (const int32_t count : rows) {
      const auto begin = static_cast<int32_t>(d.token_ids.size());
      const auto slot = static_cast<int32_t>(d.sequences.size());
      d.sequences.push_back({slot, begin, count, count, count, 0});
      d.tables.push_back({static_cast<int32_t>(d.blocks.size()), (count + 63) / 64, 0, 0});
      for (int32_t r = 0; r < count; ++r) {
        if (r % 64 == 0) d.blocks.push_back(r / 64);
        d.token_ids.push_back(r);
        d.positions.push_back(r);
      }
    }
    std::vector<std::byte> sealed;
    d.seal(sealed);
    StepPlan plan;
    EXPECT_TRUE(plan.build(PlanView().at(sealed), caches, {4, 8, 132, false}).ok());
    return std::pair(plan.counts.rows_least, plan.counts.rows_longest);
  };
  EXPECT_EQ(counted({5, 130, 3, 70}), std::pair(3, 130));
  EXPECT_EQ(counted({1, 2}), std::pair(1, 2));
  EXPECT_EQ(counted({9}), std::pair(9, 9));
}

TEST(StepRepeat, LeavesOtherPlansAlone) {
  World world(1, 4, 100, 64);
  Cache cache(64);
  KvCache* const caches[] = {&cache, &cache};
  StepPlan plans[2];
  for (StepPlan& plan : plans) ASSERT_TRUE(plan.prepare(4, 4, kBlocks).ok());
  ASSERT_TRUE(plans[0].build(PlanView().at(world.bytes), caches, {4, 8, 132, false}).ok());
  ASSERT_TRUE(world.advance());
  const PlanView plan = PlanView().at(world.bytes);
  const int32_t wrong = kBlocks;
  StepPlan unprepared;
  EXPECT_FALSE(unprepared.repeat(plans[0], plan, caches, {4, 8, 132, false}));
  // A block that the cache does not have.
  const PlanTable& t = plan.table(2, 0);
  const PlanTable told = {0, 1, t.first_position, t.count};
  ASSERT_TRUE(advance_table(world.bytes, 2, 0, told, {&wrong, 1}, 64));
  EXPECT_FALSE(plans[1].repeat(plans[0], plan, caches, {4, 8, 132, false}));
}

}  // namespace
}  // namespace troupe::cuda
