// Cases of attention over the paged cache. Every block first holds NaN, as a sequence that went
// wrong would leave it: a backend must not let what it does not see leak into what it gives.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/ops_suite/cases.hpp"
#include "kernels/ops_suite/lab.hpp"
#include "kernels/ops_suite/plans.hpp"

namespace troupe::ops_suite {
namespace {

struct Query {
  int32_t past = 0;
  int32_t rows = 1;
};

struct Shape {
  int32_t heads = 4;
  int32_t kv_heads = 2;
  int32_t key_dim = 64;
  int32_t value_dim = 64;
  bool latent = false;
  int32_t block_tokens = 16;
  int32_t window = 0;
  float softcap = 0.0F;
  bool alibi = false;
  bool sinks = false;
  bool spans = false;
  bool norms = false;  // of queries' and keys' heads, before they are turned
};

constexpr int32_t kBlocks = 96;
constexpr int32_t kRowsMax = 1024;

class Scene {
 public:
  Scene(Lab& lab, const Shape& shape) : lab_(lab), shape_(shape) {
    KvCacheSpec spec;
    spec.layers = 2;
    spec.kv_heads = shape.kv_heads;
    spec.key_dim = shape.key_dim;
    spec.value_dim = shape.value_dim;
    spec.values_in_keys = shape.latent;
    spec.dtype = lab.activations() == DType::f32 && lab.toss() ? DType::f32 : lab.one_of({DType::f16, DType::bf16});
    if (lab.activations() != DType::f32) spec.dtype = lab.activations();
    spec.block_tokens = shape.block_tokens;
    spec.blocks = kBlocks;
    cache_ = lab.cache(spec);
    free_.resize(kBlocks);
    std::iota(free_.begin(), free_.end(), 0);
    for (size_t i = free_.size() - 1; i > 0; --i) {
      std::swap(free_[i], free_[static_cast<size_t>(lab.between(0, static_cast<int64_t>(i)))]);
    }
    lab.reserve(64, kRowsMax * 2, 8, 100);
    poison();
  }

