#include "kernels/ops_suite/lab.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/half.hpp"
#include "kernels/cpu/plain/plain_backend.hpp"

namespace troupe::ops_suite {
namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

size_t elements(int64_t rows, int64_t stride) { return static_cast<size_t>(rows * stride); }

float rounded(DType dtype, float x) {
  float place = 0.0F;
  cpu::store_element(dtype, &place, 0, x);
  return cpu::load_element(dtype, &place, 0);
}

// Rows of activations start at multiples of 16 bytes: GPUs load them so.
int64_t aligned_columns(int64_t cols) { return (cols + 7) / 8 * 8; }

}  // namespace

Lab::Lab(Backend& backend, DType weights, uint64_t seed, std::string name)
    : test(backend),
      plain_(cpu::open_plain_backend()),
      weights_(weights),
      activations_(backend.activation_dtype(weights)),
      random_(seed * 0x9E3779B97F4A7C15ULL + 12345),
      name_(std::move(name)) {}

int64_t Lab::between(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
}

float Lab::uniform(float low, float high) {
  return low + (high - low) * static_cast<float>(random_() >> 40) * 0x1p-24F;
}

// `dense` is rows x cols, or empty for poison; what lies beyond the columns is poison.
Matrix Lab::host(DType dtype, const std::vector<float>& dense, int64_t rows, int64_t cols,
                 int64_t stride) {
  auto& bytes = host_memory_.emplace_back(elements(rows, stride) * dtype_bytes(dtype) + 64);
  const Matrix m{bytes.data(), dtype, rows, cols, stride};
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < stride; ++c) {
      const bool given = c < cols && !dense.empty();
      cpu::put(m, r, c, given ? dense[static_cast<size_t>(r * cols + c)] : kPoison);
    }
  }
  return m;
}

Matrix Lab::upload(Backend& backend, const Matrix& from) {
  auto buffer = backend.allocate(from.bytes() + 64, "ops suite");
  TR_ASSERT(buffer.ok());
  TR_ASSERT(backend.upload((*buffer)->data(), from.data, from.bytes()).ok());
  Matrix m = from;
  m.data = (*buffer)->data();
  arena_.push_back(std::move(*buffer));
  return m;
}

Twin Lab::values(DType dtype, const std::vector<float>& dense, int64_t rows, int64_t cols) {
  std::vector<float> exact = dense;
  for (float& x : exact) x = rounded(dtype, x);
  const int64_t stride = aligned_columns(cols) + 8 * between(0, 2);
  return {upload(test, host(dtype, exact, rows, cols, stride)),
          upload(plain(), host(DType::f32, exact, rows, cols, stride))};
}

Twin Lab::activations(int64_t rows, int64_t cols, float scale) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> dense(elements(rows, cols));
  for (float& x : dense) x = normal(random_);
  return values(activations_, dense, rows, cols);
}

Twin Lab::poisoned(int64_t rows, int64_t cols, DType dtype) {
  const int64_t stride = aligned_columns(cols) + 8 * between(0, 2);
  return {upload(test, host(dtype, {}, rows, cols, stride)),
          upload(plain(), host(DType::f32, {}, rows, cols, stride))};
}

Twin Lab::weight_matrix(int64_t rows, int64_t cols, float scale) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> dense(elements(rows, cols));
  for (float& x : dense) x = rounded(weights_, normal(random_));
  const Matrix m = host(weights_, dense, rows, cols, cols);
  auto a = test.place(m, arena_);
  auto b = plain().place(m, arena_);
  TR_ASSERT(a.ok() && b.ok());
  return {*a, *b};
}

Twin Lab::f32_vector(int64_t cols, float low, float high) {
  std::vector<float> dense(static_cast<size_t>(cols));
  for (float& x : dense) x = uniform(low, high);
  return values(DType::f32, dense, 1, cols);
}

LinearTwin Lab::linear_weight(const std::vector<int64_t>& outs, int64_t in, bool bias, bool shard) {
  std::normal_distribution<float> normal(0.0F, 1.0F / std::sqrt(static_cast<float>(in)));
  LinearWeight w;
  w.in = in;
  for (int64_t out : outs) {
    std::vector<float> dense(elements(out, in));
    for (float& x : dense) x = rounded(weights_, normal(random_));
    LinearPart part;
    part.values = host(weights_, dense, out, in, shard ? 2 * in : in);
    if (bias) {
      std::vector<float> b(static_cast<size_t>(out));
      for (float& x : b) x = rounded(weights_, uniform(-1.0F, 1.0F));
      part.bias = host(weights_, b, 1, out, out);
    }
    w.parts.push_back(part);
    w.out += out;
  }
  auto a = test.place(w, arena_);
  auto b = plain().place(w, arena_);
  TR_ASSERT(a.ok() && b.ok());
  return {*a, *b};
}

