// Which weights get slim copies, and when they lose them, in memory of the test's own.
#include "kernels/cuda/slim_store.hpp"

#include <gtest/gtest.h>

#include <set>

namespace troupe::cuda {
namespace {

class Memory final : public DeviceBuffer {
 public:
  explicit Memory(size_t bytes) : bytes_(bytes) {}
  [[nodiscard]] void* data() const override { return const_cast<std::byte*>(&place_); }
  [[nodiscard]] size_t bytes() const override { return bytes_; }

 private:
  std::byte place_{};
  size_t bytes_;
};

// Packs nothing; says what it was asked for, and fails where it is told to.
class Packer final : public SlimPacker {
 public:
  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes) override {
    if (allocations_left == 0) return Status(Code::out_of_memory, "none left");
    --allocations_left;
    return std::unique_ptr<DeviceBuffer>(std::make_unique<Memory>(bytes));
  }
  Result<bool> pack(const SlimShape& shape, const std::vector<const void*>& weights,
                    const std::vector<void*>& copies) override {
    EXPECT_EQ(weights.size(), copies.size());
    packed.push_back(shape.n);
    return unfit.count(shape.n) == 0;
  }

  size_t allocations_left = 1000;
  std::set<int64_t> unfit;  // by outputs
  std::vector<int64_t> packed;
};

// One piece of memory, given twice, as a device gives what was freed.
class Lent final : public DeviceBuffer {
 public:
  explicit Lent(Memory& memory) : memory_(memory) {}
  [[nodiscard]] void* data() const override { return memory_.data(); }
  [[nodiscard]] size_t bytes() const override { return memory_.bytes(); }

 private:
  Memory& memory_;
};

constexpr size_t kMiB = size_t{1} << 20;
constexpr SlimShape kSmall = {1024, 1024}, kLarge = {8192, 1024}, kGate = {4096, 1024, true};
constexpr SlimRoom kAll = {size_t{1} << 40, 1000};

class SlimStoreTest : public ::testing::Test {
 protected:
  const void* place(const SlimShape& shape) {
    arena_.push_back(SlimStore::watch(store_, shape, std::make_unique<Memory>(1)));
    return arena_.back()->data();
  }
  std::vector<SlimFate> pack(const SlimRoom& room) {
    auto outcomes = store_->pack(room, packer_);
    EXPECT_TRUE(outcomes.ok()) << outcomes.status().message();
    std::vector<SlimFate> fates;
    for (const SlimOutcome& o : *outcomes) fates.push_back(o.fate);
    return fates;
  }
  [[nodiscard]] bool has(const void* weight) const { return store_->of(weight).data != nullptr; }

