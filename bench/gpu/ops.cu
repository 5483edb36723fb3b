// Each CUDA kernel alone against the ceiling measured in the same run: ops [JSON FILE] [PART ...];
// parts are attention, small, sampling, products, large and sweep (how skinny_gemm may be cut; only
// when named).
#include <cmath>
#include <cstdio>
#include <cstring>

#include "bench/gpu/ceilings.cuh"
#include "bench/gpu/decode_scene.cuh"
#include "bench/gpu/large_gemm.hpp"
#include "bench/gpu/measure.cuh"
#include "bench/gpu/products.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/sampling.hpp"
#include "kernels/cuda/skinny_gemm.hpp"

namespace troupe::bench {
namespace {

using namespace troupe::cuda;

using Bench = DeviceBench;

double skinny(Bench& b, const ProductPool& pool, const Product& p, int m, int variant, int strips,
              int parts, int replays) {
  SkinnyGemm g{pool.operands(p, m)};
  g.variant = variant;
  g.strips = strips;
  g.parts = parts;
  const int launches = static_cast<int>(std::min<size_t>(12, std::max<size_t>(4, pool.slots(p))));
  return microseconds(
      b.stream, launches,
      [&](int i) {
        g.weight = pool.weight(p, i);
        check(skinny_gemm(g, b.sms, b.stream), "skinny_gemm");
      },
      replays);
}

void products(Bench& b) {
  const ProductPool pool(b.sms);
  LargeGemm large;
  for (const Product& p : kProducts) {
    for (const int m : {1, 8, 16, 32, 64}) {
      const double bytes = static_cast<double>(p.bytes()) + 2.0 * m * (p.k + p.n);
      const std::string name = std::string(p.name) + " m " + std::to_string(m);
      for (int v = 0; v < (m > 32 ? kSkinnyVariants : 1); ++v) {
        b.report.add({name + " skinny v" + std::to_string(v), skinny(b, pool, p, m, v, -1, -1, 7),
                      bytes, true, b.ceilings.read});
      }
      const double us = microseconds(b.stream, 12, [&](int i) {
        large.multiply(m, p.n, p.k, pool.input.as(), pool.weight(p, i), pool.output.as(), b.stream,
                       p.is_head());
      });
      b.report.add({name + " cuBLASLt", us, bytes, true, b.ceilings.read});
    }
  }
}

// cuBLASLt's first guess, and the algorithm that timing chooses.
void large_products(Bench& b) {
  const ProductPool pool(b.sms);
  for (const int m : {64, 128, 256, 2048, 4096, 8192}) {
    for (const Product& p : kProducts) {
      const bool head = p.is_head();
      if (head && m > 256) continue;
      const int launches = m > 1000 ? 4 : 12;
      LargeGemm guess, tuned;
      const auto time = [&](LargeGemm& large, const char* how) {
        const double us = microseconds(b.stream, launches, [&](int i) {
          large.multiply(m, p.n, p.k, pool.input.as(), pool.weight(p, i), pool.output.as(),
                         b.stream, head);
        });
        const std::string name =
            std::string(p.name) + " m " + std::to_string(m) + " cuBLASLt " + how;
        if (m <= 256) {
          b.report.add({name, us, static_cast<double>(p.bytes()), true, b.ceilings.read});
        } else {
          b.report.add({name, us, 2.0 * m * p.n * p.k, false, b.ceilings.gemm});
        }
      };
      time(guess, "first guess");
      std::vector<const void*> weights;
      for (int i = 0; i < 12; ++i) weights.push_back(pool.weight(p, i));
      tuned.tune(m, p.n, p.k, pool.input.as(), weights, pool.output.as(), b.stream, head);
      time(tuned, "tuned");
    }
  }
}

void sweep(Bench& b) {
  struct Try {
    double us;
    int variant, strips, parts;
  };
  const ProductPool pool(b.sms);
  for (const Product& p : kProducts) {
    for (const int m : {1, 8, 32, 64}) {
      std::vector<Try> tries;
      for (int v = 0; v < (m > 32 ? kSkinnyVariants : 1); ++v) {
        for (int strips = 1; strips <= (v == 1 ? 8 : 4); ++strips) {
          if (v == 1 && strips < 3) continue;
          for (const int parts : {1, 2, 3, 4, 8}) {
            if (p.n / 16 / strips * parts > (parts > 1 ? (v == 2 ? 500 : 900) : 9000)) continue;
            tries.push_back({skinny(b, pool, p, m, v, strips, parts, 3), v, strips, parts});
          }
        }
      }
      std::sort(tries.begin(), tries.end(), [](const Try& x, const Try& y) { return x.us < y.us; });
      std::printf("%s m %d, by shape %.1f us:", p.name, m, skinny(b, pool, p, m, -1, -1, -1, 5));
      for (size_t i = 0; i < std::min<size_t>(tries.size(), 6); ++i) {
        const Try& t = tries[i];
        std::printf("  %.1f (v%d, %d strips, %d parts)", t.us, t.variant, t.strips, t.parts);
      }
      std::printf("\n");
      std::fflush(stdout);
    }
  }
}

void sampling(Bench& b) {
  const int vocab = 128256;
  const Memory source = Memory::random(size_t{256} * vocab * 2, 1.0F, 12);
  struct Draw {
    const char* name;
    float temperature, top_p;
    int32_t top_k, top_n;
  };
  const Draw kinds[] = {{"greedy", 0.0F, 1.0F, 0, -1},
                        {"top-k 50, top-p 0.95, seed", 0.8F, 0.95F, 50, -1},
                        {"top-p 0.5", 0.05F, 0.5F, 0, -1},
                        {"temperature alone", 0.8F, 1.0F, 0, -1},
                        {"greedy, 5 likeliest reported", 0.0F, 1.0F, 0, 5}};
  for (const int rows : {1, 64, 256}) {
    for (const Draw& kind : kinds) {
      std::vector<LogitRow> wanted;
      std::vector<DrawRule> draws;
      for (int i = 0; i < rows; ++i) {
        wanted.push_back({i, i, i, -1, kind.top_n});
        DrawRule r = {};
        r.slot = i;
        r.top_p = kind.top_p;
        r.top_k = kind.top_k;
        r.temperature = kind.temperature;
        r.repetition_penalty = 1.0F;
        r.seed = static_cast<uint64_t>(i);
        r.mask_row = -1;
        draws.push_back(r);
      }
      const Memory d_rows = Memory::copy(wanted), d_draws = Memory::copy(draws);
      const Memory last = Memory::zeros(1024), tails = Memory::zeros(256 * kTail * 4),
                   counts = Memory::zeros(1024), drawn = Memory::zeros(256 * sizeof(Drawn));
      // Random bf16 pairs read as f32: the upper one decides.
      Sampling s;
      s.logits = {source.as(), DType::f32, rows, vocab, vocab};
      s.rows = d_rows.as<LogitRow>();
      s.draws = d_draws.as<DrawRule>();
      s.rules = rows;
      s.slots =
          SlotMemory{last.as<int32_t>(), tails.as<int32_t>(), counts.as<int32_t>(), nullptr, vocab};
      const Memory meeting = Memory::zeros(256 * sizeof(GreedyRow));
      s.greedy = meeting.as<GreedyRow>();
      const Memory tops = Memory::zeros(256 * 8 * sizeof(TopToken));
      const Memory target =
          Memory::copy(std::vector<DrawTarget>{{drawn.as<Drawn>(), tops.as<TopToken>()}});
      s.target = target.as<DrawTarget>();
      s.tops_stride = 8;
      const bool greedy = kind.temperature == 0.0F && kind.top_n < 0;
      const double us = microseconds(b.stream, 8, [&](int) {
        check(greedy ? sample_greedy(s, b.sms, b.stream) : sample(s, b.stream), "sample");
      });
      b.report.add({"sampling " + std::to_string(rows) + " rows of 128256, " +
                        kind.name,
                    us, 4.0 * rows * vocab, true, b.ceilings.read});
    }
  }
}

void decode(Bench& b, const Cached& c, int share) {
  DecodeScene scene(c, share);
  const double us = microseconds(b.stream, 16, [&](int i) { scene.attend(i, b.sms, b.stream); });
  b.report.add({"decode attention " + std::to_string(c.batch) + " x " + std::to_string(c.kv_len) +
                    ", share " + std::to_string(share),
                us, 4.0 * c.batch * c.kv_len * DecodeScene::kKvHeads * DecodeScene::kDim, true,
                b.ceilings.read});
}

void prefill(Bench& b, int batch, int length, int kv_heads, int block_tokens) {
  const int heads = 32, dim = 128, per_sequence = (length + block_tokens - 1) / block_tokens,
            blocks = batch * per_sequence;
  const size_t elements =
      static_cast<size_t>(blocks * block_tokens) * static_cast<size_t>(kv_heads * dim);
  const Memory keys = Memory::random(elements, 1.0F, 4), values = Memory::random(elements, 1.0F, 5);
  const Memory query = Memory::random(
      static_cast<size_t>(batch) * static_cast<size_t>(length) * heads * dim, 1.0F, 6);
  const Memory output = Memory::zeros(query.bytes());
  std::vector<AttentionSequence> sequences;
  std::vector<PrefillWork> work;
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  for (int i = 0; i < blocks; ++i) table[static_cast<size_t>(i)] = i;
  for (int s = 0; s < batch; ++s)
    sequences.push_back({s * length, length, length, s * per_sequence, 0, 1});
  for (int t = (length - 1) / 128; t >= 0; --t) {
    for (int s = 0; s < batch; ++s) work.push_back({s, t});
  }
  const Memory d_sequences = Memory::copy(sequences), d_work = Memory::copy(work),
               d_table = Memory::copy(table);
  PrefillAttention a;
  a.shape.heads = heads;
  a.shape.head_dim = dim;
  a.shape.scale = 0.088F;
  a.layer = layer_of(blocks, kv_heads, block_tokens, dim);
  a.layer.keys = keys.as();
  a.layer.values = values.as();
  a.query = query.as();
  a.output = output.as();
  a.query_stride = a.output_stride = heads * dim;
  a.query_rows = int64_t{batch} * length;
  a.sequences = d_sequences.as<AttentionSequence>();
  a.work = d_work.as<PrefillWork>();
  a.work_count = static_cast<int32_t>(work.size());
  a.blocks = d_table.as<int32_t>();
  const double us = microseconds(
      b.stream, 4, [&](int) { check(prefill_attention(a, b.sms, b.stream), "prefill_attention"); });
  b.report.add({"prefill attention " + std::to_string(batch) + " x " + std::to_string(length) +
                    ", kv heads " + std::to_string(kv_heads) + ", blocks of " +
                    std::to_string(block_tokens),
                us, 2.0 * batch * heads * dim * static_cast<double>(length) * length, false,
                b.ceilings.gemm});
}

void attention(Bench& b) {
  for (const int block : {16, 64, 128}) prefill(b, 1, 8192, 8, block);
  prefill(b, 1, 2048, 8, 64);
  prefill(b, 8, 2048, 8, 64);
  for (const int share : {1024, 2048}) decode(b, {64, 8192}, share);
  for (const int share : {256, 512, 1024}) decode(b, {64, 1024}, share);
  for (const int share : {128, 256, 512}) decode(b, {64, 256}, share);
  for (const int share : {128, 256}) decode(b, {1, 384}, share);
  for (const int share : {128, 256, 512}) decode(b, {1, 8192}, share);
  decode(b, {8, 384}, 128);
  for (const int share : {256, 512}) decode(b, {256, 384}, share);
  for (const int share : {512, 1024}) decode(b, {128, 1024}, share);
}

void small_ops(Bench& b) {
  const int hidden = 4096, inner = 14336;
  const Memory x = Memory::random(size_t{8192} * 2 * inner, 1.0F, 7),
               y = Memory::random(size_t{8192} * inner, 1.0F, 8);
  const Memory w = Memory::random(hidden, 1.0F, 9);
  const auto matrix = [](const Memory& m, int64_t rows, int64_t cols, DType t = DType::bf16) {
    return Matrix{m.as(), t, rows, cols, cols};
  };
  for (const int rows : {1, 64, 8192}) {
    Norm n;
    n.input = matrix(x, rows, hidden);
    n.residual =
        Matrix{x.as<char>() + size_t{8192} * hidden * 2, DType::bf16, rows, hidden, hidden};
    n.weight = matrix(w, 1, hidden);
    n.output = matrix(y, rows, hidden);
    double us = microseconds(b.stream, 20, [&](int) { check(norm(n, b.stream), "norm"); });
    b.report.add({"residual + rms norm 4096, rows " + std::to_string(rows), us, 8.0 * rows * hidden,
                  true, b.ceilings.read});
    us = microseconds(b.stream, 20, [&](int) {
      check(activation(Curve::silu, true, matrix(x, rows, 2 * inner), matrix(y, rows, inner),
                       b.stream),
            "activation");
    });
    b.report.add({"silu * up 14336, rows " + std::to_string(rows), us, 6.0 * rows * inner, true,
                  b.ceilings.read});
    std::vector<int32_t> positions(static_cast<size_t>(rows)),
        prompts(static_cast<size_t>(rows), 8192), cache_rows(static_cast<size_t>(rows));
    for (int i = 0; i < rows; ++i)
      positions[static_cast<size_t>(i)] = cache_rows[static_cast<size_t>(i)] = i;
    std::vector<float> frequencies(64);
    for (int i = 0; i < 64; ++i)
      frequencies[static_cast<size_t>(i)] = std::pow(500000.0F, static_cast<float>(-i) / 64.0F);
    const Memory p = Memory::copy(positions), l = Memory::copy(prompts),
                 c = Memory::copy(cache_rows), f = Memory::copy(frequencies);
    RopeWrite r;
    r.rope.rotary_dim = 128;
    r.rope.frequencies = f.as<float>();
    const Matrix qkv = matrix(x, rows, 6144);
    r.query = qkv.columns(0, 4096);
    r.key = qkv.columns(4096, 1024);
    r.value = qkv.columns(5120, 1024);
    r.heads = 32;
    r.head_dim = r.key_dim = r.value_dim = 128;
    r.kv_heads = 8;
    r.positions = p.as<int32_t>();
    r.prompt_lengths = l.as<int32_t>();
    r.cache_rows = c.as<int32_t>();
    r.cache = {y.as(), y.as<char>() + size_t{8192} * 2048, DType::bf16, 8, 128, 128, 16, 512, 128};
    us = microseconds(b.stream, 20, [&](int) { check(rope_write(r, b.stream), "rope_write"); });
    b.report.add({"rope + cache write 32/8 x 128, rows " + std::to_string(rows), us,
                  2.0 * rows * (6144 + 6144 + 1024), true, b.ceilings.read});
  }
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  using namespace troupe::bench;
  Bench b;
  b.open();
  const auto named = [&](const char* part, bool by_default = true) {
    for (int i = 2; i < argc; ++i) {
      if (std::strcmp(argv[i], part) == 0) return true;
    }
    return argc <= 2 && by_default;
  };
  if (named("attention")) attention(b);
  if (named("small")) small_ops(b);
  if (named("sampling")) sampling(b);
  if (named("products")) products(b);
  if (named("large")) large_products(b);
  if (named("sweep", false)) sweep(b);
  b.report.write(argc > 1 ? argv[1] : nullptr);
  return 0;
}
