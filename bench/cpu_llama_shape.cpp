// A Llama-shaped forward pass made of the ops alone (random f16 weights, greedy sampling): what the
// kernels make possible, without models or engine. Prints the JSON that bench/peers/llama_cpp.py
// compares with, for the same shape.
//
//   cpu_llama_shape [threads [cpu]]     cpu: in CPU seconds, where others use the machine too
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cpu/half.hpp"

namespace troupe::bench {
namespace {

constexpr int64_t kVocab = 32000;
constexpr int64_t kHidden = 1280;
constexpr int64_t kInner = 3456;
constexpr int32_t kLayers = 22;
constexpr int32_t kHeads = 20;
constexpr int32_t kKvHeads = 4;
constexpr int32_t kDim = 64;
constexpr int32_t kRowsMax = 512;
constexpr int32_t kSequences = 16;
constexpr int32_t kBlocksEach = 64;  // of 16 tokens, per sequence

class Shape {
 public:
  explicit Shape(Backend& backend) : backend_(backend) {
    embedding_ = weight({kVocab}, kHidden);
    head_ = weight({kVocab}, kHidden);
    for (int32_t i = 0; i < kLayers; ++i) {
      Layer layer;
      layer.qkv = weight({kHeads * kDim, kKvHeads * kDim, kKvHeads * kDim}, kHidden);
      layer.out = weight({kHidden}, kHeads * kDim);
      layer.gate_up = weight({kInner, kInner}, kHidden);
      layer.down = weight({kHidden}, kInner);
      layers_.push_back(layer);
    }
    ones_.assign(kHidden, 1.0F);
    for (int32_t i = 0; i < kDim / 2; ++i) frequencies_.push_back(1.0F / static_cast<float>(1 + i * i));
    rope_.rotary_dim = kDim;
    rope_.frequencies = {frequencies_.data(), DType::f32, 1, kDim / 2, kDim / 2};
    for (auto* m : {&x_, &residual_, &attended_}) m->resize(kRowsMax * std::max<int64_t>(kHidden, kHeads * kDim));
    qkv_.resize(kRowsMax * (kHeads + 2 * kKvHeads) * kDim);
    inner_.resize(kRowsMax * 3 * kInner);
    logits_.resize(kSequences * kVocab);
    auto cache = backend.create_cache({kLayers, kKvHeads, kDim, kDim, false, DType::f16, 16, kSequences * kBlocksEach});
    TR_ASSERT(cache.ok());
    cache_ = std::move(*cache);
    TR_ASSERT(backend.reserve_steps(kSequences, kRowsMax, kSequences, kVocab).ok());
  }

  // One step: `sequences` from `first` on, each with `rows` rows at `past`.
  void step(int32_t first, int32_t sequences, int32_t rows, int32_t past) {
    draft_.clear();
    draft_.groups = 1;
    for (int32_t s = first; s < first + sequences; ++s) {
      draft_.sequences.push_back({s, static_cast<int32_t>(draft_.token_ids.size()), rows, past + rows, 0, 0});
      draft_.tables.push_back({static_cast<int32_t>(draft_.blocks.size()), kBlocksEach, 0});
      for (int32_t b = 0; b < kBlocksEach; ++b) draft_.blocks.push_back(s * kBlocksEach + b);
      for (int32_t r = 0; r < rows; ++r) {
        draft_.token_ids.push_back(3 + r * 7 % 30000);
        draft_.positions.push_back(past + r);
      }
      const auto index = static_cast<int32_t>(draft_.sequences.size()) - 1;
      draft_.logit_rows.push_back({static_cast<int32_t>(draft_.token_ids.size()) - 1, index, index, -1, -1});
      draft_.sampling.push_back({});
      draft_.sampling.back().slot = s;
    }
    draft_.seal(plan_);
    auto view = PlanView::parse(plan_);
    TR_ASSERT(view.ok());
    KvCache* caches[] = {cache_.get()};
    auto batch = backend_.begin_step(*view, caches);
    TR_ASSERT(batch.ok());
    forward(*batch);
    TR_ASSERT(backend_.finish_step(*batch).ok());
  }

 private:
  struct Layer {
    LinearWeight qkv, out, gate_up, down;
  };
  LinearWeight weight(const std::vector<int64_t>& outs, int64_t in) {
    LinearWeight w;
    w.in = in;
    for (int64_t out : outs) {
      auto& values = memory_.emplace_back(static_cast<size_t>(out * in));
      for (uint16_t& v : values) {
        state_ = state_ * 1664525U + 1013904223U;
        v = static_cast<uint16_t>(0x2400U | (state_ >> 16 & 0x83FFU));  // small, either sign
      }
      w.parts.emplace_back().values = {values.data(), DType::f16, out, in, in};
      w.out += out;
    }
    return w;
  }
  static Matrix view(std::vector<float>& m, int64_t rows, int64_t cols) { return {m.data(), DType::f32, rows, cols, cols}; }