  std::shared_ptr<SlimStore> store_ = std::make_shared<SlimStore>();
  std::vector<std::unique_ptr<DeviceBuffer>> arena_;
  Packer packer_;
};

TEST_F(SlimStoreTest, PacksAllThereIsRoomForTheLargestWeightsFirst) {
  const void* small = place(kSmall);
  for (int i = 0; i < 9; ++i) place(kSmall);
  const void* gate = place(kGate);
  const void* large = place(kLarge);
  EXPECT_FALSE(has(small));
  EXPECT_EQ(pack(kAll), std::vector<SlimFate>(3, SlimFate::packed));
  EXPECT_EQ(packer_.packed, (std::vector<int64_t>{8192, 4096, 1024}));
  EXPECT_TRUE(has(small) && has(gate) && has(large));
  EXPECT_TRUE(store_->of(gate).paired);
  EXPECT_FALSE(store_->of(small).paired);
  EXPECT_EQ(store_->bytes(), 10 * kSmall.bytes() + kGate.bytes() + kLarge.bytes());
  EXPECT_EQ(store_->shapes().size(), 3U);
  EXPECT_EQ(store_->all_of(kGate), std::vector<const void*>{store_->of(gate).data});
  EXPECT_TRUE(store_->all_of({kGate.n, kGate.k, false}).empty());
  EXPECT_TRUE(pack(kAll).empty()) << "packed twice";
}

TEST_F(SlimStoreTest, PacksAllWeightsOfAShapeOrNone) {
  const void* small = place(kSmall);
  const void* first = place(kLarge);
  const void* second = place(kLarge);
  // Room for one of the large ones, and for the small one beside it.
  const size_t room = kLarge.bytes() + kSmall.bytes() + 8 * kMiB;
  ASSERT_LT(room, 2 * kLarge.bytes());
  EXPECT_EQ(pack({room, 1000}), (std::vector<SlimFate>{SlimFate::no_room, SlimFate::packed}));
  EXPECT_TRUE(has(small));
  EXPECT_FALSE(has(first) || has(second));
  EXPECT_EQ(pack(kAll), std::vector<SlimFate>{SlimFate::packed}) << "there is room now";
  EXPECT_TRUE(has(first) && has(second));
}

TEST_F(SlimStoreTest, TakesNoMoreThanItsRoom) {
  place(kLarge);
  EXPECT_EQ(pack({0, 1000}), std::vector<SlimFate>{SlimFate::no_room});
  EXPECT_EQ(pack({kLarge.bytes() - 1, 1000}), std::vector<SlimFate>{SlimFate::no_room});
  EXPECT_TRUE(packer_.packed.empty());
  EXPECT_EQ(store_->bytes(), 0U);
}

TEST_F(SlimStoreTest, AnAllocationThatFailsGivesTheOthersBack) {
  const void* first = place(kLarge);
  const void* second = place(kLarge);
  packer_.allocations_left = 1;
  EXPECT_EQ(pack(kAll), std::vector<SlimFate>{SlimFate::no_room});
  EXPECT_FALSE(has(first) || has(second));
  EXPECT_EQ(store_->bytes(), 0U);
}

TEST_F(SlimStoreTest, AShapeThatDoesNotFitStaysPlain) {
  const void* first = place(kLarge);
  const void* second = place(kLarge);
  const void* small = place(kSmall);
  packer_.unfit = {kLarge.n};
  EXPECT_EQ(pack(kAll), (std::vector<SlimFate>{SlimFate::strays, SlimFate::packed}));
  EXPECT_FALSE(has(first) || has(second));
  EXPECT_TRUE(has(small));
  EXPECT_EQ(store_->bytes(), kSmall.bytes());
  EXPECT_TRUE(pack(kAll).empty()) << "tried again";
}

TEST_F(SlimStoreTest, ExpertsAreLeftOut) {
  for (int i = 0; i < 9; ++i) place(kLarge);
  const void* small = place(kSmall);
  EXPECT_EQ(pack({kAll.bytes, 8}), (std::vector<SlimFate>{SlimFate::experts, SlimFate::packed}));
  EXPECT_TRUE(has(small));
}

TEST_F(SlimStoreTest, ACopyGoesWithItsWeight) {
  const void* kept = place(kSmall);
  const void* gone = place(kSmall);
  pack(kAll);
  ASSERT_TRUE(has(kept) && has(gone));
  arena_.pop_back();
  EXPECT_FALSE(has(gone));
  EXPECT_TRUE(has(kept));
  EXPECT_EQ(store_->bytes(), kSmall.bytes());
  EXPECT_EQ(store_->all_of(kSmall).size(), 1U);
}

TEST_F(SlimStoreTest, WhatNobodyWantsIsGivenBackForGood) {
  const void* small = place(kSmall);
  const void* large = place(kLarge);
  pack(kAll);
  store_->give_back(kLarge);
  EXPECT_FALSE(has(large));
  EXPECT_TRUE(has(small));
  EXPECT_EQ(store_->bytes(), kSmall.bytes());
  EXPECT_EQ(store_->shapes().size(), 1U);
  EXPECT_TRUE(pack(kAll).empty()) << "packed again";
}

TEST_F(SlimStoreTest, WhatIsPlacedAtTheAddressOfAWeightThatWentHasNoCopy) {
  Memory memory(1);
  auto weight = SlimStore::watch(store_, kSmall, std::make_unique<Lent>(memory));
  pack(kAll);
  ASSERT_TRUE(has(memory.data()));
  weight.reset();
  weight = SlimStore::watch(store_, kLarge, std::make_unique<Lent>(memory));
  EXPECT_FALSE(has(memory.data()));
  pack(kAll);
  EXPECT_EQ(packer_.packed, (std::vector<int64_t>{kSmall.n, kLarge.n}));
}

TEST_F(SlimStoreTest, WeightsMayOutliveWhoPlacedThem) {
  place(kSmall);
  pack(kAll);
  const std::weak_ptr<SlimStore> store = store_;
  store_.reset();
  EXPECT_FALSE(store.expired());
  arena_.clear();
  EXPECT_TRUE(store.expired());
}

TEST_F(SlimStoreTest, SaysWhatWasPackedAndWhyTheRestWasNot) {
  place(kLarge);
  place(kSmall);
  packer_.unfit = {kSmall.n};
  const auto outcomes = store_->pack(kAll, packer_);
  ASSERT_TRUE(outcomes.ok());
  EXPECT_EQ(text_of(*outcomes), "weights packed beside the plain ones: 1 of 1024 to 8192, " +
                                    std::to_string(kLarge.bytes() / kMiB) +
                                    " MiB; not packed: 1 of 1024 to 1024 (exponents spread too "
                                    "widely)");
}

}  // namespace
}  // namespace troupe::cuda
