#include "kernels/cuda/attention.hpp"

#include <numeric>

#include "kernels/cuda/test_support.hpp"

namespace troupe::cuda {
namespace {

using namespace testing;

struct Sequence {
  int rows, kv_len;
};
// Fewer than there are multiprocessors, so that a block of prefill_attention has several tiles.
constexpr int kFewBlocks = 5;

struct Case {
  std::vector<Sequence> sequences;
  int heads = 8, kv_heads = 2, dim = 128, block_tokens = 16;
  DType dtype = DType::bf16;
  int window = 0;
  float softcap = 0;
  bool alibi = false, sinks = false;
  int share = 256;
  bool causal = true;
  bool spread = false;  // over clusters, not by shares
};

// A batch whose cache blocks lie in shuffled order, on the host in f32 and on the device.
struct Scene {
  Case c;
  std::vector<float> query, keys, values, slopes, sinks;
  std::vector<int32_t> blocks;
  std::vector<AttentionSequence> sequences;
  int rows = 0, block_count = 0;

  explicit Scene(const Case& which) : c(which) {
    std::mt19937 rng(static_cast<unsigned>(c.heads * 100 + c.dim + c.window));
    for (const Sequence& s : c.sequences) {
      const int needed = (s.kv_len + c.block_tokens - 1) / c.block_tokens;
      sequences.push_back({rows, s.rows, s.kv_len, block_count, 0, c.causal ? 1 : 0});
      block_count += needed;
      rows += s.rows;
    }
    blocks.resize(static_cast<size_t>(block_count));
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), rng);
    const auto cache = static_cast<size_t>(block_count * c.kv_heads * c.block_tokens * c.dim);
    query = random_values(static_cast<size_t>(rows * c.heads * c.dim), 1.0F, c.dtype, rng);
    keys = random_values(cache, 1.0F, c.dtype, rng);
    values = random_values(cache, 1.0F, c.dtype, rng);
    slopes = random_values(static_cast<size_t>(c.heads), 0.2F, c.dtype, rng);
    sinks = random_values(static_cast<size_t>(c.heads), 1.0F, c.dtype, rng);
  }
  [[nodiscard]] float scale() const { return 1.0F / std::sqrt(static_cast<float>(c.dim)); }
  [[nodiscard]] size_t at(const AttentionSequence& s, int position, int kv_head) const {
    const int block = blocks[static_cast<size_t>(s.table_begin + position / c.block_tokens)];
    return static_cast<size_t>(
        ((block * c.kv_heads + kv_head) * c.block_tokens + position % c.block_tokens) * c.dim);
  }
  [[nodiscard]] AttentionShape shape(const OnDevice<float>& slopes_on,
                                     const OnDevice<float>& sinks_on) const {
    AttentionShape s;
    s.dtype = c.dtype;
    s.heads = c.heads;
    s.head_dim = c.dim;
    s.window = c.window;
    s.scale = scale();
    s.softcap = c.softcap;
    if (c.alibi) s.alibi_slopes = slopes_on.get();
    if (c.sinks) s.sinks = sinks_on.get();
    return s;
  }
  [[nodiscard]] PagedLayer layer(const void* k, const void* v) const {
    return {k,
            v,
            int64_t{c.kv_heads} * c.block_tokens * c.dim,
            int64_t{c.block_tokens} * c.dim,
            c.dim,
            block_count,
            c.block_tokens,
            c.kv_heads};
  }
};

void plain_row(const Scene& scene, const AttentionSequence& s, int row, int head, float* out) {
  const Case& c = scene.c;
  const int kv_head = head / (c.heads / c.kv_heads);
  const int own = c.causal ? s.kv_len - s.row_count + row : s.kv_len - 1;
  const int begin = c.causal && c.window > 0 ? std::max(0, own - c.window + 1) : 0;
  const float* q = scene.query.data() + ((s.row_begin + row) * c.heads + head) * c.dim;
  std::vector<float> score;
  float top = c.sinks ? scene.sinks[static_cast<size_t>(head)] : -INFINITY;
  for (int p = begin; p <= own; ++p) {
    const float* k = scene.keys.data() + scene.at(s, p, kv_head);
    float x = std::inner_product(q, q + c.dim, k, 0.0F) * scene.scale();
    if (c.softcap > 0) x = c.softcap * std::tanh(x / c.softcap);
    if (c.alibi) x += scene.slopes[static_cast<size_t>(head)] * static_cast<float>(p - own);
    score.push_back(x);
    top = std::max(top, x);
  }
  float total = c.sinks ? std::exp(scene.sinks[static_cast<size_t>(head)] - top) : 0.0F;
  for (float& x : score) total += x = std::exp(x - top);
  for (int p = begin; p <= own; ++p) {
    const float* v = scene.values.data() + scene.at(s, p, kv_head);
    for (int e = 0; e < c.dim; ++e) out[e] += score[static_cast<size_t>(p - begin)] / total * v[e];
  }
}