CacheTwin Lab::cache(const KvCacheSpec& spec) {
  auto a = test.create_cache(spec);
  auto b = plain().create_cache(spec);
  TR_ASSERT(a.ok() && b.ok());
  return {std::move(*a), std::move(*b), spec};
}

void Lab::reserve(int32_t slots, int32_t rows, int32_t logit_rows, int32_t vocab) {
  TR_ASSERT(test.reserve_steps(slots, rows, logit_rows, vocab).ok());
  TR_ASSERT(plain().reserve_steps(slots, rows, logit_rows, vocab).ok());
}

BatchTwin Lab::begin(const StepPlanDraft& draft, const std::vector<CacheTwin*>& caches) {
  draft.seal(plans_.emplace_back());
  const auto plan = PlanView::parse(plans_.back());
  expect(plan.ok(), plan.status().message());
  std::vector<KvCache*> ours;
  std::vector<KvCache*> plains;
  for (CacheTwin* c : caches) {
    ours.push_back(c->test.get());
    plains.push_back(c->plain.get());
  }
  auto a = test.begin_step(*plan, ours);
  auto b = plain().begin_step(*plan, plains);
  expect(a.ok(), "begin_step: " + a.status().message());
  return {*a, *b};
}

std::pair<StepResult, StepResult> Lab::finish(const BatchTwin& batch) {
  auto a = test.finish_step(batch.test);
  auto b = plain().finish_step(batch.plain);
  expect(a.ok(), "finish_step: " + a.status().message());
  return {a.ok() ? std::move(*a) : StepResult{}, std::move(*b)};
}

double Lab::tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::f16: return 2e-3;
    case DType::bf16: return 1.6e-2;
    default: return 1e-5;
  }
}

void Lab::compare(const Twin& twin, const std::string& what, double tolerance) {
  const Matrix& m = twin.test;
  if (tolerance == 0.0) tolerance = tolerance_of(m.dtype);
  std::vector<std::byte> bytes(m.bytes());
  expect(test.synchronize().ok(), "synchronize before " + what);
  expect(test.download(bytes.data(), m.data, m.bytes()).ok(), "download " + what);
  const Matrix got{bytes.data(), m.dtype, m.rows, m.cols, m.stride};
  double off = 0.0;
  double norm = 0.0;
  double off_max = 0.0;
  double norm_max = 0.0;
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.stride; ++c) {
      const double x = double{cpu::at(got, r, c)};
      const double y = double{cpu::load_element(twin.plain.dtype, twin.plain.data, r * twin.plain.stride + std::min(c, twin.plain.stride - 1))};
      const bool untouched = c >= m.cols || std::isnan(y);  // poison in both
      if (untouched && std::isnan(x)) continue;
      if (untouched || std::isnan(x)) {
        return fail(what + ": row " + std::to_string(r) + " column " + std::to_string(c) + " of " +
                        std::to_string(m.cols) + " is " + std::to_string(x) +
                        (untouched ? ", should have been left alone" : ", should be " + std::to_string(y)),
                    x, tolerance);
      }
      off += (x - y) * (x - y);
      norm += y * y;
      off_max = std::max(off_max, std::abs(x - y));
      norm_max = std::max(norm_max, std::abs(y));
    }
  }
  ++report_.comparisons;
  const double error = norm > 0.0 ? std::sqrt(off / norm) : std::sqrt(off);
  constexpr double kWorstElement = 8.0;  // times the tolerance of the whole
  if (!(error <= tolerance)) return fail(what + ": ||a-b||/||b||", error, tolerance);
  if (!(off_max <= kWorstElement * tolerance * std::max(norm_max, 1e-30))) {
    return fail(what + ": largest error", off_max, kWorstElement * tolerance * norm_max);
  }
  report_.worst = std::max(report_.worst, error / tolerance);
}

void Lab::expect(bool condition, const std::string& what) {
  ++report_.comparisons;
  if (!condition) fail(what, 1.0, 0.0);
}

void Lab::fail(const std::string& what, double error, double tolerance) {
  report_.failures.push_back({name_ + ": " + what, error, tolerance});
}

}  // namespace troupe::ops_suite
