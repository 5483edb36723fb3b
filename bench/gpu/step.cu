// A whole decode step of a dense model with random weights, as the executor runs it: one flat plan
// uploaded in one copy, forward pass and sampling as two graphs, sampled ids fed back on the
// device, the host reading one step late. Needs no model folder: step [--json FILE] [--only BATCH];
// --only: the 8B shape at this batch.
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "bench/gpu/large_gemm.hpp"
#include "bench/gpu/measure.cuh"
#include "bench/gpu/step_model.cuh"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/sampling.hpp"
#include "kernels/cuda/skinny_gemm.hpp"

namespace troupe::bench {
namespace {

using namespace troupe::cuda;

constexpr int kBlock = 64;  // tokens of a cache block, as on a GPU by default

// The plan's sections at fixed places, so that a captured graph finds them in every step.
struct PlanLayout {
  size_t tokens, slots, positions, prompts, cache_rows, logit_rows, draws, work, work_count, blocks,
      bytes;
};

struct Options {
  const char* name = "";
  bool graphs = true, cublas = false;
  int share = 0, variant = -1, parts = -1;
  bool own_down = false;  // down by skinny_gemm likewise
  bool sampled = false;  // top-k, top-p and a seed in place of greedy
  bool attention = true, rope = true, norms = true,
       products = true;  // left out to see what they cost
};

class Decoder {
 public:
  Decoder(const Model& model, int batch, int input, int output, const Options& options);
  ~Decoder() { cudaStreamDestroy(stream_); }
  void run(Report& report);

 private:
  void tune();
  int share_of(int kv_len) const;
  void plan(int step, char* host);
  void forward();
  void sample();
  void product(const Memory& weight, const void* in, void* out, int n, int k, bool gated = false,
               bool f32 = false);
  template <class T>
  T* on_device(size_t offset) {
    return reinterpret_cast<T*>(plan_.as<char>() + offset);
  }

