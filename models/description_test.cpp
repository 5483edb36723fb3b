// What no family uses yet and vision models will: cross-attention layers, and weights chosen per
// token by modality. Synthetic descriptions with dummy weights, against arithmetic written out
// here.
#include "models/description.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cpu/cpu_backend.hpp"
#include "models/dummy.hpp"
#include "models/families/common.hpp"
#include "models/folder.hpp"
#include "models/test_runner.hpp"

namespace troupe::models {
namespace {

using testing::Piece;
using testing::Runner;
using testing::Scored;

constexpr int32_t kVocab = 29, kHidden = 12, kInner = 20, kHeads = 3, kDim = 4, kEncoder = 10;
constexpr Sizes kSizes{.vocab = kVocab,
                       .hidden = kHidden,
                       .layers = 1,
                       .heads = kHeads,
                       .kv_heads = 1,
                       .head_dim = kDim,
                       .inner = kInner,
                       .context = 64};

Layer text_layer(const std::string& prefix) {
  Layer layer;
  layer.mixer = separate_attention(kSizes, {prefix, false, false});
  layer.ffn = gated_ffn(prefix, kHidden, kInner, Activation::silu);
  layer.norm = rms_norm(prefix + "n1", kHidden, 1e-6);
  layer.ffn_norm = rms_norm(prefix + "n2", kHidden, 1e-6);
  return layer;
}

ModelDescription frame(std::vector<Layer> layers) {
  ModelDescription d;
  d.family = "synthetic";
  d.vocab = kVocab;
  d.hidden = kHidden;
  d.context_length = 64;
  d.ropes = {RopeConfig{.rotary_dim = kDim, .short_factors = {}, .long_factors = {}}};
  d.embedding = {.name = "embed", .rows = kVocab, .cols = kHidden, .axis = ShardAxis::vocabulary};
  d.layers = std::move(layers);
  d.final_norm = rms_norm("norm", kHidden, 1e-6);
  return d;
}

Layer cross_layer() {
  Cross m;
  m.heads = kHeads;
  m.kv_heads = 1;
  m.head_dim = kDim;
  m.encoder_rows = 6;
  m.encoder_dim = kEncoder;
  m.scale = 0.5F;
  m.q.parts = {split_rows("x.q", kHeads * kDim, kHidden, false, kDim)};
  m.kv.parts = {split_kv("x.k", kDim, kEncoder, false, kDim),
                split_kv("x.v", kDim, kEncoder, false, kDim)};
  m.out.parts = {split_columns("x.o", kHidden, kHeads * kDim, false, kDim)};
  m.q_norm = rms_norm("x.qn", kDim, 1e-6);
  m.q_norm.group = kDim;
  Layer layer = text_layer("x.");
  layer.mixer = std::move(m);
  layer.mixer_gate = vector_spec("x.gate", 1, Fill::ones);
  layer.ffn_gate = vector_spec("x.ffn_gate", 1, Fill::ones);
  return layer;
}

struct Loaded {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Runner> runner;
};

Loaded load(ModelDescription d) {
  Loaded out{std::move(cpu::open_cpu_backend({})).value(), nullptr};
  LoadOptions options;
  options.format = LoadFormat::dummy;
  auto folder = Folder::described(std::move(d), DType::f32, options);
  EXPECT_TRUE(folder.ok()) << folder.status().message();
  out.runner = std::move(Runner::open(*folder, *out.backend, nullptr, options)).value();
  return out;
}

std::vector<Scored> run(Runner& runner, std::vector<int32_t> tokens,
                        std::vector<uint8_t> modality = {}, int32_t cross_len = 0) {
  Piece piece{.sequence = 0,
              .prompt_len = 8,
              .tokens = tokens,
              .targets = tokens,
              .modality = std::move(modality),
              .cross_len = cross_len};
  auto scored = runner.step({piece});
  EXPECT_TRUE(scored.ok()) << scored.status().message();
  return std::move(scored).value();
}

void expect_same(const std::vector<Scored>& a, const std::vector<Scored>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].best, b[i].best);
    EXPECT_NEAR(a[i].logprob, b[i].logprob, 1e-4) << i;
  }
}