  [[nodiscard]] CacheTwin& cache() { return cache_; }
  std::vector<int32_t> take_blocks(int32_t tokens) {
    const auto n = static_cast<size_t>((tokens + shape_.block_tokens - 1) / shape_.block_tokens);
    std::vector<int32_t> blocks(free_.end() - static_cast<int64_t>(n), free_.end());
    free_.resize(free_.size() - n);
    return blocks;
  }
  // Random keys and values of all rows of a batch.
  void write(const BatchTwin& batch) {
    const int64_t rows = batch.test.rows;
    const Twin k = lab_.activations(rows, int64_t{shape_.kv_heads} * shape_.key_dim);
    const Twin v = shape_.latent ? Twin{} : lab_.activations(rows, int64_t{shape_.kv_heads} * shape_.value_dim);
    write(batch, k, v);
  }
  void attend(const BatchTwin& batch, AttentionSpan span, const std::string& what) {
    attend(batch, span, what, lab_.activations(batch.test.rows, int64_t{shape_.heads} * shape_.key_dim));
  }
  void attend(const BatchTwin& batch, AttentionSpan span, const std::string& what, const Twin& q) {
    const int64_t rows = batch.test.rows;
    const Twin out = lab_.poisoned(rows, int64_t{shape_.heads} * shape_.value_dim);
    const Twin slopes = shape_.alibi ? lab_.f32_vector(shape_.heads, 0.0F, 0.5F) : Twin{};
    const Twin sinks = shape_.sinks ? lab_.f32_vector(shape_.heads, -2.0F, 4.0F) : Twin{};
    AttentionArgs a;
    a.layer = 1;
    a.span = span;
    a.heads = shape_.heads;
    a.window = shape_.window;
    a.scale = 1.0F / std::sqrt(static_cast<float>(shape_.key_dim));
    a.softcap = shape_.softcap;
    AttentionArgs b = a;
    a.query = q.test;
    a.cache = cache_.test.get();
    a.alibi_slopes = slopes.test;
    a.sinks = sinks.test;
    a.output = out.test;
    b.query = q.plain;
    b.cache = cache_.plain.get();
    b.alibi_slopes = slopes.plain;
    b.sinks = sinks.plain;
    b.output = out.plain;
    lab_.test.attention(batch.test, a);
    lab_.plain().attention(batch.plain, b);
    lab_.compare(out, what, std::max(2e-5, Lab::tolerance_of(out.test.dtype)));
  }
  void write(const BatchTwin& batch, const Twin& k, const Twin& v) {
    RopeWriteArgs a;
    a.heads = shape_.heads;
    a.head_dim = shape_.key_dim;
    a.layer = 1;
    RopeWriteArgs b = a;
    a.key = k.test;
    a.value = v.test;
    a.cache = cache_.test.get();
    b.key = k.plain;
    b.value = v.plain;
    b.cache = cache_.plain.get();
    lab_.test.rope_write(batch.test, a);
    lab_.plain().rope_write(batch.plain, b);
  }
  void norm_heads(const Twin& rows) {
    const Twin weight = lab_.activations(1, shape_.key_dim);
    NormArgs a;
    a.eps = 1e-6F;
    a.group = shape_.key_dim;
    NormArgs b = a;
    a.input = a.output = rows.test;
    a.weight = weight.test;
    b.input = b.output = rows.plain;
    b.weight = weight.plain;
    lab_.test.norm(a);
    lab_.plain().norm(b);
  }
  // As a model's layer does it: the rows of one projection turned, written and attended to.
  void step(const BatchTwin& batch, const RopeSpec& test, const RopeSpec& plain, const std::string& what) {
    const int64_t q = int64_t{shape_.heads} * shape_.key_dim, kv = int64_t{shape_.kv_heads} * shape_.key_dim;
    const Twin all = lab_.activations(batch.test.rows, q + 2 * kv);
    const auto part = [&](int64_t begin, int64_t count) {
      return Twin{all.test.columns(begin, count), all.plain.columns(begin, count)};
    };
    const Twin query = part(0, q), key = part(q, kv), value = part(q + kv, kv);
    if (shape_.norms) norm_heads(query);
    if (shape_.norms) norm_heads(key);
    lab_.test.rope_write(batch.test, {query.test, key.test, value.test, shape_.heads, shape_.key_dim, 0, &test,
                                      cache_.test.get(), 1, 0});
    lab_.plain().rope_write(batch.plain, {query.plain, key.plain, value.plain, shape_.heads, shape_.key_dim, 0,
                                          &plain, cache_.plain.get(), 1, 0});
    attend(batch, AttentionSpan::causal, what, query);
  }

 private:
  void poison() {
    const int32_t tokens = kBlocks * shape_.block_tokens;
    StepPlanDraft draft;
    draft.groups = 1;
    std::vector<int32_t> all(kBlocks);
    std::iota(all.begin(), all.end(), 0);
    add_sequence(draft, {.slot = 0, .rows = tokens});
    add_table(draft, all);
    lab_.reserve(64, std::max(tokens, kRowsMax * 2), 8, 100);
    const BatchTwin batch = lab_.begin(draft, {&cache_});
    const Twin k = lab_.poisoned(tokens, int64_t{shape_.kv_heads} * shape_.key_dim);
    const Twin v = shape_.latent ? Twin{} : lab_.poisoned(tokens, int64_t{shape_.kv_heads} * shape_.value_dim);
    write(batch, k, v);
    lab_.finish(batch);
  }

