// A Llama-shaped forward pass made of the ops alone (random f16 weights, greedy sampling): what the
// kernels make possible, without models or engine. bench/peers/llama_cpp.py has the same shape.
//
//   cpu_llama_shape [--threads N] [--cpu] [--serve | --account]
//     --cpu      in CPU seconds of the process, where others use the machine too
//     --serve    does what each line of stdin names (prefill, decode, batched), and answers with
//                {"tokens": n, "seconds": s}: one side of llama_cpp.py compare
//     --account  prefill only, with the share of each op
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
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

double now(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

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

  // Where the time of a prefill goes: prints a share per op, and the rate of all its linear layers.
  void account(clockid_t clock) {
    std::map<std::string, double> spent;
    accounts_ = &spent;
    clock_ = clock;
    constexpr int32_t kRuns = 3;
    const double start = now(clock);
    for (int32_t i = 0; i < kRuns; ++i) step(0, 1, kRowsMax, 0);
    const double all = now(clock) - start;
    accounts_ = nullptr;
    double weights = 0.0;
    for (const Layer& l : layers_) {
      for (const LinearWeight* w : {&l.qkv, &l.out, &l.gate_up, &l.down}) weights += static_cast<double>(w->in * w->out);
    }
    std::printf("{\"prefill_tokens_per_s\": %.2f, \"linear_gflops\": %.1f, \"shares\": {", kRuns * kRowsMax / all,
                2e-9 * weights * kRowsMax * kRuns / spent["linear"]);
    double rest = 1.0;
    for (const auto& [name, seconds] : spent) {
      std::printf("\"%s\": %.4f, ", name.c_str(), seconds / all);
      rest -= seconds / all;
    }
    std::printf("\"rest\": %.4f}}\n", rest);
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

  // Does the op, and adds its time to its name's when an account is wanted.
  template <class Op>
  void op(const char* name, const Op& body) {
    if (accounts_ == nullptr) return body();
    const double start = now(clock_);
    body();
    (*accounts_)[name] += now(clock_) - start;
  }

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
      op("norm", [&] { backend_.norm({NormKind::rms, x, residual, norm, {}, 0.0F, 1e-5F, 0, x}); });
      op("linear", [&] { backend_.linear(batch, {x, &layer.qkv, RowSelect::all, qkv}); });
      op("rope and cache", [&] {
        backend_.rope_write(batch, {query, key, value, kHeads, kDim, 0, &rope_, cache_.get(), i, 0});
      });
      AttentionArgs a;
      a.query = query;
      a.cache = cache_.get();
      a.layer = i;
      a.heads = kHeads;
      a.scale = 0.125F;
      a.output = attended;
      op("attention", [&] { backend_.attention(batch, a); });
      op("linear", [&] { backend_.linear(batch, {attended, &layer.out, RowSelect::all, x}); });
      op("norm", [&] { backend_.norm({NormKind::rms, x, residual, norm, {}, 0.0F, 1e-5F, 0, x}); });
      op("linear", [&] { backend_.linear(batch, {x, &layer.gate_up, RowSelect::all, gate_up}); });
      op("activation", [&] { backend_.gated_activation({Activation::silu, gate_up, inner}); });
      op("linear", [&] { backend_.linear(batch, {inner, &layer.down, RowSelect::all, x}); });
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
  std::map<std::string, double>* accounts_ = nullptr;
  clockid_t clock_ = CLOCK_MONOTONIC;
};

constexpr int32_t kDecodeSteps = 24;  // as in llama_cpp.py
constexpr int32_t kBatchedPast = 64;
constexpr int32_t kBatchedSteps = 8;

// The work by its name; the tokens done, 0 for no such work.
int32_t work(Shape& shape, const std::string& name) {
  if (name == "prefill") {
    shape.step(0, 1, kRowsMax, 0);
    return kRowsMax;
  }
  if (name == "decode") {
    for (int32_t i = 0; i < kDecodeSteps; ++i) shape.step(0, 1, 1, kRowsMax + i);
    return kDecodeSteps;
  }
  if (name == "batched") {
    for (int32_t i = 0; i < kBatchedSteps; ++i) shape.step(0, kSequences, 1, kBatchedPast + i);
    return kSequences * kBatchedSteps;
  }
  return 0;
}

int serve(Shape& shape, clockid_t clock) {
  std::string name;
  while (std::getline(std::cin, name)) {
    const double start = now(clock);
    const int32_t tokens = work(shape, name);
    if (tokens == 0) {
      std::fprintf(stderr, "no work is named '%s': prefill, decode, batched\n", name.c_str());
      return 2;
    }
    std::printf("{\"tokens\": %d, \"seconds\": %.6f}\n", tokens, now(clock) - start);
    std::fflush(stdout);
  }
  return 0;
}

int run(int32_t threads, clockid_t clock, bool serves, bool accounts) {
  auto backend = cpu::open_cpu_backend({.threads = threads});
  if (!backend.ok()) {
    std::fprintf(stderr, "%s\n", backend.status().message().c_str());
    return 1;
  }
  Shape shape(**backend);
  for (int32_t s = 0; s < kSequences; ++s) shape.step(s, 1, kBatchedPast, 0);
  shape.step(0, 1, kRowsMax, 0);  // warm
  if (serves) return serve(shape, clock);
  if (accounts) {
    shape.account(clock);
    return 0;
  }
  std::printf("{\"engine\": \"troupe kernels\", \"threads\": %d", threads);
  for (const char* name : {"prefill", "decode", "batched"}) {
    const double start = now(clock);
    const int32_t tokens = work(shape, name);
    std::printf(", \"%s_tokens_per_s\": %.2f", name, tokens / (now(clock) - start));
  }
  std::printf("}\n");
  return 0;
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  int32_t threads = 2;
  clockid_t clock = CLOCK_MONOTONIC;
  bool serves = false;
  bool accounts = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--cpu") clock = CLOCK_PROCESS_CPUTIME_ID;
    else if (flag == "--serve") serves = true;
    else if (flag == "--account") accounts = true;
    else if (flag == "--threads" && i + 1 < argc) threads = std::atoi(argv[++i]);
    else {
      std::fprintf(stderr, "usage: cpu_llama_shape [--threads N] [--cpu] [--serve | --account]\n");
      return 2;
    }
  }
  return troupe::bench::run(threads, clock, serves, accounts);
}