std::vector<float> plain(const Scene& scene) {
  const Case& c = scene.c;
  std::vector<float> out(scene.query.size(), 0.0F);
  for (const AttentionSequence& s : scene.sequences) {
    for (int row = 0; row < s.row_count; ++row) {
      for (int h = 0; h < c.heads; ++h) {
        plain_row(scene, s, row, h, out.data() + ((s.row_begin + row) * c.heads + h) * c.dim);
      }
    }
  }
  return out;
}

std::vector<DecodeWork> decode_work(const Scene& scene) {
  std::vector<DecodeWork> work;
  for (size_t i = 0; i < scene.sequences.size(); ++i) {
    const int kv_len = scene.sequences[i].kv_len, share = scene.c.share;
    const int shares = (kv_len + share - 1) / share;
    const auto partial = static_cast<int32_t>(work.size());
    for (int s = 0; s < shares; ++s) {
      work.push_back({scene.sequences[i], s * share, std::min(kv_len, (s + 1) * share), s, shares,
                      partial, static_cast<int32_t>(i)});
    }
  }
  return work;
}

void check(const Case& c, bool prefill);

// Sequences that start here, their keys and values in the rows of one projection.
void check_rows(const Case& c) {
  Scene scene(c);
  const auto dim = static_cast<size_t>(c.dim), kv = static_cast<size_t>(c.kv_heads) * dim,
             all = static_cast<size_t>(c.heads) * dim;
  const size_t stride = all + 2 * kv;
  std::vector<float> rows(static_cast<size_t>(scene.rows) * stride);
  for (const AttentionSequence& s : scene.sequences) {
    for (int t = 0; t < s.row_count; ++t) {
      float* row = rows.data() + static_cast<size_t>(s.row_begin + t) * stride;
      std::copy_n(scene.query.data() + static_cast<size_t>(s.row_begin + t) * all, all, row);
      for (int h = 0; h < c.kv_heads; ++h) {
        std::copy_n(scene.keys.data() + scene.at(s, t, h), dim,
                    row + all + static_cast<size_t>(h) * dim);
        std::copy_n(scene.values.data() + scene.at(s, t, h), dim,
                    row + all + kv + static_cast<size_t>(h) * dim);
      }
    }
  }
  OnDevice<uint16_t> qkv(packed(rows, c.dtype)), output(scene.query.size());
  OnDevice<float> slopes(scene.slopes), sinks(scene.sinks);
  OnDevice<AttentionSequence> sequences(scene.sequences);
  std::vector<PrefillWork> work;
  for (size_t i = 0; i < c.sequences.size(); ++i) {
    for (int tile = (c.sequences[i].rows - 1) / 128; tile >= 0; --tile)
      work.push_back({static_cast<int32_t>(i), tile});
  }
  OnDevice<PrefillWork> on_device(work);
  PrefillAttention a;
  a.shape = scene.shape(slopes, sinks);
  a.layer = scene.layer(qkv.get() + all, qkv.get() + all + kv);
  a.query = qkv.get();
  a.query_stride = a.row_stride = static_cast<int64_t>(stride);
  a.query_rows = scene.rows;
  a.output = output.get();
  a.output_stride = static_cast<int64_t>(all);
  a.sequences = sequences.get();
  a.work = on_device.get();
  a.work_count = static_cast<int32_t>(work.size());
  TR_CUDA_OK(prefill_attention(a, kFewBlocks, nullptr));
  TR_CUDA_OK(cudaDeviceSynchronize());
  const auto bits = output.read();
  std::vector<float> got(bits.size());
  std::transform(bits.begin(), bits.end(), got.begin(),
                 [&](uint16_t b) { return from_bits(b, c.dtype); });
  EXPECT_LT(relative_error(got, plain(scene)), c.dtype == DType::f16 ? 2e-3 : 1e-2);
}