  Lab& lab_;
  Shape shape_;
  CacheTwin cache_;
  std::vector<int32_t> free_;
};

// Each row's bidirectional span: here and there a few neighbours see one another.
void add_spans(Lab& lab, StepPlanDraft& draft) {
  draft.span_ends.assign(draft.positions.size(), 0);
  for (const PlanSequence& s : draft.sequences) {
    if (s.row_count < 6) continue;
    const auto from = static_cast<int32_t>(lab.between(0, s.row_count - 4));
    const auto to = static_cast<int32_t>(lab.between(from + 2, s.row_count));
    for (int32_t i = from; i < to; ++i) {
      draft.span_ends[static_cast<size_t>(s.row_begin + i)] = s.kv_len - s.row_count + to;
    }
  }
}

void check_attention(Lab& lab, const Shape& shape, const std::vector<Query>& queries) {
  Scene scene(lab, shape);
  StepPlanDraft past;
  StepPlanDraft now;
  past.groups = now.groups = 1;
  int32_t slot = 0;
  std::string what;
  for (const Query& q : queries) {
    what += (what.empty() ? "" : ", ") + std::to_string(q.past) + "+" + std::to_string(q.rows);
    auto blocks = scene.take_blocks(q.past + q.rows);
    if (q.past > 0) {
      add_sequence(past, {.slot = slot, .rows = q.past});
      add_table(past, blocks);
    }
    add_sequence(now, {.slot = slot++, .rows = q.rows, .past = q.past});
    // A window's early blocks have been given back.
    const int32_t gone = shape.window > 0 ? std::max(0, q.past + 1 - shape.window) / shape.block_tokens : 0;
    blocks.erase(blocks.begin(), blocks.begin() + gone);
    add_table(now, blocks, gone * shape.block_tokens);
  }
  if (shape.spans) add_spans(lab, now);
  if (!past.sequences.empty()) {
    const BatchTwin batch = lab.begin(past, {&scene.cache()});
    scene.write(batch);
    lab.finish(batch);
  }
  const BatchTwin batch = lab.begin(now, {&scene.cache()});
  scene.write(batch);
  scene.attend(batch, AttentionSpan::causal, what + " of " + std::to_string(shape.heads) + "/" + std::to_string(shape.kv_heads) + " heads of " + std::to_string(shape.key_dim));
  lab.finish(batch);
}

// Heads of common models: grouped, one for all, each its own; dimensions round and not.
Shape random_shape(Lab& lab) {
  Shape s;
  s.kv_heads = static_cast<int32_t>(lab.between(1, 4));
  s.heads = s.kv_heads * lab.one_of({1, 1, 2, 3, 4, 7});
  s.key_dim = s.value_dim = lab.one_of({16, 64, 64, 80, 96, 128});
  s.block_tokens = lab.one_of({16, 16, 16, 32});
  return s;
}

int32_t some(Lab& lab, int64_t low, int64_t high) { return static_cast<int32_t>(lab.between(low, high)); }

}  // namespace

void attention_prefill_case(Lab& lab) {
  check_attention(lab, random_shape(lab), {{0, 1}});
  check_attention(lab, random_shape(lab), {{0, some(lab, 2, 200)}});
  check_attention(lab, random_shape(lab), {{some(lab, 1, 100), some(lab, 2, 100)}, {0, 17}});
}

void attention_mixed_case(Lab& lab) {
  check_attention(lab, random_shape(lab), {{some(lab, 1, 200), 1}});
  check_attention(lab, random_shape(lab), {{15, 1}, {16, 1}, {some(lab, 0, 60), 40}, {some(lab, 1, 300), 1}, {0, 1}});
  std::vector<Query> decodes;
  for (int i = 0; i < 20; ++i) decodes.push_back({some(lab, 0, 40), 1});
  check_attention(lab, random_shape(lab), decodes);
}

// Sequences of one row, step after step: each step sees what the ones before wrote. Some backends
// turn such rows within attention.
void attention_decode_case(Lab& lab) {
  for (const int32_t dim : {64, 128, lab.one_of({16, 80, 96})}) {
    Shape shape = random_shape(lab);
    shape.key_dim = shape.value_dim = dim;
    shape.block_tokens = lab.one_of({16, 32, 64});
    shape.window = lab.toss() ? 0 : some(lab, 1, 100);
    shape.norms = lab.toss();
    Scene scene(lab, shape);
    std::vector<float> frequencies;
    for (int32_t i = 0; i < dim / 2; ++i)
      frequencies.push_back(std::pow(10000.0F, -2.0F * static_cast<float>(i) / static_cast<float>(dim)));
    const Twin table = lab.values(DType::f32, frequencies, 1, dim / 2);
    RopeSpec test;
    test.style = lab.one_of({RopeStyle::half, RopeStyle::half, RopeStyle::interleaved});
    test.rotary_dim = dim;
    RopeSpec plain = test;
    test.frequencies = table.test;
    plain.frequencies = table.plain;
    std::vector<int32_t> past = {0, 63, 64, some(lab, 1, 30), some(lab, 130, 420)};
    std::vector<std::vector<int32_t>> blocks;
    constexpr int32_t kSteps = 3;
    for (const int32_t tokens : past) blocks.push_back(scene.take_blocks(tokens + kSteps));
    for (int32_t at = -1; at < kSteps; ++at) {
      StepPlanDraft draft;
      draft.groups = 1;
      for (size_t i = 0; i < past.size(); ++i) {
        if (at < 0 && past[i] == 0) continue;
        add_sequence(draft, {.slot = static_cast<int32_t>(i), .rows = at < 0 ? past[i] : 1, .past = at < 0 ? 0 : past[i] + at});
        add_table(draft, blocks[i]);
      }
      const BatchTwin batch = lab.begin(draft, {&scene.cache()});
      scene.step(batch, test, plain, "step " + std::to_string(at) + ", heads of " + std::to_string(dim));
      lab.finish(batch);
    }
  }
}

void attention_window_case(Lab& lab) {
  for (int32_t window : {1, 16, some(lab, 2, 60)}) {
    Shape s = random_shape(lab);
    s.window = window;
    check_attention(lab, s, {{some(lab, 0, 150), 1}, {some(lab, 0, 90), some(lab, 2, 50)}, {0, 70}});
  }
}

void attention_extras_case(Lab& lab) {
  for (int i = 0; i < 4; ++i) {
    Shape s = random_shape(lab);
    s.softcap = i == 0 || lab.toss() ? 5.0F : 0.0F;
    s.alibi = i == 1 || lab.toss();
    s.sinks = i == 2 || lab.toss();
    check_attention(lab, s, {{some(lab, 0, 100), 1}, {some(lab, 0, 40), some(lab, 1, 60)}});
  }
}

void attention_spans_case(Lab& lab) {
  Shape s = random_shape(lab);
  s.spans = true;
  check_attention(lab, s, {{some(lab, 0, 40), 30}, {5, 1}, {0, some(lab, 6, 80)}});
}

void attention_latent_case(Lab& lab) {
  Shape s;
  s.latent = true;
  s.kv_heads = 1;
  s.heads = lab.one_of({4, 16, 60});
  s.value_dim = lab.one_of({32, 128, 512});
  s.key_dim = s.value_dim + lab.one_of({16, 64});
  check_attention(lab, s, {{some(lab, 1, 100), 1}});
  check_attention(lab, s, {{some(lab, 1, 40), 1}, {some(lab, 0, 20), some(lab, 2, 40)}});
  // DeepSeek's, decoding: lengths around the ends of what backends take at once.
  s.value_dim = 512;
  s.key_dim = 576;
  check_attention(lab, s, {{0, 1}, {31, 1}, {32, 1}, {some(lab, 33, 600), 1}});
}

namespace {

void cross_case(Lab& lab, bool spans) {
  Shape s = random_shape(lab);
  Scene scene(lab, s);
  StepPlanDraft draft;
  draft.groups = 1;
  const std::vector<int32_t> cross = {some(lab, 1, 60), 0, 33};
  for (size_t i = 0; i < cross.size(); ++i) {
    add_sequence(draft, {.slot = static_cast<int32_t>(i), .rows = some(lab, 1, 9), .past = 4, .cross_len = cross[i]});
    add_table(draft, scene.take_blocks(std::max(cross[i], 1)));
    for (int32_t row = 0; spans && row < draft.sequences.back().row_count; ++row) {
      const int32_t begin = some(lab, 0, cross[i]);
      draft.cross_spans.insert(draft.cross_spans.end(), {begin, some(lab, begin, cross[i])});
    }
  }
  const BatchTwin batch = lab.begin(draft, {&scene.cache()});
  for (size_t i = 0; i < cross.size(); ++i) {
    const Twin k = lab.activations(cross[i], int64_t{s.kv_heads} * s.key_dim);
    const Twin v = lab.activations(cross[i], int64_t{s.kv_heads} * s.value_dim);
    const auto sequence = static_cast<int32_t>(i);
    lab.test.cross_write(batch.test, {sequence, k.test, v.test, scene.cache().test.get(), 1, 0});
    lab.plain().cross_write(batch.plain, {sequence, k.plain, v.plain, scene.cache().plain.get(), 1, 0});
  }
  scene.attend(batch, AttentionSpan::cross, spans ? "cross, rows seeing some" : "cross");
  lab.finish(batch);
}

}  // namespace

void attention_cross_case(Lab& lab) {
  cross_case(lab, false);
  cross_case(lab, true);
}

// A copied block serves another sequence, which then writes its own next token.
void block_copies_case(Lab& lab) {
  const Shape s = random_shape(lab);
  Scene scene(lab, s);
  const int32_t past = s.block_tokens + some(lab, 1, s.block_tokens - 2);
  const auto first = scene.take_blocks(2 * s.block_tokens);
  const auto copy = scene.take_blocks(s.block_tokens);
  StepPlanDraft before;
  before.groups = 1;
  add_sequence(before, {.slot = 0, .rows = past});
  add_table(before, first);
  const BatchTwin filled = lab.begin(before, {&scene.cache()});
  scene.write(filled);
  lab.finish(filled);
  StepPlanDraft now;
  now.groups = 1;
  add_sequence(now, {.slot = 0, .rows = 1, .past = past});
  add_table(now, first);
  add_sequence(now, {.slot = 1, .rows = 1, .past = past});
  add_table(now, {first[0], copy[0]});
  now.copies.push_back({.group = 0, .from = first[1], .to = copy[0]});
  const BatchTwin batch = lab.begin(now, {&scene.cache()});
  scene.write(batch);
  scene.attend(batch, AttentionSpan::causal, "after a block was copied");
  lab.finish(batch);
}

void packed_attention_case(Lab& lab) {
  for (int32_t dim : {16, 64, 72, 80}) {
    const int32_t kv_heads = some(lab, 1, 3);
    const int32_t heads = kv_heads * some(lab, 1, 2);
    std::vector<int32_t> ends;
    for (int32_t length : {some(lab, 1, 90), 1, 0, some(lab, 2, 140)}) {
      ends.push_back((ends.empty() ? 0 : ends.back()) + length);
    }
    const int64_t rows = ends.back();
    const Twin q = lab.activations(rows, int64_t{heads} * dim);
    const Twin k = lab.activations(rows, int64_t{kv_heads} * dim);
    const Twin v = lab.activations(rows, int64_t{kv_heads} * dim);
    const Twin out = lab.poisoned(rows, int64_t{heads} * dim);
    lab.test.packed_attention({q.test, k.test, v.test, ends, heads, kv_heads, 0.12F, out.test, {}});
    lab.plain().packed_attention({q.plain, k.plain, v.plain, ends, heads, kv_heads, 0.12F, out.plain, {}});
    lab.compare(out, "packed, dim " + std::to_string(dim), std::max(2e-5, Lab::tolerance_of(out.test.dtype)));
  }
}

// Queries that look at other rows than their own: resamplers, padded tiles.
void packed_attention_keys_case(Lab& lab) {
  for (int32_t dim : {16, 64, 96}) {
    const int32_t heads = some(lab, 1, 4);
    std::vector<int32_t> ends, key_ends;
    for (int item = 0; item < 3; ++item) {
      ends.push_back((ends.empty() ? 0 : ends.back()) + some(lab, 0, 40));
      key_ends.push_back((key_ends.empty() ? 0 : key_ends.back()) + some(lab, 1, 120));
    }
    const Twin q = lab.activations(ends.back(), int64_t{heads} * dim);
    const Twin k = lab.activations(key_ends.back(), int64_t{heads} * dim);
    const Twin v = lab.activations(key_ends.back(), int64_t{heads} * dim);
    const Twin out = lab.poisoned(ends.back(), int64_t{heads} * dim);
    const auto run = [&](Backend& backend, auto side) {
      backend.packed_attention({q.*side, k.*side, v.*side, ends, heads, heads, 0.12F, out.*side, key_ends});
    };
    run(lab.test, &Twin::test);
    run(lab.plain(), &Twin::plain);
    lab.compare(out, "keys of their own, dim " + std::to_string(dim), std::max(2e-5, Lab::tolerance_of(out.test.dtype)));
  }
}

}  // namespace troupe::ops_suite
