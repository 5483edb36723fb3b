// Tokens drawn in a product's own sums beside those that sample_greedy() finds in the logits that
// the same product writes: the same ones, to the last tie.
#include <limits>

#include "kernels/cuda/likeliest_gemm.hpp"
#include "kernels/cuda/product_test.hpp"
#include "kernels/cuda/sampling.hpp"
#include "kernels/cuda/skinny_gemm.hpp"
#include "kernels/cuda/slim_gemm.hpp"
#include "kernels/cuda/slim_weight.hpp"
#include "kernels/cuda/wide_gemm.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What makes a head's logits hard to tell apart.
enum class Kind { any, ties, poisoned, barred };

struct HeadCase {
  int m, n, k;
  Kind kind = Kind::any;
  DType dtype = DType::bf16;
};

std::string name_of(const HeadCase& c) {
  return "m " + std::to_string(c.m) + " n " + std::to_string(c.n) + " k " + std::to_string(c.k) +
         " kind " + std::to_string(static_cast<int>(c.kind)) + " " + dtype_name(c.dtype);
}

// What is drawn, and what slots remember of it.
struct Result {
  std::vector<int32_t> tokens, last, tails, counts;
  std::vector<bool> poisoned;
};

class Head {
 public:
  explicit Head(const HeadCase& c)
      : c_(c),
        m_(static_cast<size_t>(c.m)),
        numbers_(numbers_of(c.m, c.n, c.k)),
        product_({.m = c.m, .n = c.n, .k = c.k, .dtype = c.dtype},
                 {inputs(), values(weight_rows(c.n) * k()), biases()},
                 std::max({skinny_gemm_partials_bytes(kSkinnyRowsMax), slim_gemm_partials_bytes(),
                           wide_gemm_partials_bytes(multiprocessors())}),
                 std::max(skinny_gemm_counters(c.n), wide_gemm_counters(multiprocessors()))),
        logits_(m_ * static_cast<size_t>(c.n)),
        best_(m_),
        drawn_(m_),
        target_(std::vector<DrawTarget>{{drawn_.get(), nullptr}}),
        rows_(logit_rows()),
        rules_(rules()),
        last_(m_),
        tails_(m_ * kTail),
        counts_(m_) {
    best_.zero();
  }

  [[nodiscard]] GemmOperands operands(bool along) const {
    GemmOperands g = product_.operands();
    g.output = logits_.get();
    g.output_stride = c_.n;
    g.output_f32 = true;
    g.likeliest = along ? best_.get() : nullptr;
    return g;
  }

  // Draws `times` in a row from slots that are empty.
  template <class Multiply>
  Result draw(bool along, int times, const Multiply& multiply) {
    last_.zero();
    tails_.zero();
    counts_.zero();
    Sampling s;
    s.logits = {logits_.get(), DType::f32, c_.m, c_.n, c_.n};
    s.rows = rows_.get();
    s.draws = rules_.get();
    s.slots = {last_.get(), tails_.get(), counts_.get(), nullptr, c_.n};
    s.target = target_.get();
    s.greedy = best_.get();
    for (int i = 0; i < times; ++i) {
      EXPECT_EQ(multiply(operands(along)), cudaSuccess);
      EXPECT_EQ(along ? give_likeliest(s, nullptr) : sample_greedy(s, multiprocessors(), nullptr),
                cudaSuccess);
    }
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    Result r;
    for (const Drawn& d : drawn_.read()) {
      r.tokens.push_back(d.token);
      r.poisoned.push_back(std::isnan(d.logprob));
    }
    r.last = last_.read();
    r.tails = tails_.read();
    r.counts = counts_.read();
    for (const GreedyRow& row : best_.read()) EXPECT_EQ(row.best, 0U) << "a key was left";
    return r;
  }

 private:
  [[nodiscard]] size_t k() const { return static_cast<size_t>(c_.k); }