void check(const Case& c, bool prefill) {
  const Scene scene(c);
  OnDevice<uint16_t> query(packed(scene.query, c.dtype)), keys(packed(scene.keys, c.dtype)),
      values(packed(scene.values, c.dtype)), output(scene.query.size());
  OnDevice<float> slopes(scene.slopes), sinks(scene.sinks);
  OnDevice<int32_t> blocks(scene.blocks);
  OnDevice<AttentionSequence> sequences(scene.sequences);
  const int64_t stride = int64_t{c.heads} * c.dim;
  cudaDeviceProp device = {};
  TR_CUDA_OK(cudaGetDeviceProperties(&device, 0));
  const AttentionShape shape = scene.shape(slopes, sinks);
  const PagedLayer layer = scene.layer(keys.get(), values.get());
  if (prefill) {
    std::vector<PrefillWork> work;
    for (size_t i = 0; i < c.sequences.size(); ++i) {
      for (int t = (c.sequences[i].rows - 1) / 128; t >= 0; --t) {
        work.push_back({static_cast<int32_t>(i), t});
      }
    }
    OnDevice<PrefillWork> on_device(work);
    TR_CUDA_OK(prefill_attention(
        {shape, layer, query.get(), stride, scene.rows, output.get(), stride, sequences.get(),
         on_device.get(), static_cast<int32_t>(work.size()), blocks.get()},
        kFewBlocks, nullptr));
    TR_CUDA_OK(cudaDeviceSynchronize());
  } else {
    const auto work = decode_work(scene);
    OnDevice<DecodeWork> on_device(work);
    OnDevice<int32_t> count(std::vector<int32_t>{static_cast<int32_t>(work.size())});
    OnDevice<float> partials(work.size() * static_cast<size_t>(c.kv_heads) *
                             decode_partials_floats(c.dim));
    OnDevice<uint32_t> counters(c.sequences.size() * static_cast<size_t>(c.kv_heads) + 2);
    counters.zero();
    int32_t rows_max = 1;
    for (const Sequence& q : c.sequences) rows_max = std::max(rows_max, q.rows);
    DecodeAttention a = {shape,           layer,          query.get(),       stride,
                         output.get(),    stride,         on_device.get(),   1,
                         count.get(),     blocks.get(),   rows_max,          partials.get(),
                         counters.get()};
    if (c.spread) {
      a.sequences = sequences.get();
      a.sequence_count = static_cast<int32_t>(c.sequences.size());
      EXPECT_TRUE(decode_spreads(shape, layer, 1, device.multiProcessorCount));
    }
    for (int repeat = 0; repeat < 2; ++repeat)
      TR_CUDA_OK(decode_attention(a, device.multiProcessorCount, nullptr));
    TR_CUDA_OK(cudaDeviceSynchronize());
  }
  const auto bits = output.read();
  std::vector<float> got(bits.size());
  std::transform(bits.begin(), bits.end(), got.begin(),
                 [&](uint16_t b) { return from_bits(b, c.dtype); });
  EXPECT_LT(relative_error(got, plain(scene)), c.dtype == DType::f16 ? 2e-3 : 1e-2)
      << "heads " << c.heads << " dim " << c.dim << " window " << c.window << " block "
      << c.block_tokens;
}

TEST(DecodeAttention, EqualsThePlainDefinition) {
  TR_NEEDS_DEVICE();
  const std::vector<Sequence> ragged = {{1, 1}, {1, 15}, {1, 16}, {1, 17}, {1, 300}, {1, 1000}};
  check({ragged}, false);
  check({ragged, 8, 8, 64, 32, DType::f16}, false);
  check({ragged, 16, 1, 128, 64}, false);
  check({ragged, 4, 2, 256, 16}, false);
  check({{{2, 400}, {4, 4}, {3, 129}}, 8, 2, 128, 16}, false);
  check({ragged, 8, 2, 128, 128}, false);
  check({ragged, 32, 2, 128, 64}, false);
  check({ragged, 12, 1, 64, 16, DType::f16}, false);
  check({ragged, 16, 1, 256, 64}, false);
}

// More items than blocks take by themselves, of every length: the counter that hands out the rest.
TEST(DecodeAttention, HandsOutManyItems) {
  TR_NEEDS_DEVICE();
  std::vector<Sequence> many;
  for (int i = 0; i < 200; ++i) many.push_back({1, 1 + (200 - i) * 3});
  Case c{many, 8, 8, 128, 64};
  check(c, false);
  c.share = 128;
  check(c, false);
  c.dim = 64;
  c.window = 70;
  check(c, false);
}

