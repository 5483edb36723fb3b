// The bench a case works on: the backend under test and the plain one side by side, with the same
// random values in both.
#pragma once

#include <deque>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/ops_suite/ops_suite.hpp"

namespace troupe::ops_suite {

// The same matrix on both sides: `test` in the backend's dtype, `plain` in f32 (weights: as test).
struct Twin {
  Matrix test;
  Matrix plain;
};
struct LinearTwin {
  LinearWeight test;
  LinearWeight plain;
};
struct CacheTwin {
  std::unique_ptr<KvCache> test;
  std::unique_ptr<KvCache> plain;
  KvCacheSpec spec;
};
struct BatchTwin {
  Batch test;
  Batch plain;
};

class Lab {
 public:
  Lab(Backend& test, DType weights, uint64_t seed, std::string name);

  // ---- chance ----
  int64_t between(int64_t low, int64_t high);  // both included
  bool toss() { return between(0, 1) == 1; }
  float uniform(float low, float high);
  template <class T>
  T one_of(std::initializer_list<T> list) {
    return *(list.begin() + between(0, static_cast<int64_t>(list.size()) - 1));
  }

  // ---- matrices ----
  [[nodiscard]] DType weights() const { return weights_; }
  [[nodiscard]] DType activations() const { return activations_; }
  // Normal values times `scale`, in activation dtype; some with a stride of their own.
  Twin activations(int64_t rows, int64_t cols, float scale = 1.0F);
  Twin values(DType dtype, const std::vector<float>& values, int64_t rows, int64_t cols);
  // NaN everywhere.
  Twin poisoned(int64_t rows, int64_t cols, DType dtype);
  Twin poisoned(int64_t rows, int64_t cols) { return poisoned(rows, cols, activations_); }
  // A placed vector or table of the weights' dtype.
  Twin weight_matrix(int64_t rows, int64_t cols, float scale = 1.0F);
  Twin f32_vector(int64_t cols, float low, float high);
  // Parts of these many outputs each; `shard`: columns cut out of a wider matrix.
  LinearTwin linear_weight(const std::vector<int64_t>& outs, int64_t in, bool bias, bool shard);

  // ---- caches and steps ----
  CacheTwin cache(const KvCacheSpec& spec);
  void reserve(int32_t slots, int32_t rows, int32_t logit_rows, int32_t vocab);
  BatchTwin begin(const StepPlanDraft& draft, const std::vector<CacheTwin*>& caches);
  // Finishes both; the results are compared by the caller.
  std::pair<StepResult, StepResult> finish(const BatchTwin& batch);

  // ---- verdicts ----
  // ||test - plain|| <= tolerance * ||plain||, no element further off than a few times that.
  // `tolerance` 0: what the activation dtype's rounding allows.
  void compare(const Twin& twin, const std::string& what, double tolerance = 0.0);
  void expect(bool condition, const std::string& what);
  [[nodiscard]] static double tolerance_of(DType dtype);

  Backend& test;
  Backend& plain() { return *plain_; }
  [[nodiscard]] OpsReport take() { return std::move(report_); }

 private:
  Matrix upload(Backend& backend, const Matrix& host);
  Matrix host(DType dtype, const std::vector<float>& dense, int64_t rows, int64_t cols,
              int64_t stride);
  void fail(const std::string& what, double error, double tolerance);

  std::unique_ptr<Backend> plain_;
  DType weights_;
  DType activations_;
  std::mt19937_64 random_;
  std::string name_;
  std::vector<std::unique_ptr<DeviceBuffer>> arena_;
  std::deque<std::vector<std::byte>> host_memory_;
  std::deque<std::vector<std::byte>> plans_;
  OpsReport report_;
};

}  // namespace troupe::ops_suite