  // Numbers of one bit make sums that are equal more often than not.
  std::vector<float> values(size_t count) {
    std::vector<float> out = random_values(count, 1.0F, c_.dtype, numbers_);
    if (c_.kind == Kind::ties) {
      for (float& x : out) x = x > 1.2F ? 1.0F : x < -1.2F ? -1.0F : 0.0F;
    }
    return out;
  }
  std::vector<float> inputs() {
    std::vector<float> x = values(m_ * k());
    // Every third row, one with a NaN, one with sums of both infinities and of NaN.
    for (size_t row = 0; c_.kind == Kind::poisoned && row < m_; row += 3)
      x[row * k() + row % k()] = row % 2 == 0 ? NAN : kInfinity;
    // All logits of a row are alike.
    if (c_.kind == Kind::ties) std::fill_n(x.begin(), k(), 0.0F);
    return x;
  }
  // Of even rows nothing may be drawn but the last tokens; minus zeros among them.
  std::vector<float> biases() {
    if (c_.kind != Kind::barred) return {};
    std::vector<float> b(static_cast<size_t>(c_.n), -kInfinity);
    const int allowed = c_.m % 2 == 0 ? 5 : 0;
    for (int i = 0; i < allowed && i < c_.n; ++i) b[static_cast<size_t>(c_.n - 1 - i)] = -0.0F;
    return b;
  }
  [[nodiscard]] std::vector<LogitRow> logit_rows() const {
    std::vector<LogitRow> all;
    for (int i = 0; i < c_.m; ++i) all.push_back({i, i, c_.m - 1 - i, -1, -1});
    return all;
  }
  [[nodiscard]] std::vector<DrawRule> rules() const {
    std::vector<DrawRule> all(m_);
    for (int i = 0; i < c_.m; ++i) all[static_cast<size_t>(i)].slot = c_.m - 1 - i;
    return all;
  }

  const HeadCase c_;
  const size_t m_;
  std::mt19937 numbers_;
  const OperandsOnDevice product_;
  OnDevice<float> logits_;
  OnDevice<GreedyRow> best_;
  OnDevice<Drawn> drawn_;
  OnDevice<DrawTarget> target_;
  OnDevice<LogitRow> rows_;
  OnDevice<DrawRule> rules_;
  OnDevice<int32_t> last_, tails_, counts_;
};

template <class Multiply>
void compare(const HeadCase& c, const std::string& how, const Multiply& multiply) {
  Head head(c);
  constexpr int kTimes = 2;
  const Result want = head.draw(false, kTimes, multiply), got = head.draw(true, kTimes, multiply);
  EXPECT_EQ(got.tokens, want.tokens) << name_of(c) << " " << how;
  EXPECT_EQ(got.poisoned, want.poisoned) << name_of(c) << " " << how;
  EXPECT_EQ(got.last, want.last) << name_of(c) << " " << how;
  EXPECT_EQ(got.tails, want.tails) << name_of(c) << " " << how;
  EXPECT_EQ(got.counts, want.counts) << name_of(c) << " " << how;
  const auto drawn = [&](int32_t t) { return t >= 0; };
  const auto count = std::count_if(got.tokens.begin(), got.tokens.end(), drawn);
  const bool none = c.kind == Kind::barred && c.m % 2 == 1;
  EXPECT_EQ(count > 0, !none && !(c.kind == Kind::poisoned && c.m == 1)) << name_of(c);
}

void check_wide(const HeadCase& c, const WideCut& cut) {
  const int sms = multiprocessors();
  if (!wide_cut_fits({{.m = c.m, .n = c.n, .k = c.k}, cut}, sms)) return;  // a small device
  compare(c, "tokens " + std::to_string(cut.tokens) + " parts " + std::to_string(cut.parts),
          [&](const GemmOperands& g) {
            return wide_gemm({g, cut}, sms, nullptr);
          });
}

void check_skinny(const HeadCase& c, int strips = -1, int parts = -1, bool fixed = false) {
  compare(c, "strips " + std::to_string(strips) + " parts " + std::to_string(parts),
          [&](const GemmOperands& g) {
            SkinnyGemm s{g};
            s.strips = strips;
            s.parts = parts;
            s.fixed_cut = fixed;
            return skinny_gemm(s, multiprocessors(), nullptr);
          });
}

// By the weight packed.
void check_slim(const HeadCase& c, const SlimCut& cut) {
  const SlimShape shape = {c.n, c.k};
  OnDevice<uint8_t> slim(shape.bytes());
  OnDevice<uint32_t> listed(1);
  compare(c, "slim, strips " + std::to_string(cut.strips) + " parts " + std::to_string(cut.parts),
          [&](const GemmOperands& g) {
            listed.zero();
            TR_CUDA_TRY(slim_pack(shape, g.weight, slim.get(), listed.get(), nullptr));
            EXPECT_LE(listed.read()[0], shape.list_room());
            SlimGemm s{g};
            s.slim = slim.get();
            s.cut = cut;
            return slim_gemm(s, multiprocessors(), nullptr);
          });
}

// Beside logits that wide_gemm writes.
void check_tall(const HeadCase& c, int rows) {
  const int sms = multiprocessors();
  compare(c, "tiles of " + std::to_string(rows), [&](const GemmOperands& g) {
    if (g.likeliest == nullptr) return wide_gemm({g, {256, 1}}, sms, nullptr);
    return likeliest_gemm({g, {rows}}, sms, nullptr);
  });
}

