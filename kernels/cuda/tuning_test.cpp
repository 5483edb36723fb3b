// A model's products, timed and chosen as when a model is loaded, are what the plain definitions
// say: whatever way was chosen for so many rows, with the gate, the norm's parts or the likeliest
// token taken along.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <tuple>

#include "base/log.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/test_support.hpp"
#include "kernels/cuda/twice_test.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

// A layer whose products are all large enough to be timed, and a head.
constexpr int64_t kHidden = 1024, kQkv = 1536, kInner = 1408, kVocab = 2048;
constexpr int32_t kSlots = 256, kRowsMost = 256;

struct Weights {
  LinearTwin qkv, o, gate_up, down, head;
  Twin norm;
};

Weights weights_of(Lab& lab) {
  return {lab.linear_weight({kQkv}, kHidden, false, false),
          lab.linear_weight({kHidden}, kHidden, false, false),
          lab.linear_weight({kInner, kInner}, kHidden, false, false),
          lab.linear_weight({kHidden}, kInner, false, false),
          lab.linear_weight({kVocab}, kHidden, false, false),
          lab.weight_matrix(1, kHidden)};
}

void check_rows(Lab& lab, const Weights& w, int32_t rows) {
  const BatchTwin batch = begin_decoding(lab, rows);
  Twice both(lab, batch);
  const std::string what = std::to_string(rows) + " rows: ";
  const Twin x = lab.activations(rows, kHidden), wide = lab.activations(rows, kInner);
  const Twin qkv = lab.poisoned(rows, kQkv);
  both.linear(x, w.qkv, qkv);
  lab.compare(qkv, what + "qkv");
  const Twin both_gates = lab.poisoned(rows, 2 * kInner), gated = lab.poisoned(rows, kInner);
  both.linear(x, w.gate_up, both_gates);
  both.gate(both_gates, gated);
  lab.compare(gated, what + "gate and up");
  for (const auto& [from, weight, name] :
       {std::tuple{&x, &w.o, "o"}, std::tuple{&wide, &w.down, "down"}}) {
    const Twin sums = lab.poisoned(rows, kHidden), normed = lab.poisoned(rows, kHidden);
    const Twin residual = lab.activations(rows, kHidden);
    both.linear(*from, *weight, sums);
    both.norm(sums, residual, w.norm, normed);
    lab.compare(residual, what + name + " in the residual");
    lab.compare(normed, what + name + ", its norm");
  }
  const Twin logits = lab.poisoned(rows, kVocab, DType::f32);
  both.linear(x, w.head, logits);
  lab.compare(logits, what + "logits");
  lab.finish(batch);
}

class Tuning : public ::testing::TestWithParam<DType> {
 protected:
  void TearDown() override { set_log_sink(LogLevel::off, nullptr); }
};

TEST_P(Tuning, WhatWasChosenIsThePlainProduct) {
  TR_NEEDS_DEVICE();
  std::multiset<std::string> chosen;
  set_log_sink(LogLevel::debug, [&](LogLevel, std::string_view line) {
    const std::string_view said = "cuda: product of ";
    if (line.starts_with(said)) chosen.insert(std::string(line.substr(said.size())));
  });
  auto opened = CudaBackend::open(0);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  Lab lab(**opened, GetParam(), 1, "tuning");
  const Weights w = weights_of(lab);
  reserve_as_a_language_model(lab, kSlots, kRowsMost, kVocab);
  if (runs_hopper_code()) {
    for (const int rows : {8, 16, 32, 64, 96, 128, 192, 256}) {
      const std::string begin = std::to_string(rows) + " rows, 1024 to 1536: ";
      EXPECT_EQ(1, std::count_if(chosen.begin(), chosen.end(),
                                 [&](const std::string& line) { return line.starts_with(begin); }))
          << begin;
    }
  }
  for (const int32_t rows : {1, 8, 16, 30, 33, 64, 128, 256}) check_rows(lab, w, rows);
  const auto report = lab.take();
  EXPECT_TRUE(report.ok()) << ops_suite::describe(report);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Tuning, ::testing::Values(DType::f16, DType::bf16),
                         [](const auto& of) { return std::string(dtype_name(of.param)); });

}  // namespace
}  // namespace troupe::cuda