  void forward(const Batch& batch) {
    const int64_t rows = batch.rows;
    const Matrix x = view(x_, rows, kHidden);
    const Matrix residual = view(residual_, rows, kHidden);
    const Matrix norm{ones_.data(), DType::f32, 1, kHidden, kHidden};
    const Matrix qkv = view(qkv_, rows, (kHeads + 2 * kKvHeads) * kDim);
    const Matrix query = qkv.columns(0, kHeads * kDim);
    const Matrix key = qkv.columns(kHeads * kDim, kKvHeads * kDim);
    const Matrix value = qkv.columns((kHeads + kKvHeads) * kDim, kKvHeads * kDim);
    const Matrix attended = view(attended_, rows, kHeads * kDim);
    const Matrix gate_up = view(inner_, rows, 2 * kInner);
    const Matrix inner{inner_.data() + kRowsMax * 2 * kInner, DType::f32, rows, kInner, kInner};
    backend_.embed(batch, {embedding_.parts[0].values, 0, 1.0F, x});
    backend_.add({x, {}, 0.0F, residual});
    for (int32_t i = 0; i < kLayers; ++i) {
      const Layer& layer = layers_[static_cast<size_t>(i)];
      backend_.norm({NormKind::rms, x, residual, norm, {}, 0.0F, 1e-5F, 0, x});
      backend_.linear(batch, {x, &layer.qkv, RowSelect::all, qkv});
      backend_.rope_write(batch, {query, key, value, kHeads, kDim, 0, &rope_, cache_.get(), i, 0});
      AttentionArgs a;
      a.query = query;
      a.cache = cache_.get();
      a.layer = i;
      a.heads = kHeads;
      a.scale = 0.125F;
      a.output = attended;
      backend_.attention(batch, a);
      backend_.linear(batch, {attended, &layer.out, RowSelect::all, x});
      backend_.norm({NormKind::rms, x, residual, norm, {}, 0.0F, 1e-5F, 0, x});
      backend_.linear(batch, {x, &layer.gate_up, RowSelect::all, gate_up});
      backend_.gated_activation({Activation::silu, gate_up, inner});
      backend_.linear(batch, {inner, &layer.down, RowSelect::all, x});
    }
    backend_.norm({NormKind::rms, x, residual, norm, {}, 0.0F, 1e-5F, 0, x});
    const auto wanted = static_cast<int64_t>(batch.plan.logit_rows().size());
    const Matrix last = view(attended_, wanted, kHidden);
    const Matrix logits = view(logits_, wanted, kVocab);
    backend_.gather(batch, {x, last});
    backend_.linear(batch, {last, &head_, RowSelect::all, logits});
    backend_.sample(batch, {logits, 1.0F, 0.0F, {}});
  }

  Backend& backend_;
  std::vector<std::vector<uint16_t>> memory_;
  uint32_t state_ = 1;
  LinearWeight embedding_, head_;
  std::vector<Layer> layers_;
  std::vector<float> ones_, frequencies_, x_, residual_, attended_, qkv_, inner_, logits_;
  RopeSpec rope_;
  std::unique_ptr<KvCache> cache_;
  StepPlanDraft draft_;
  std::vector<std::byte> plan_;
};

double now(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

int run(int32_t threads, clockid_t clock) {
  const auto seconds = [clock](const auto& body) {
    const double start = now(clock);
    body();
    return now(clock) - start;
  };
  auto backend = cpu::open_cpu_backend({.threads = threads});
  if (!backend.ok()) {
    std::fprintf(stderr, "%s\n", backend.status().message().c_str());
    return 1;
  }
  constexpr int32_t kSteps = 64;
  Shape shape(**backend);
  shape.step(0, 1, kRowsMax, 0);  // warm
  const double prefill = seconds([&] { shape.step(0, 1, kRowsMax, 0); });
  const double decode = seconds([&] {
    for (int32_t i = 0; i < kSteps; ++i) shape.step(0, 1, 1, kRowsMax + i);
  });
  for (int32_t s = 0; s < kSequences; ++s) shape.step(s, 1, 128, 0);
  const double batched = seconds([&] {
    for (int32_t i = 0; i < kSteps / 4; ++i) shape.step(0, kSequences, 1, 128 + i);
  });
  std::printf("{\"engine\": \"troupe kernels\", \"threads\": %d, \"prefill_tokens_per_s\": %.2f, "
              "\"decode_tokens_per_s\": %.2f, \"batched_decode_tokens_per_s\": %.2f}\n",
              threads, kRowsMax / prefill, kSteps / decode, kSequences * (kSteps / 4) / batched);
  return 0;
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  return troupe::bench::run(argc > 1 ? std::atoi(argv[1]) : 2,
                            argc > 2 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC);
}