// ---- the arithmetic, written out ----
using Vector = std::vector<double>;

Vector times(const std::string& name, int64_t out, int64_t in, const Vector& x) {
  const auto weights = make_dummy(name, static_cast<size_t>(out * in), DType::f32, Fill::random, 0);
  const auto* w = reinterpret_cast<const float*>(weights.get());
  Vector y(static_cast<size_t>(out), 0.0);
  for (size_t r = 0; r < y.size(); ++r) {
    for (size_t c = 0; c < x.size(); ++c) y[r] += w[r * x.size() + c] * x[c];
  }
  return y;
}

Vector normed(Vector x) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  for (double& v : x) v /= std::sqrt(squares / static_cast<double>(x.size()) + 1e-6);
  return x;
}

void add_scaled(Vector& x, const Vector& y, double scale) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += scale * y[i];
}

// Logprob of `target` after one gated cross-attention layer whose encoder rows are all `state`:
// whatever the scores, the result is that state's value.
double written_out(int32_t token, const Vector& state, int32_t target) {
  const auto table = make_dummy("embed", size_t{kVocab} * kHidden, DType::f32, Fill::random, 0);
  const auto* row = reinterpret_cast<const float*>(table.get()) + token * kHidden;
  Vector x(row, row + kHidden);
  const Vector value = times("x.v.weight", kDim, kEncoder, state);
  Vector heads;
  for (int h = 0; h < kHeads; ++h) heads.insert(heads.end(), value.begin(), value.end());
  add_scaled(x, times("x.o.weight", kHidden, kHeads * kDim, heads), std::tanh(1.0));
  const Vector n = normed(x);
  Vector gate = times("x.gate_proj.weight", kInner, kHidden, n);
  const Vector up = times("x.up_proj.weight", kInner, kHidden, n);
  for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1.0 + std::exp(-gate[i]));
  add_scaled(x, times("x.down_proj.weight", kHidden, kInner, gate), std::tanh(1.0));
  const Vector logits = times("embed", kVocab, kHidden, normed(x));
  double sum = 0;
  for (const double l : logits) sum += std::exp(l);
  return logits[static_cast<size_t>(target)] - std::log(sum);
}

TEST(Cross, EncoderRowsReachTheLogits) {
  Loaded m = load(frame({cross_layer()}));
  const Vector state = {40, -35, 20, 5, 60, -80, 30, 75, -10, 25};
  std::vector<float> rows;
  for (int r = 0; r < 5; ++r) rows.insert(rows.end(), state.begin(), state.end());
  m.runner->encode_next(0, {rows.data(), DType::f32, 5, kEncoder, kEncoder});
  const std::vector<int32_t> tokens = {3, 17, 28};
  auto got = run(*m.runner, tokens, {}, 5);
  ASSERT_EQ(got.size(), tokens.size());
  double moved = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_NEAR(got[i].logprob, written_out(tokens[i], state, tokens[i]), 1e-4);
    moved += std::abs(got[i].logprob - written_out(tokens[i], Vector(kEncoder, 0.0), tokens[i]));
  }
  EXPECT_GT(moved, 1e-2);  // the encoder's part is no rounding error
  // A later step reads what was written before.
  got = run(*m.runner, {9}, {}, 5);
  EXPECT_NEAR(got[0].logprob, written_out(9, state, 9), 1e-4);
}

