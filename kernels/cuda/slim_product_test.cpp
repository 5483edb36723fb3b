// Slim copies of placed weights on a device: packed when steps are reserved, taken where timing
// found them quicker, right, gone with their weights, and not there where nobody wants them.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/test_support.hpp"
#include "kernels/cuda/twice_test.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

// Beyond L2, all of them together: there three quarters of the bytes are worth something.
constexpr int64_t kHidden = 2048, kInner = 6144, kVocab = 16384;
constexpr int32_t kRows = 64;

class SlimProduct : public ::testing::Test {
 protected:
  void SetUp() override {
    TR_NEEDS_SM90();
    set_log_sink(LogLevel::debug, [this](LogLevel, std::string_view line) {
      if (line.find(", packed: slim") != std::string_view::npos) chosen_.emplace_back(line);
    });
    auto opened = CudaBackend::open(0);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    backend_ = std::move(*opened);
  }
  void TearDown() override { set_log_sink(LogLevel::off, nullptr); }

  struct Weights {
    LinearTwin gate_up, down, head;
    Twin norm;
  };
  static Weights weights_of(Lab& lab) {
    return {lab.linear_weight({kInner, kInner}, kHidden, false, false),
            lab.linear_weight({kHidden}, kInner, false, false),
            lab.linear_weight({kVocab}, kHidden, false, false), lab.weight_matrix(1, kHidden)};
  }
  static void reserve(Lab& lab) { reserve_as_a_language_model(lab, kRows, kRows, kVocab); }

  static void check_rows(Lab& lab, const Weights& w, int32_t rows) {
    const BatchTwin batch = begin_decoding(lab, rows);
    Twice both(lab, batch);
    const std::string what = std::to_string(rows) + " rows: ";
    const Twin x = lab.activations(rows, kHidden);
    const Twin wide = lab.poisoned(rows, 2 * kInner), gated = lab.poisoned(rows, kInner);
    both.linear(x, w.gate_up, wide);
    both.gate(wide, gated);
    lab.compare(gated, what + "gate and up");
    const Twin inner = lab.activations(rows, kInner), sums = lab.poisoned(rows, kHidden);
    const Twin residual = lab.activations(rows, kHidden), normed = lab.poisoned(rows, kHidden);
    both.linear(inner, w.down, sums);
    both.norm(sums, residual, w.norm, normed);
    lab.compare(residual, what + "down in the residual");
    lab.compare(normed, what + "down, its norm");
    // The same where nobody adds parts up.
    const Twin whole = lab.poisoned(rows, kHidden);
    both.linear(inner, w.down, whole);
    lab.compare(whole, what + "down");
    const Twin logits = lab.poisoned(rows, kVocab, DType::f32);
    both.linear(x, w.head, logits);
    lab.compare(logits, what + "logits");
    lab.finish(batch);
  }
  static void expect_no_failure(Lab& lab) {
    const auto report = lab.take();
    EXPECT_TRUE(report.ok()) << ops_suite::describe(report);
  }
  [[nodiscard]] int64_t packed_bytes() const {
    const auto shares = dynamic_cast<const DeviceAccount&>(*backend_).memory_shares();
    const auto share = std::find_if(shares.begin(), shares.end(), [](const MemoryShare& s) {
      return s.what == "packed_weights";
    });
    return share == shares.end() ? -1 : share->bytes;
  }

  std::vector<std::string> chosen_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(SlimProduct, IsThePlainProductWhereItWasChosen) {
  Lab lab(*backend_, DType::bf16, 1, "slim");
  const Weights w = weights_of(lab);
  EXPECT_EQ(packed_bytes(), 0);
  reserve(lab);
  // Copies of what was not chosen have been given back.
  const auto plain = static_cast<int64_t>(2) * kHidden * (3 * kInner + kVocab);
  EXPECT_GT(packed_bytes(), 0);
  EXPECT_LT(packed_bytes(), plain * 8 / 10);
  EXPECT_FALSE(chosen_.empty());
  for (const int32_t rows : {1, 13, 64}) check_rows(lab, w, rows);
  expect_no_failure(lab);
}

TEST_F(SlimProduct, AWeightAtTheAddressOfOneThatWentIsMultipliedAsItIs) {
  const void* gone = nullptr;
  {
    Lab lab(*backend_, DType::bf16, 1, "slim before");
    gone = lab.linear_weight({kVocab}, kHidden, false, false).test.parts[0].values.data;
    reserve(lab);
    EXPECT_GT(packed_bytes(), 0);
  }
  EXPECT_EQ(packed_bytes(), 0);
  Lab lab(*backend_, DType::bf16, 2, "slim after");
  ASSERT_TRUE(lab.plain().reserve_steps(kRows, kRows, kRows, kVocab).ok());
  const LinearTwin head = lab.linear_weight({kVocab}, kHidden, false, false);
  const BatchTwin batch = begin_decoding(lab, 4);
  const Twin x = lab.activations(4, kHidden), logits = lab.poisoned(4, kVocab, DType::f32);
  Twice(lab, batch).linear(x, head, logits);
  lab.compare(logits, "another weight's logits");
  lab.finish(batch);
  expect_no_failure(lab);
  if (head.test.parts[0].values.data != gone)
    GTEST_SKIP() << "the device gave another address: nothing was proven";
}

TEST_F(SlimProduct, NothingIsPackedWhereWeightsAreKeptPlain) {
  dynamic_cast<PackedWeights&>(*backend_).keep_weights_plain();
  Lab lab(*backend_, DType::bf16, 1, "kept plain");
  const Weights w = weights_of(lab);
  reserve(lab);
  EXPECT_EQ(packed_bytes(), 0);
  EXPECT_TRUE(chosen_.empty());
  check_rows(lab, w, 8);
  expect_no_failure(lab);
}

TEST_F(SlimProduct, NothingIsPackedWhereRowsAreIndependent) {
  backend_->keep_rows_independent();
  Lab lab(*backend_, DType::bf16, 1, "deterministic");
  const Weights w = weights_of(lab);
  reserve(lab);
  EXPECT_EQ(packed_bytes(), 0);
  check_rows(lab, w, 8);
  expect_no_failure(lab);
}

TEST_F(SlimProduct, MemoryThatOthersWillAskForIsLeft) {
  dynamic_cast<PackedWeights&>(*backend_).leave_free(backend_->info().memory_total);
  Lab lab(*backend_, DType::bf16, 1, "no room");
  const Weights w = weights_of(lab);
  reserve(lab);
  EXPECT_EQ(packed_bytes(), 0);
}

}  // namespace
}  // namespace troupe::cuda