constexpr Kind kKinds[] = {Kind::any, Kind::ties, Kind::poisoned, Kind::barred};

TEST(Likeliest, OfWideProducts) {
  TR_NEEDS_SM90();
  for (const int m : {1, 17, 33, 64, 65, 129, 200, 256, 300, 512}) {
    for (const int tokens : {64, 128, 192, 256}) {
      const Kind kind = kKinds[(m + tokens / 64) % 4];
      check_wide({m, 1000, 136, kind}, {tokens, 0});
      check_wide({m, 1032, 264, kind, DType::f16}, {tokens, m % 3 + 1, 4});
    }
  }
}

// Few enough for compute-sanitizer.
TEST(Likeliest, OfOddSizes) {
  TR_NEEDS_SM90();
  check_wide({65, 1000, 72, Kind::ties}, {128, 0});
  check_wide({130, 40, 1000, Kind::barred}, {64, 2});
  check_wide({3, 24, 264}, {192, 3, 4});
  check_wide({300, 280, 136, Kind::poisoned}, {256, 0});
  check_skinny({5, 203, 200, Kind::ties}, 3, 2);
  check_skinny({40, 130, 72, Kind::poisoned});
}

// More tiles than clusters: shares that begin and end inside tiles, several columns.
TEST(Likeliest, OfWideProductsThatGoRound) {
  TR_NEEDS_SM90();
  for (const Kind kind : kKinds) {
    check_wide({70, 32000, 200, kind}, {128, 0});
    check_wide({256, 24008, 128, kind}, {256, 0});
    check_wide({300, 24008, 64, kind}, {192, 0});
    check_wide({500, 16000, 72, kind}, {256, 1});
  }
}

// Tiles that end behind the last token or row, several columns, more than a round, odd steps.
TEST(Likeliest, OfTallTiles) {
  TR_NEEDS_SM90();
  for (const Kind kind : {Kind::any, Kind::ties, Kind::poisoned}) {
    for (const int rows : {128, 256}) {
      check_tall({rows, 4160, 512, kind}, rows);
      check_tall({rows - 13, 1000, 328, kind, DType::f16}, rows);
      check_tall({rows + 1, 1032, 584, kind}, rows);
      check_tall({2, 24, 1096, kind}, rows);
      check_tall({rows * 2 - 5, 30008, 392, kind}, rows);
    }
  }
}

TEST(Likeliest, SaysWhatTallTilesDoNotTake) {
  LikeliestGemm g;
  g.m = 256;
  g.n = 128256;
  g.k = 4096;
  g.input_stride = g.k;
  GreedyRow row = {};
  g.likeliest = &row;
  EXPECT_TRUE(likeliest_gemm_fits(g));
  LikeliestGemm biased = g, shallow = g, plain = g, odd = g;
  biased.bias = &row;
  shallow.k = 320;
  plain.likeliest = nullptr;
  odd.tile.rows = 192;
  EXPECT_FALSE(likeliest_gemm_fits(biased));
  EXPECT_FALSE(likeliest_gemm_fits(shallow));
  EXPECT_FALSE(likeliest_gemm_fits(plain));
  EXPECT_FALSE(likeliest_gemm_fits(odd));
  EXPECT_EQ(likeliest_gemm(odd, 132, nullptr), cudaErrorInvalidValue);
}

TEST(Likeliest, OfFewRows) {
  TR_NEEDS_SM90();
  for (const int m : {1, 2, 8, 9, 16, 17, 32, 33, 64}) {
    const Kind kind = kKinds[m % 4];
    check_skinny({m, 1, 8});
    check_skinny({m, 1003, 1000, kind, DType::f16});
    check_skinny({m, 32003, 136, kKinds[(m + 1) % 4]});
    check_skinny({m, 70000, 64, kKinds[(m + 2) % 4]});
    for (const int strips : {1, 3, 6, 8, 14, 16}) check_skinny({m, 1200, 1096, kind}, strips, 3);
    check_skinny({m, 1003, 520, kind}, -1, -1, true);
  }
}

TEST(Likeliest, OfSlimWeights) {
  TR_NEEDS_SM90();
  for (const int m : {1, 8, 9, 16, 17, 32, 33, 64}) {
    const Kind kind = m % 2 == 0 ? Kind::barred : Kind::any,
               other = m % 2 == 0 ? Kind::poisoned : Kind::any;
    for (const int strips : {3, 4, 7, 8, 14, 16}) {
      if (!slim_cut_fits(m, {strips, 1})) continue;
      check_slim({m, 1200, 1096, kind}, {strips, 3});
      check_slim({m, 20003, 136, other}, {strips, 1});
    }
  }
}

}  // namespace
}  // namespace troupe::cuda