TEST(DecodeAttention, SpreadsSequencesOverClusters) {
  TR_NEEDS_SM90();
  const std::vector<Sequence> ragged = {{1, 1},   {1, 16},  {1, 63},   {1, 64},  {1, 65},
                                        {1, 512}, {1, 513}, {1, 1000}, {1, 2048}};
  for (Case c : {Case{ragged}, Case{ragged, 8, 8, 64, 32, DType::f16}, Case{ragged, 16, 1, 128, 64},
                 Case{{{1, 200}}, 14, 2, 64, 128}, Case{{{1, 385}}, 32, 4, 128, 64}}) {
    c.spread = true;
    check(c, false);
    c.sinks = true;
    check(c, false);
  }
}

TEST(DecodeAttention, WindowsSoftCapsSlopesSinks) {
  TR_NEEDS_DEVICE();
  const std::vector<Sequence> ragged = {{1, 40}, {2, 333}, {1, 700}};
  for (const int kv_heads : {2, 1}) {  // up to eight rows of a key, and sixteen
    Case c{ragged, 8, kv_heads};
    c.window = 100;
    check(c, false);
    c.softcap = 5.0F;
    check(c, false);
    c.alibi = c.sinks = true;
    check(c, false);
  }
}

// What a block may have is 64 KiB on 7.5, 99 on 8.6 and 8.9, 163 on 8.0 and 227 on 9.0; a shape
// that asks for more is left to the plain kernel.
TEST(DecodeAttention, AsksForNoMoreSharedMemoryThanThereIs) {
  const auto fits = [](int dim, int rows, size_t kib) {
    AttentionShape shape;
    shape.heads = 4;
    shape.head_dim = dim;
    PagedLayer layer;
    layer.kv_heads = 1;
    layer.block_tokens = 64;
    return decode_attention_fits(shape, layer, rows, kib << 10);
  };
  EXPECT_TRUE(fits(64, 4, 64));
  EXPECT_FALSE(fits(128, 1, 64));
  EXPECT_TRUE(fits(128, 4, 99));
  EXPECT_FALSE(fits(256, 1, 99));
  EXPECT_TRUE(fits(256, 1, 163));
  EXPECT_TRUE(fits(256, 4, 227));
  EXPECT_FALSE(fits(128, 5, 227));  // more rows than go together
  EXPECT_FALSE(fits(96, 1, 227));
}

TEST(PrefillAttention, EqualsThePlainDefinition) {
  TR_NEEDS_SM90();
  const std::vector<Sequence> ragged = {{1, 1},     {64, 64},   {127, 200},
                                        {128, 128}, {129, 500}, {300, 300}};
  check({ragged}, true);
  check({ragged, 4, 4, 64, 64, DType::f16}, true);
  check({ragged, 4, 1, 128, 128}, true);
  check({{{200, 900}}, 2, 1, 128, 256}, true);
  check({{{200, 400}}, 4, 2, 96, 64}, true);
}

TEST(PrefillAttention, ReadsTheProjectionsRows) {
  TR_NEEDS_SM90();
  check_rows({{{1, 1}, {130, 130}, {300, 300}, {64, 64}}});
  Case c{{{200, 200}, {129, 129}}, 4, 4, 64, 16, DType::f16};
  c.window = 50;
  check_rows(c);
  check_rows({{{1, 1}, {130, 130}, {200, 200}}, 4, 2, 80, 16});
  check_rows({{{140, 140}}, 3, 3, 72, 16, DType::f16});
  check_rows({{{129, 129}}, 2, 1, 40, 16});
}

TEST(PrefillAttention, SeesAllRowsOfAPackedItem) {
  TR_NEEDS_SM90();
  Case c{{{1, 1}, {300, 300}, {128, 128}}, 4, 4, 80, 16};
  c.causal = false;
  check_rows(c);
}

TEST(PrefillAttention, WindowsSinksAndFullView) {
  TR_NEEDS_SM90();
  Case c{{{300, 300}, {150, 600}}};
  c.window = 100;
  check(c, true);
  c.sinks = true;
  check(c, true);
  c.window = 0;
  c.causal = false;
  check(c, true);
}

}  // namespace
}  // namespace troupe::cuda