  const Model& model_;
  Shape s_;
  int batch_, input_, output_, sms_ = 0, blocks_per_sequence_;
  Options options_;
  PlanLayout at_ = {};
  cudaStream_t stream_ = nullptr;
  Memory keys_, values_, plan_, slot_tokens_, drawn_, target_, tails_, tail_counts_, hidden_, delta_,
      normed_, qkv_, attended_, wide_, wider_, logits_, attention_partials_, attention_counters_,
      partials_, counters_, greedy_;
  LargeGemm large_;
};

size_t cache_elements(const Shape& s, int batch, int tokens) {
  return static_cast<size_t>(s.layers) * static_cast<size_t>(batch) * static_cast<size_t>(tokens) *
         static_cast<size_t>(s.kv_heads * s.dim);
}
constexpr size_t kShares = 64;

Decoder::Decoder(const Model& model, int batch, int input, int output, const Options& options)
    : model_(model),
      s_(model.shape),
      batch_(batch),
      input_(input),
      output_(output),
      blocks_per_sequence_((input + output) / kBlock + 1),
      options_(options),
      keys_(Memory::random(cache_elements(s_, batch, blocks_per_sequence_ * kBlock), 1.0F, 4)),
      values_(Memory::random(cache_elements(s_, batch, blocks_per_sequence_ * kBlock), 1.0F, 5)),
      plan_(Memory::zeros(size_t{8} << 20)),
      slot_tokens_(Memory::zeros(elements(batch, 4))),
      drawn_(Memory::zeros(elements(batch, sizeof(Drawn)))),
      target_(Memory::copy(std::vector<DrawTarget>{{drawn_.as<Drawn>(), nullptr}})),
      tails_(Memory::zeros(elements(batch, kTail * 4))),
      tail_counts_(Memory::zeros(elements(batch, 4))),
      hidden_(Memory::random(elements(batch, s_.hidden), 1.0F, 6)),
      delta_(Memory::random(elements(batch, s_.hidden), 1.0F, 7)),
      normed_(Memory::random(elements(batch, s_.hidden), 1.0F, 8)),
      qkv_(Memory::random(elements(batch, (s_.heads + 2 * s_.kv_heads) * s_.dim), 1.0F, 9)),
      attended_(Memory::random(elements(batch, s_.heads * s_.dim), 1.0F, 10)),
      wide_(Memory::random(elements(batch, s_.inner), 1.0F, 11)),
      wider_(Memory::random(elements(batch, 2 * s_.inner), 1.0F, 12)),
      logits_(Memory::zeros(elements(batch, s_.vocab) * 4)),
      attention_partials_(Memory::zeros(elements(batch, s_.kv_heads) * kShares *
                                        decode_partials_floats(s_.dim) * 4)),
      attention_counters_(Memory::zeros((elements(batch, s_.kv_heads) + 2) * 4)),
      partials_(Memory::zeros(skinny_gemm_partials_bytes(64))),
      counters_(Memory::zeros(skinny_gemm_counters(s_.vocab) * 4)),
      greedy_(Memory::zeros(elements(batch, sizeof(GreedyRow)))) {
  cudaDeviceProp device = {};
  BENCH_CUDA(cudaGetDeviceProperties(&device, 0));
  sms_ = device.multiProcessorCount;
  BENCH_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  const auto n = static_cast<size_t>(batch);
  size_t end = 0;
  const auto section = [&](size_t bytes) {
    const size_t begin = end;
    end = (end + bytes + 15) / 16 * 16;
    return begin;
  };
  at_.tokens = section(n * 4);
  at_.slots = section(n * 4);
  at_.positions = section(n * 4);
  at_.prompts = section(n * 4);
  at_.cache_rows = section(n * 4);
  at_.logit_rows = section(n * sizeof(LogitRow));
  at_.draws = section(n * sizeof(DrawRule));
  at_.work_count = section(4);
  at_.work = section(n * kShares * sizeof(DecodeWork));
  at_.blocks = section(n * static_cast<size_t>(blocks_per_sequence_) * 4);
  at_.bytes = end;
  BENCH_CUDA(cudaDeviceSynchronize());
  if (options_.products && batch_ > 32) tune();
}

// As the backend does when a model is loaded (kernels/cuda/tuning.cpp).
void Decoder::tune() {
  const int q = s_.heads * s_.dim, qkv = q + 2 * s_.kv_heads * s_.dim;
  std::vector<const void*> of[4];
  for (const Layer& l : model_.layers) {
    of[0].push_back(l.qkv.as());
    of[1].push_back(l.o.as());
    of[2].push_back(l.gate_up.as());
    of[3].push_back(l.down.as());
  }
  large_.tune(batch_, qkv, s_.hidden, normed_.as(), of[0], qkv_.as(), stream_);
  large_.tune(batch_, s_.hidden, q, attended_.as(), of[1], delta_.as(), stream_);
  large_.tune(batch_, 2 * s_.inner, s_.hidden, normed_.as(), of[2], wider_.as(), stream_);
  large_.tune(batch_, s_.hidden, s_.inner, wide_.as(), of[3], delta_.as(), stream_);
  large_.tune(batch_, s_.vocab, s_.hidden, normed_.as(), {model_.head.as()}, logits_.as(), stream_,
              true);
}

// As the backend cuts the cache (kernels/cuda/step_plan.cpp).
int Decoder::share_of(int kv_len) const {
  if (options_.share > 0) return options_.share;
  const int even = (batch_ * kv_len * s_.kv_heads / (sms_ * 2) + 63) / 64 * 64;
  return std::min(kDecodeShareMax, std::max(128, even));
}

void Decoder::plan(int step, char* host) {
  const auto array = [&](size_t offset) { return reinterpret_cast<int32_t*>(host + offset); };
  auto* work = reinterpret_cast<DecodeWork*>(host + at_.work);
  const int position = input_ + step, kv_len = position + 1, share = share_of(kv_len),
            shares = (kv_len + share - 1) / share;
  int count = 0;
  for (int i = 0; i < batch_; ++i) {
    array(at_.tokens)[i] = -1;
    array(at_.slots)[i] = i;
    array(at_.positions)[i] = position;
    array(at_.prompts)[i] = input_;
    reinterpret_cast<LogitRow*>(host + at_.logit_rows)[i] = {i, i, i, -1, -1};
    DrawRule& draw = reinterpret_cast<DrawRule*>(host + at_.draws)[i];
    draw = {};
    draw.slot = i;
    draw.top_p = draw.repetition_penalty = 1.0F;
    draw.mask_row = -1;
    if (options_.sampled) {
      draw.temperature = 0.8F;
      draw.top_k = 50;
      draw.top_p = 0.95F;
      draw.seed = static_cast<uint64_t>(i);
      draw.position = position;
    }
    const int begin = i * blocks_per_sequence_;
    for (int b = 0; b < blocks_per_sequence_; ++b) array(at_.blocks)[begin + b] = begin + b;
    array(at_.cache_rows)[i] = (begin + position / kBlock) * kBlock + position % kBlock;
    const AttentionSequence sequence = {i, 1, kv_len, begin, 0, 1};
    const int partial = count;
    for (int k = 0; k < shares; ++k)
      work[count++] = {sequence, k * share, std::min(kv_len, (k + 1) * share), k, shares,
                       partial,  i};
  }
  *array(at_.work_count) = count;
}

void Decoder::product(const Memory& weight, const void* in, void* out, int n, int k, bool gated,
                      bool f32) {
  if (!options_.products) return;
  // As the backend chooses (kernels/cuda/cuda_ops.cpp).
  const bool wide = n >= 65536;
  const bool few =
      batch_ <= 32 ||
      (batch_ <= kSkinnyRowsMax && (options_.variant >= 0 || wide || (options_.own_down && k > n)));
  if (options_.cublas || !few) {
    large_.multiply(batch_, n, k, in, weight.as(), gated ? wider_.as() : out, stream_, f32);
    if (!gated) return;
    const Matrix from = {wider_.as(), DType::bf16, batch_, n, n},
                 to = {out, DType::bf16, batch_, n / 2, n / 2};
    check(activation(Curve::silu, true, from, to, stream_), "activation");
    return;
  }
  SkinnyGemm g;
  g.m = batch_;
  g.n = n;
  g.k = k;
  g.weight = weight.as();
  g.input = in;
  g.input_stride = k;
  g.output = out;
  g.output_stride = gated ? n / 2 : n;
  g.output_f32 = f32;
  g.gated_silu = gated;
  g.variant = options_.variant;
  g.parts = options_.parts;
  g.partials = partials_.as<float>();
  g.counters = counters_.as<uint32_t>();
  check(skinny_gemm(g, sms_, stream_), "skinny_gemm");
}

void Decoder::forward() {
  const auto rows = [&](const Memory& m, int cols) {
    return Matrix{m.as(), DType::bf16, batch_, cols, cols};
  };
  const int q = s_.heads * s_.dim, kv = s_.kv_heads * s_.dim;
  Embed e;
  e.table = {model_.embedding.as(), DType::bf16, s_.vocab, s_.hidden, s_.hidden};
  e.output = rows(hidden_, s_.hidden);
  e.tokens = on_device<int32_t>(at_.tokens);
  e.slots = on_device<int32_t>(at_.slots);
  e.slot_tokens = slot_tokens_.as<int32_t>();
  check(embed(e, stream_), "embed");
  const auto normalise = [&](const Memory& weight, bool first) {
    Norm n;
    n.input = first ? rows(hidden_, s_.hidden) : rows(delta_, s_.hidden);
    if (!first) n.residual = rows(hidden_, s_.hidden);
    n.weight = {weight.as(), DType::bf16, 1, s_.hidden, s_.hidden};
    n.output = rows(normed_, s_.hidden);
    if (options_.norms) check(norm(n, stream_), "norm");
  };
  const size_t layer_elements = static_cast<size_t>(batch_) *
                                static_cast<size_t>(blocks_per_sequence_ * kBlock) *
                                static_cast<size_t>(kv);
  for (size_t l = 0; l < model_.layers.size(); ++l) {
    const Layer& w = model_.layers[l];
    normalise(w.norm1, l == 0);
    product(w.qkv, normed_.as(), qkv_.as(), q + 2 * kv, s_.hidden);
    PagedLayer cache = {keys_.as<__nv_bfloat16>() + l * layer_elements,
                        values_.as<__nv_bfloat16>() + l * layer_elements,
                        int64_t{kv} * kBlock,
                        int64_t{s_.dim} * kBlock,
                        s_.dim,
                        batch_ * blocks_per_sequence_,
                        kBlock,
                        s_.kv_heads};
    const Matrix qkv = rows(qkv_, q + 2 * kv);
    RopeWrite r;
    r.rope.rotary_dim = s_.dim;
    r.rope.frequencies = model_.frequencies.as<float>();
    r.query = qkv.columns(0, q);
    r.key = qkv.columns(q, kv);
    r.value = qkv.columns(q + kv, kv);
    r.heads = s_.heads;
    r.kv_heads = s_.kv_heads;
    r.head_dim = r.key_dim = r.value_dim = s_.dim;
    r.positions = on_device<int32_t>(at_.positions);
    r.prompt_lengths = on_device<int32_t>(at_.prompts);
    r.cache_rows = on_device<int32_t>(at_.cache_rows);
    r.cache = {const_cast<void*>(cache.keys),
               const_cast<void*>(cache.values),
               DType::bf16,
               s_.kv_heads,
               s_.dim,
               s_.dim,
               kBlock,
               cache.blocks,
               s_.dim};
    if (options_.rope) check(rope_write(r, stream_), "rope_write");
    DecodeAttention a;
    a.shape.heads = s_.heads;
    a.shape.head_dim = s_.dim;
    a.shape.scale = 1.0F / std::sqrt(static_cast<float>(s_.dim));
    a.layer = cache;
    a.query = qkv_.as();
    a.query_stride = q + 2 * kv;
    a.output = attended_.as();
    a.output_stride = q;
    a.work = on_device<DecodeWork>(at_.work);
    a.work_count = on_device<int32_t>(at_.work_count);
    a.blocks = on_device<int32_t>(at_.blocks);
    a.partials = attention_partials_.as<float>();
    a.counters = attention_counters_.as<uint32_t>();
    if (options_.attention) check(decode_attention(a, sms_, stream_), "decode_attention");
    product(w.o, attended_.as(), delta_.as(), s_.hidden, q);
    normalise(w.norm2, false);
    product(w.gate_up, normed_.as(), wide_.as(), 2 * s_.inner, s_.hidden, true);
    product(w.down, wide_.as(), delta_.as(), s_.hidden, s_.inner);
  }
  normalise(model_.final_norm, false);
  product(model_.head, normed_.as(), logits_.as(), s_.vocab, s_.hidden, false, true);
}

void Decoder::sample() {
  Sampling a;
  a.logits = {logits_.as(), DType::f32, batch_, s_.vocab, s_.vocab};
  a.rows = on_device<LogitRow>(at_.logit_rows);
  a.draws = on_device<DrawRule>(at_.draws);
  a.rules = batch_;
  a.slots = SlotMemory{slot_tokens_.as<int32_t>(), tails_.as<int32_t>(), tail_counts_.as<int32_t>(),
                       nullptr, s_.vocab};
  a.target = target_.as<DrawTarget>();
  a.greedy = greedy_.as<GreedyRow>();
  check(options_.sampled ? cuda::sample(a, stream_) : sample_greedy(a, sms_, stream_), "sample");
}

template <class Body>
cudaGraphExec_t captured(cudaStream_t stream, const Body& body) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  BENCH_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  body();
  BENCH_CUDA(cudaStreamEndCapture(stream, &graph));
  BENCH_CUDA(cudaGraphInstantiate(&exec, graph, 0));
  return exec;
}

void Decoder::run(Report& report) {
  char* host[2];
  Drawn* results[2];
  cudaEvent_t done[2];
  for (int i = 0; i < 2; ++i) {
    BENCH_CUDA(cudaMallocHost(&host[i], at_.bytes));
    BENCH_CUDA(cudaMallocHost(&results[i], static_cast<size_t>(batch_) * sizeof(Drawn)));
    BENCH_CUDA(cudaEventCreateWithFlags(&done[i], cudaEventDisableTiming));
  }
  plan(0, host[0]);
  BENCH_CUDA(cudaMemcpyAsync(plan_.as(), host[0], at_.bytes, cudaMemcpyHostToDevice, stream_));
  forward();
  sample();
  BENCH_CUDA(cudaStreamSynchronize(stream_));
  cudaGraphExec_t graph_forward = nullptr, graph_sample = nullptr;
  if (options_.graphs) {
    graph_forward = captured(stream_, [&] { forward(); });
    graph_sample = captured(stream_, [&] { sample(); });
  }
  using Clock = std::chrono::steady_clock;
  std::vector<double> runs;
  double host_us = 0;
  for (int repeat = 0; repeat < 4; ++repeat) {
    BENCH_CUDA(cudaStreamSynchronize(stream_));
    const auto begin = Clock::now();
    double busy = 0;
    for (int step = 0; step < output_; ++step) {
      const auto enter = Clock::now();
      const int ring = step & 1;
      plan(step, host[ring]);
      BENCH_CUDA(
          cudaMemcpyAsync(plan_.as(), host[ring], at_.bytes, cudaMemcpyHostToDevice, stream_));
      if (options_.graphs) {
        BENCH_CUDA(cudaGraphLaunch(graph_forward, stream_));
        BENCH_CUDA(cudaGraphLaunch(graph_sample, stream_));
      } else {
        forward();
        sample();
      }
      BENCH_CUDA(cudaMemcpyAsync(results[ring], drawn_.as(),
                                 static_cast<size_t>(batch_) * sizeof(Drawn),
                                 cudaMemcpyDeviceToHost, stream_));
      BENCH_CUDA(cudaEventRecord(done[ring], stream_));
      busy += std::chrono::duration<double, std::micro>(Clock::now() - enter).count();
      if (step > 0) BENCH_CUDA(cudaEventSynchronize(done[ring ^ 1]));
    }
    BENCH_CUDA(cudaStreamSynchronize(stream_));
    if (repeat > 0)
      runs.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count() /
                     output_);
    host_us = busy / output_;
  }
  std::sort(runs.begin(), runs.end());
  const double us = runs[runs.size() / 2];
  // The graph of the forward pass alone, back to back: what the step costs the GPU.
  double gpu_us = 0;
  if (options_.graphs) {
    cudaEvent_t a, b;
    cudaEventCreate(&a);
    cudaEventCreate(&b);
    cudaEventRecord(a, stream_);
    for (int i = 0; i < 10; ++i) BENCH_CUDA(cudaGraphLaunch(graph_forward, stream_));
    cudaEventRecord(b, stream_);
    BENCH_CUDA(cudaEventSynchronize(b));
    float ms = 0;
    cudaEventElapsedTime(&ms, a, b);
    gpu_us = ms * 100.0;
  }
  std::printf(
      "%s batch %3d %-28s: %8.1f us/step  %9.1f tok/s  host %.1f us/step  forward graph %.1f us  "
      "(last token %d)\n",
      s_.name, batch_, options_.name, us, 1e6 * batch_ / us, host_us, gpu_us, results[0][0].token);
  double weights = static_cast<double>(model_.head.bytes());
  for (const Layer& l : model_.layers)
    weights +=
        static_cast<double>(l.qkv.bytes() + l.o.bytes() + l.gate_up.bytes() + l.down.bytes());
  report.add({std::string(s_.name) + " decode step, batch " + std::to_string(batch_) + ", " +
                  options_.name,
              us,
              weights + 4.0 * batch_ * (input_ + output_ / 2) * s_.kv_heads * s_.dim * s_.layers,
              true, 4.43e12});
  if (graph_forward != nullptr) {
    cudaGraphExecDestroy(graph_forward);
    cudaGraphExecDestroy(graph_sample);
  }
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  using namespace troupe::bench;
  Report report;
  const char* json = nullptr;
  int only = 0;
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) json = argv[i + 1];
    if (std::strcmp(argv[i], "--only") == 0) only = std::atoi(argv[i + 1]);
  }
  const auto run = [&](const Model& m, int batch, const char* name, auto change) {
    Options o;
    o.name = name;
    change(o);
    if (only > 0 && (batch != only || std::strcmp(m.shape.name, "8B") != 0)) return;
    const bool whole = std::strcmp(name, "default") == 0;
    Decoder(m, batch, whole ? 128 : 224, whole ? 256 : 64, o).run(report);
  };
  {
    const Model eight(kEight);
    for (const int batch : {1, 8}) {
      run(eight, batch, "default", [](Options&) {});
      if (batch == 8) continue;
      run(eight, batch, "products only",
          [](Options& o) { o.attention = o.rope = o.norms = false; });
      run(eight, batch, "no products", [](Options& o) { o.products = false; });
      run(eight, batch, "attention in shares of 512", [](Options& o) { o.share = 512; });
      run(eight, batch, "cuBLASLt", [](Options& o) { o.cublas = true; });
      run(eight, batch, "no graph", [](Options& o) { o.graphs = false; });
    }
    for (const int batch : {16, 32, 64, 256}) run(eight, batch, "default", [](Options&) {});
    run(eight, 64, "top-k, top-p, seed", [](Options& o) { o.sampled = true; });
    for (const int v : {0, 1})
      run(eight, 64, ("skinny v" + std::to_string(v)).c_str(), [=](Options& o) { o.variant = v; });
    run(eight, 64, "down by skinny_gemm", [](Options& o) { o.own_down = true; });
    run(eight, 64, "default, from 224", [](Options&) {});
    run(eight, 64, "cuBLASLt", [](Options& o) { o.cublas = true; });
    run(eight, 64, "no products", [](Options& o) { o.products = false; });
  }
  if (only > 0) return 0;
  const Model one(kOne);
  for (const int batch : {1, 64}) {
    run(one, batch, "default", [](Options&) {});
    run(one, batch, "cuBLASLt", [](Options& o) { o.cublas = true; });
  }
  run(one, 1, "no graph", [](Options& o) { o.graphs = false; });
  report.write(json);
  return 0;
}