TEST(Cross, ASequenceWithoutAPictureDoesNotNoticeOneWithIt) {
  Loaded alone = load(frame({text_layer("a."), cross_layer(), text_layer("b.")}));
  Loaded together = load(frame({text_layer("a."), cross_layer(), text_layer("b.")}));
  const std::vector<float> states(size_t{4} * kEncoder, 7.5F);
  const Matrix encoder{const_cast<float*>(states.data()), DType::f32, 4, kEncoder, kEncoder};
  const auto piece = [](int32_t sequence, std::vector<int32_t> tokens, int32_t cross_len) {
    return Piece{.sequence = sequence, .prompt_len = 8, .tokens = tokens, .targets = tokens,
                 .modality = {}, .cross_len = cross_len};
  };
  const auto step = [](Loaded& m, std::vector<Piece> pieces) {
    auto scored = m.runner->step(pieces);
    EXPECT_TRUE(scored.ok()) << scored.status().message();
    return std::move(scored).value();
  };
  // A prompt and two decode steps of each: of text only, then with a picture, then text again.
  for (const auto& tokens : std::vector<std::vector<int32_t>>{{5, 6, 7}, {8}, {9}}) {
    std::vector<Scored> expected = step(alone, {piece(0, tokens, 0)});
    if (tokens.size() > 1) alone.runner->encode_next(0, encoder);  // by place in the step
    for (const Scored& s : step(alone, {piece(1, tokens, 4)})) expected.push_back(s);
    for (const Scored& s : step(alone, {piece(2, tokens, 0)})) expected.push_back(s);
    if (tokens.size() > 1) together.runner->encode_next(1, encoder);
    expect_same(step(together, {piece(0, tokens, 0), piece(1, tokens, 4), piece(2, tokens, 0)}), expected);
  }
}

TEST(Cross, WithoutEncoderRowsTheLayerIsNotThere) {
  Loaded with = load(frame({text_layer("a."), cross_layer(), text_layer("b.")}));
  Loaded without = load(frame({text_layer("a."), text_layer("b.")}));
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5};
  expect_same(run(*with.runner, tokens), run(*without.runner, tokens));
  EXPECT_EQ(with.runner->model().facts().groups.size(), 2U);
  EXPECT_EQ(with.runner->model().facts().groups[1].kind, CacheKind::fixed);
  EXPECT_EQ(with.runner->model().facts().groups[1].fixed_rows, 6);
}

// A layer whose vision rows take the weights of `vision`.
Layer expert_layer(const std::string& text, const std::string& vision) {
  Layer layer = text_layer(text);
  Layer other = text_layer(vision);
  auto& mixer = std::get<GroupedQuery>(layer.mixer);
  auto& ffn = std::get<Dense>(layer.ffn);
  mixer.qkv.vision = std::get<GroupedQuery>(other.mixer).qkv.parts;
  mixer.out.vision = std::get<GroupedQuery>(other.mixer).out.parts;
  ffn.up.vision = std::get<Dense>(other.ffn).up.parts;
  ffn.down.vision = std::get<Dense>(other.ffn).down.parts;
  return layer;
}

TEST(Modality, EachRowTakesItsWeights) {
  Loaded both = load(frame({expert_layer("t.", "v."), expert_layer("t.", "v.")}));
  Loaded text = load(frame({text_layer("t."), text_layer("t.")}));
  Loaded vision = load(frame({text_layer("v."), text_layer("v.")}));
  const std::vector<int32_t> tokens = {7, 8, 9, 10};
  expect_same(run(*both.runner, tokens), run(*text.runner, tokens));
  both.runner->forget(0);
  expect_same(run(*both.runner, tokens, {1, 1, 1, 1}), run(*vision.runner, tokens));
  const auto a = run(*text.runner, tokens), b = run(*vision.runner, tokens);
  EXPECT_GT(std::abs(a[3].logprob - b[3].logprob), 1e-6);  // the two differ at all
}

TEST(Modality, MixedRowsInOneStepOrOneByOne) {
  Loaded at_once = load(frame({expert_layer("t.", "v."), expert_layer("t.", "v.")}));
  Loaded one_by_one = load(frame({expert_layer("t.", "v."), expert_layer("t.", "v.")}));
  const std::vector<int32_t> tokens = {7, 8, 9, 10, 11};
  const std::vector<uint8_t> modality = {0, 1, 1, 0, 1};
  std::vector<Scored> steps;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto got = run(*one_by_one.runner, {tokens[i]}, {modality[i]});
    steps.insert(steps.end(), got.begin(), got.end());
  }
  expect_same(run(*at_once.runner, tokens, modality), steps);
}

}  // namespace
}  // namespace troupe::models
